use super::*;
use proptest::prelude::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parsed(text: &str) -> String {
    text.parse::<Reference>()
        .map_or_else(|e| panic!("{text}: {e}"), |r| r.to_string())
}

#[test]
fn names_are_normalised_as_docker_does() {
    for (given, canonical) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("10.0.0.1/a/b/c", "10.0.0.1/a/b/c:latest"),
        (
            "registry.k8s.io/e2e-test-images/nonewprivs:1.3",
            "registry.k8s.io/e2e-test-images/nonewprivs:1.3",
        ),
        (
            "quay.io/a__b/c.d-e---f_g:T_1.x-y",
            "quay.io/a__b/c.d-e---f_g:T_1.x-y",
        ),
    ] {
        assert_eq!(parsed(given), canonical);
    }
}

#[test]
fn the_digest_wins_and_the_tag_is_remembered() {
    let reference: Reference = format!("busybox:1@sha256:{HEX}").parse().unwrap();
    assert_eq!(reference.tag(), Some("1"));
    assert_eq!(reference.selector(), format!("sha256:{HEX}"));
    let bare: Reference = format!("busybox@sha256:{HEX}").parse().unwrap();
    assert_eq!(bare.tag(), None);
    assert_eq!(
        bare.to_string(),
        format!("docker.io/library/busybox@sha256:{HEX}")
    );
}

#[test]
fn what_is_no_reference_says_why() {
    let long = format!("quay.io/{}", "a".repeat(248));
    let long_tag = format!("a:{}", "t".repeat(129));
    for (given, reason) in [
        ("", Rule::Empty),
        (":tag", Rule::Empty),
        ("Busybox", Rule::UpperCase),
        ("quay.io/Foo/bar", Rule::UpperCase),
        ("a//b", Rule::Repository),
        ("a/", Rule::Repository),
        ("quay.io/", Rule::Repository),
        ("a___b", Rule::Repository),
        ("a._b", Rule::Repository),
        ("a b", Rule::Repository),
        ("a/../b", Rule::Repository),
        ("a?b=c", Rule::Repository),
        ("ä", Rule::Repository),
        ("-a.io/b", Rule::Host),
        ("a..io/b", Rule::Host),
        ("a.io:99999/b", Rule::Host),
        ("a.io:+80/b", Rule::Host),
        ("a.io:/b", Rule::Host),
        ("user@a.io/b", Rule::Digest),
        ("[::g]:1/b", Rule::Host),
        ("a:", Rule::Tag),
        ("a:.b", Rule::Tag),
        ("a@sha256:00", Rule::Digest),
        (HEX, Rule::ImageId),
        (&long, Rule::TooLong),
        (&long_tag, Rule::Tag),
    ] {
        let error = given.parse::<Reference>().unwrap_err();
        assert_eq!(error.rule, reason, "{given}");
    }
    assert!(
        format!("quay.io/{}", "a".repeat(247))
            .parse::<Reference>()
            .is_ok()
    );
}

#[test]
fn ids_are_no_names_and_short_names_are_known() {
    let hex = "0".repeat(64);
    for text in [hex.clone(), format!("sha256:{hex}")] {
        let error = text.parse::<Reference>().unwrap_err();
        assert!(error.to_string().contains("image id"), "{text}: {error}");
    }
    for (text, short) in [
        ("busybox", true),
        ("team/app:1", true),
        ("localhost/app", false),
        ("r.example/app", false),
        ("host:5000/app", false),
    ] {
        assert_eq!(Reference::is_short(text), short, "{text}");
    }
    for (text, parts) in [
        ("a:1@sha256:x", ("a", ":1@sha256:x")),
        ("host:5000/a", ("host:5000/a", "")),
        ("host:5000/a:1", ("host:5000/a", ":1")),
        ("", ("", "")),
    ] {
        assert_eq!(Reference::split_name(text), parts, "{text}");
    }
}

proptest! {
    #[test]
    fn the_canonical_form_parses_to_itself(text in "([a-zA-Z0-9.:/@_\\[\\]-]|\\PC){0,80}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let again: Reference = reference.to_string().parse().unwrap();
            prop_assert_eq!(&again, &reference);
            prop_assert!(reference.tag().is_some() || reference.digest().is_some());
        }
    }

    #[test]
    fn well_formed_references_keep_their_parts(
        host in "[a-z][a-z0-9]{0,8}\\.(io|example)(:[1-9][0-9]{0,3})?",
        repository in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}(-{1,3}|\\.|__?)[a-z0-9]{1,8}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        let reference: Reference = format!("{host}/{repository}:{tag}").parse().unwrap();
        prop_assert_eq!(reference.host(), host);
        prop_assert_eq!(reference.repository(), repository);
        prop_assert_eq!(reference.tag(), Some(tag.as_str()));
    }

    /// What is sent in a URL path cannot climb out of it or begin a query.
    #[test]
    fn a_repository_never_changes_the_shape_of_a_url(text in "[a-z0-9./_?#%\\\\ -]{1,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let url = url::Url::parse(&format!("https://r/v2/{}/manifests/x", reference.repository())).unwrap();
            prop_assert_eq!(url.path(), format!("/v2/{}/manifests/x", reference.repository()));
        }
    }
}
