use super::*;

fn status(status: u16) -> Error {
    let url = url::Url::parse("https://r.example:5000/v2/a/manifests/b?signature=secret").unwrap();
    Error::Status {
        target: Target::new("GET", &url),
        status,
        excerpt: "no".into(),
        retry_after: None,
    }
}

#[test]
fn the_text_names_host_path_status_and_what_to_try() {
    let text = status(404).to_string();
    for part in [
        "r.example:5000",
        "/v2/a/manifests/b",
        "404",
        "\"no\"",
        "check the image's name",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn the_last_endpoint_decides_the_kind() {
    let error = Error::AllFailed {
        tried: vec![status(503), status(404)],
    };
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("; then "));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
}
