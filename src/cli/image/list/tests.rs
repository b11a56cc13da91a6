use super::*;

fn image(id: &str, tags: &[&str], digests: &[&str]) -> ImageView {
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    ImageView {
        id: format!("sha256:{}", id.repeat(64)),
        repo_tags: strings(tags),
        repo_digests: strings(digests),
        size: 4_562_000,
        pinned: id == "c",
        user: "0".to_owned(),
    }
}

fn three() -> Vec<ImageView> {
    vec![
        image("e", &[], &["docker.io/library/alpine@sha256:aa11"]),
        image("f", &[], &[]),
        image(
            "c",
            &[
                "docker.io/library/busybox:1",
                "localhost:5000/tools/busybox:latest",
            ],
            &["docker.io/library/busybox@sha256:0123456789abcdef"],
        ),
    ]
}

fn ids(filters: &[&str]) -> String {
    let filters: Vec<_> = filters.iter().map(|text| (*text).to_owned()).collect();
    let found = select(three(), &filters);
    found.iter().map(|image| image.id[7..8].to_owned()).collect()
}

#[test]
fn a_row_for_each_tag_by_name() {
    assert_eq!(
        table(&select(three(), &[]), false),
        "IMAGE                          TAG      IMAGE ID           SIZE   PINNED\n\
         docker.io/library/alpine       <none>   eeeeeeeeeeeee   4.4 MiB   no\n\
         docker.io/library/busybox      1        ccccccccccccc   4.4 MiB   yes\n\
         localhost:5000/tools/busybox   latest   ccccccccccccc   4.4 MiB   yes\n\
         <none>                         <none>   fffffffffffff   4.4 MiB   no\n"
    );
}

#[test]
fn a_digest_belongs_to_its_repository() {
    let text = with_digests(&three()[2..], false);
    let rows: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[1][2], "0123456789abc");
    assert_eq!(rows[2][2], "<none>");
    assert!(with_digests(&three(), true).contains("sha256:0123456789abcdef"));
}

#[test]
fn filters_are_names_as_docker_means_them() {
    for (filters, found) in [
        (&["busybox"][..], "c"),
        (&["busybox:1"], "c"),
        (&["busybox:2"], ""),
        (&["docker.io/library/busybox"], "c"),
        (&["localhost:5000/tools/busybox:latest"], "c"),
        (&["docker.io/*"], "ec"),
        (&["*/busybox"], "c"),
        (&["*busybox:l*"], "c"),
        (&["alpine", "busybox"], "ec"),
        (&["nothing"], ""),
        (&[], "ecf"),
    ] {
        assert_eq!(ids(filters), found, "{filters:?}");
    }
}

#[test]
fn filters_may_be_ids_and_their_beginnings() {
    assert_eq!(ids(&["eeee"]), "e");
    assert_eq!(ids(&[&format!("sha256:{}", "f".repeat(64))]), "f");
    assert_eq!(ids(&["dddd"]), "");
}
