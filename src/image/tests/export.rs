//! Exports can be imported again, here and by other tools.

use crate::error::Kinded;
use std::process::Command;

use super::builder::{OCI, digest, image, tar};
use super::registry::have;
use super::*;

async fn exported(images: &Images, names: &[String]) -> (Vec<ExportedImage>, Vec<u8>) {
    let mut archive = Vec::new();
    let exported = images.export(names, &mut archive).await.unwrap();
    (exported, archive)
}

/// An archive in which an entry replaces another.
fn displacing() -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for content in ["first", "second"] {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, "file", content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
#[ignore = "needs root"]
async fn an_export_has_the_original_diff_ids_and_is_imported_as_the_same_image() {
    let Some(registry) = Registry::start() else { return };
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let images = open(from.path());
    let shared = tar(&[("d/", ""), ("d/shared", &"s".repeat(5000))]);
    let one = image(
        OCI,
        &[shared.clone(), tar(&[(".wh.gone", ""), ("one", "1")])],
        &json!({"User": "5"}),
    );
    let two = image(OCI, &[shared, tar(&[("d/.wh..wh..opq", "")])], &json!({}));
    let mut names = Vec::new();
    for (tag, built) in [("one", &one), ("two", &two)] {
        registry.push("app", tag, built);
        names.push(registry.name(&format!("app:{tag}")));
        images.pull(&names[names.len() - 1], None).await.unwrap();
    }
    let (done, archive) = exported(&images, &names).await;
    assert!(
        done.iter()
            .all(|image| image.exact && image.id == image.exported_id)
    );
    // The same images give the same bytes, and a shared layer is written once.
    assert!(exported(&images, &names).await.1 == archive);
    assert!(archive.len() < 40_000, "{}", archive.len());
    let target = open(to.path());
    let mut imported = target.import(archive.as_slice()).await.unwrap();
    imported.sort_by(|a, b| a.names.cmp(&b.names));
    assert_eq!(imported.len(), 2);
    for (image, (built, name)) in imported.iter().zip([(&one, &names[0]), (&two, &names[1])]) {
        assert_eq!((&image.id, &image.names[0]), (&built.id(), name));
        assert!(target.verify(name).await.unwrap().is_whole());
    }
    // Nothing is lost: exporting it again gives the same bytes.
    assert!(exported(&target, &names).await.1 == archive);
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_layer_that_cannot_be_rebuilt_is_packed_again_and_reported() {
    let Some(registry) = Registry::start() else { return };
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let images = open(from.path());
    let built = image(
        OCI,
        &[displacing(), tar(&[("other", "x")])],
        &json!({"Env": ["A=b"]}),
    );
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    let report = images.verify(&name).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.layers[0].method, VerifyMethod::Tree);
    let (done, archive) = exported(&images, std::slice::from_ref(&name)).await;
    assert!(!done[0].exact && done[0].exported_id != built.id());
    let target = open(to.path());
    let imported = target.import(archive.as_slice()).await.unwrap();
    assert_eq!(imported[0].id, done[0].exported_id);
    let lease = target.lease(&name).unwrap();
    assert_eq!(std::fs::read(lease.layers()[0].join("file")).unwrap(), b"second");
    assert_eq!(
        lease.config().config().as_ref().unwrap().env().as_ref().unwrap()[0],
        "A=b"
    );
    // A change of the tree is found as well.
    let path = images.lease(&name).unwrap().layers()[0].join("file");
    std::fs::write(path, "thirds").unwrap();
    assert!(!images.verify(&name).await.unwrap().is_whole());
}

#[tokio::test]
#[ignore = "needs root"]
async fn damaged_layers_and_broken_pipes_end_an_export_with_an_error() {
    struct Full;
    impl tokio::io::AsyncWrite for Full {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::task::Poll::Ready(Err(std::io::ErrorKind::StorageFull.into()))
        }
        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = builder::small("content");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    let error = images
        .export(std::slice::from_ref(&name), Full)
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::ArchiveWrite { .. }), "{error}");
    let path = images.lease(&name).unwrap().layers()[0].join("file");
    std::fs::write(path, "CONTENT").unwrap();
    let mut archive = Vec::new();
    let error = images.export(&[name], &mut archive).await.unwrap_err();
    assert!(
        crate::error::chain(&error).contains("damaged"),
        "{}",
        crate::error::chain(&error)
    );
    let missing = images.export(&["nowhere".to_owned()], &mut archive).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

/// skopeo reads an export, and its copies are imported as the same image.
#[tokio::test]
#[ignore = "needs root"]
async fn skopeo_reads_exports_and_its_copies_can_be_imported() {
    let Some(registry) = Registry::start() else { return };
    if !have(&["skopeo"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = image(
        OCI,
        &[tar(&[("a", "1")]), tar(&[(".wh.a", ""), ("b", "2")])],
        &json!({"User": "7"}),
    );
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    let (_, archive) = exported(&images, std::slice::from_ref(&name)).await;
    let ours = dir.path().join("ours.tar");
    std::fs::write(&ours, archive).unwrap();
    let source = [
        format!("oci-archive:{}:{name}", ours.display()),
        format!("docker-archive:{}", ours.display()),
    ];
    for (at, source) in source.iter().enumerate() {
        for format in ["oci-archive", "docker-archive"] {
            let theirs = dir.path().join(format!("{at}-{format}.tar"));
            let target = format!("{format}:{}:example.test/theirs:{at}", theirs.display());
            let done = Command::new("skopeo")
                .args(["--insecure-policy", "--tmpdir"])
                .arg(dir.path())
                .args(["copy", source, &target])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{source} to {target}: {said}");
            let other = tempfile::tempdir().unwrap();
            let target = open(other.path());
            let imported = target
                .import(std::fs::read(&theirs).unwrap().as_slice())
                .await
                .unwrap();
            assert_eq!(imported.len(), 1, "{said}");
            assert!(target.verify(&imported[0].id).await.unwrap().is_whole());
            let lease = target.lease(&imported[0].id).unwrap();
            assert_eq!(lease.layers().len(), 2);
            let own = images.lease(&name).unwrap();
            assert_eq!(
                lease.config().rootfs().diff_ids(),
                own.config().rootfs().diff_ids()
            );
        }
    }
    assert!(registry.count(&digest(&built.config)) > 0);
}
