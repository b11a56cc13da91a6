use super::*;

fn urls(reference: &str) -> Vec<String> {
    let reference: Reference = reference.parse().unwrap();
    default_endpoints(&reference)
        .unwrap()
        .iter()
        .map(|e| e.url("manifests/x").to_string())
        .collect()
}

#[test]
fn without_configuration_the_registry_itself_is_asked() {
    assert_eq!(
        urls("busybox"),
        ["https://registry-1.docker.io/v2/library/busybox/manifests/x"]
    );
    assert_eq!(urls("r.example:443/a"), ["https://r.example/v2/a/manifests/x"]);
    for host in ["localhost:5000", "127.0.0.2:5000", "[::1]:5000"] {
        let found = urls(&format!("{host}/a"));
        assert_eq!(
            found,
            [
                format!("https://{host}/v2/a/manifests/x"),
                format!("http://{host}/v2/a/manifests/x")
            ]
        );
    }
    assert_eq!(urls("10.0.0.1:5000/a").len(), 1);
}

#[test]
fn a_mirror_is_told_whose_image_it_is() {
    let reference: Reference = "busybox".parse().unwrap();
    let endpoint = Endpoint::new(Url::parse("https://m.example/cache/v2").unwrap(), &reference);
    assert_eq!(
        endpoint.url("blobs/sha256:1").as_str(),
        "https://m.example/cache/v2/library/busybox/blobs/sha256:1?ns=docker.io"
    );
}
