use super::*;

fn image(digests: &[&str]) -> ImageView {
    ImageView::from(v1::Image {
        id: "sha256:1".to_owned(),
        repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
        ..Default::default()
    })
}

#[test]
fn the_digest_is_that_of_the_name_pulled() {
    let image = image(&[
        "docker.io/library/busybox@sha256:old",
        "mirror.test/busybox@sha256:other",
        "docker.io/library/busybox@sha256:new",
    ]);
    assert_eq!(digest(&image, "busybox:1").as_deref(), Some("sha256:new"));
    assert_eq!(
        digest(&image, "mirror.test/busybox").as_deref(),
        Some("sha256:other")
    );
    assert_eq!(digest(&image, "elsewhere.test/busybox"), None);
}
