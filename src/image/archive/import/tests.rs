//! Archives from skopeo and from these tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::image::Images;
use crate::image::tests::builder::{self, Built, DOCKER, OCI, digest, gzip, image, small, tar};
use crate::image::tests::registry::{Registry, have};
use crate::image::tests::{assert_empty, open};

async fn import(images: &Images, bytes: &[u8]) -> Result<Vec<ImportedImage>, ImageError> {
    images.import(bytes).await
}

fn file_of(images: &Images, name: &str, file: &str) -> String {
    let lease = images.lease(name).unwrap();
    let top = lease.layers().pop().unwrap();
    std::fs::read_to_string(top.join(file)).unwrap()
}

#[tokio::test]
#[ignore = "needs root"]
async fn archives_that_skopeo_writes() {
    let Some(registry) = Registry::start() else { return };
    if !have(&["skopeo"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layers = [tar(&[("a", "1")]), tar(&[("b", "2")])];
    for (how, tag) in [(OCI, "oci"), (DOCKER, "docker")] {
        registry.push("team/app", tag, &image(how, &layers, &json!({"User": "app"})));
    }
    for (tag, transport, suffix) in [
        ("oci", "oci-archive", ":example.org/team/app:v1"),
        ("docker", "docker-archive", ":example.org/team/app:v1"),
        ("oci", "oci-archive", ""),
    ] {
        let path = dir.path().join(format!("{tag}{}.tar", suffix.len()));
        let done = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
            .arg(format!("docker://{}", registry.name(&format!("team/app:{tag}"))))
            .arg(format!("{transport}:{}{suffix}", path.display()))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let bytes = std::fs::read(&path).unwrap();
        for bytes in [
            bytes.clone(),
            gzip(&bytes),
            zstd::encode_all(bytes.as_slice(), 1).unwrap(),
        ] {
            check(&dir.path().join("store"), &bytes, !suffix.is_empty()).await;
        }
    }
}

async fn check(root: &Path, bytes: &[u8], named: bool) {
    let images = open(root);
    let imported = import(&images, bytes).await.unwrap();
    let names: &[String] = &["example.org/team/app:v1".to_owned()];
    assert_eq!(imported[0].names, if named { names } else { &[] });
    assert_eq!(file_of(&images, &imported[0].id, "b"), "2");
    assert_eq!(images.list(None)[0].username, "app");
    images.remove(&imported[0].id).await.unwrap();
    assert_empty(root);
}

/// A tar of files with any names and contents.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = ::tar::Header::new_ustar();
        // The library refuses to write such names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(u64::try_from(content.len()).unwrap());
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn layout(images: &[(&Built, Option<&str>)]) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("../../escape.json".to_owned(), b"x".to_vec())];
    let mut index = Vec::new();
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    for (built, name) in images {
        let annotations = name.map_or(Value::Null, |name| json!({"io.containerd.image.name": name}));
        let mut descriptor =
            json!({"mediaType": OCI, "digest": digest(&built.manifest), "size": built.manifest.len()});
        if !annotations.is_null() {
            descriptor["annotations"] = annotations;
        }
        index.push(descriptor);
        blobs.extend(built.blobs().cloned().chain([built.manifest.clone()]));
    }
    blobs.sort();
    blobs.dedup();
    files.extend(
        blobs
            .into_iter()
            .map(|blob| (digest(&blob).replace("sha256:", "blobs/sha256/"), blob)),
    );
    let index = json!({"schemaVersion": 2, "manifests": index});
    files.push(("index.json".to_owned(), index.to_string().into_bytes()));
    files
}

#[tokio::test]
#[ignore = "needs root"]
async fn several_images_and_names_in_one_archive() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let (one, two) = (small("one"), small("two"));
    let files = layout(&[
        (&one, Some("example.org/a:1")),
        (&one, Some("example.org/a:2")),
        (&two, None),
    ]);
    let imported = import(&images, &archive(&files)).await.unwrap();
    let names = vec!["example.org/a:1".to_owned(), "example.org/a:2".to_owned()];
    assert_eq!(
        imported,
        [
            ImportedImage { id: one.id(), names },
            ImportedImage {
                id: two.id(),
                names: Vec::new()
            }
        ]
    );
    assert_eq!(file_of(&images, "example.org/a:2", "file"), "one");
    let by_digest = format!("example.org/a@{}", digest(&one.manifest));
    assert_eq!(
        images
            .list(Some(&crate::proto::v1::ImageSpec {
                image: by_digest,
                ..Default::default()
            }))
            .len(),
        1
    );
    assert!(!PathBuf::from("/escape.json").exists());
}

#[tokio::test]
#[ignore = "needs root"]
async fn docker_archives_may_have_links_and_wrong_ones_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = builder::image(OCI, &[tar(&[("file", "x")]), tar(&[("file", "x")])], &json!({}));
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let mut files = vec![
        ("one/layer.tar".to_owned(), tar(&[("file", "x")])),
        ("c.json".to_owned(), built.config.clone()),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ];
    let error = import(&images, &archive(&files)).await.unwrap_err();
    assert!(error.to_string().contains("two/layer.tar"), "{error}");
    let mut bytes = archive(&files);
    // Before the two blocks that mark the end.
    let mut link = ::tar::Header::new_ustar();
    link.set_entry_type(::tar::EntryType::Symlink);
    link.set_path("two/layer.tar").unwrap();
    link.set_link_name("../one/layer.tar").unwrap();
    link.set_size(0);
    link.set_cksum();
    let end = bytes.len() - 1024;
    bytes.splice(end..end, link.as_bytes().iter().copied());
    let imported = import(&images, &bytes).await.unwrap();
    assert_eq!(imported[0].names, ["docker.io/library/app:1"]);
    assert_eq!(file_of(&images, "app:1", "file"), "x");
    images.remove("app:1").await.unwrap();
    // A wrong layer, a wrong blob, an archive without images, and an incomplete one.
    files[0].1 = tar(&[("file", "y")]);
    files.push(("two/layer.tar".to_owned(), tar(&[("file", "x")])));
    assert!(matches!(
        import(&images, &archive(&files)).await,
        Err(ImageError::DiffId { .. })
    ));
    let mut layout = layout(&[(&built, None)]);
    layout[1].1.push(0);
    assert!(import(&images, &archive(&layout)).await.is_err());
    assert!(matches!(
        import(&images, &archive(&[])).await,
        Err(ImageError::Archive { .. })
    ));
    assert!(matches!(
        import(&images, &gzip(&bytes)[..200]).await,
        Err(ImageError::ArchiveRead { .. })
    ));
    assert_empty(dir.path());
}
