//! `pausa image import`: images without a registry.

use std::process::{Command, Stdio};

use crate::harness::node::{Node, spec};
use crate::harness::registry::Registry;
use crate::harness::{on_own_node, recipe};

const NAME: &str = "example.test/imported:v1";

fn import(node: &Node, file: &std::path::Path) -> (bool, String) {
    let socket = format!("unix://{}", node.socket().display());
    let done = Command::new(env!("CARGO_BIN_EXE_pausa"))
        .args(["image", "import"])
        .arg(file)
        .args(["--listen", &socket])
        .stdin(Stdio::null())
        .output()
        .expect("pausa runs");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn archive(node: &Node, image: &str) -> std::path::PathBuf {
    let image = recipe::all()
        .into_iter()
        .find(|found| found.name == image)
        .expect("an image of the suite");
    let file = node.dir().join("image.tar");
    std::fs::write(&file, image.archive(NAME)).expect("an archive");
    file
}

/// OCI image layout (image-layout.md) in a tar: the image runs under the name the archive gives it.
#[test]
#[ignore = "needs root"]
fn an_imported_image_runs() {
    on_own_node(async |node| {
        let file = archive(node, "whiteouts");
        let (done, said) = import(node, &file);
        assert!(done, "{said}");
        let id = &Registry::get().image("whiteouts").id;
        assert_eq!(said, format!("{id} {NAME}\n"));
        assert_eq!(node.image(NAME).await.map(|image| image.id), Some(id.clone()));
        let pod = node.pod().await;
        assert_eq!(
            pod.sh_with("cat /replaced", |config| config.image = Some(spec(NAME)))
                .await,
            "second"
        );
    });
}

/// Importing again changes nothing.
#[test]
#[ignore = "needs root"]
fn importing_twice_is_importing_once() {
    on_own_node(async |node| {
        let file = archive(node, "base");
        assert_eq!(import(node, &file), import(node, &file));
        let before = node.image(NAME).await.expect("imported");
        assert_eq!(before.repo_tags, [NAME]);
    });
}

/// A damaged archive is refused as a whole, with a word about it.
#[test]
#[ignore = "needs root"]
fn a_damaged_archive_is_refused() {
    on_own_node(async |node| {
        let file = archive(node, "base");
        let whole = std::fs::read(&file).expect("an archive");
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xFF;
        for damaged in [&whole[..whole.len() / 2], &flipped, b"not a tar at all", b""] {
            std::fs::write(&file, damaged).expect("an archive");
            let (done, said) = import(node, &file);
            assert!(!done && !said.is_empty(), "{} bytes: {said}", damaged.len());
            assert_eq!(node.image(NAME).await, None);
        }
    });
}
