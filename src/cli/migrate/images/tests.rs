use std::io::Write as _;
use std::os::unix::fs::symlink;

use base64::Engine as _;

use super::*;

/// The store of a containerd 1.6, with images for amd64 and arm64; a layer of one of them is missing.
fn containerd() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let packed = include_bytes!("../../../../tests/critest/migrate_cli/containerd_store.tar.gz").as_slice();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    tar.set_preserve_permissions(false);
    tar.unpack(dir.path()).unwrap();
    dir
}

#[test]
fn containerds_images_are_found_by_target() {
    let dir = containerd();
    let images = open_containerd(dir.path(), "k8s.io").unwrap().list().unwrap();
    let names: Vec<_> = images.iter().map(|image| image.names.clone()).collect();
    let digest = images[0].parts.as_ref().unwrap().top.digest.clone();
    assert_eq!(
        names,
        [
            vec![
                "docker.io/library/hello:latest".to_owned(),
                "registry.example/team/hello:v1".to_owned(),
                format!("registry.example/team/hello@{digest}"),
            ],
            vec!["registry.example/team/gone:v1".to_owned()],
        ]
    );
    assert_eq!(images[0].state, State::Found);
    assert_eq!(images[1].state, State::Skipped);
    let reason = images[1].reason.clone().unwrap();
    assert!(reason.contains("discard_unpacked_layers"), "{reason}");
    assert!(
        open_containerd(dir.path(), "other")
            .unwrap()
            .list()
            .unwrap()
            .is_empty()
    );
}

/// The archive that is sent, as the daemon reads it.
fn files_of(store: &Store, image: &Listed) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut bytes = Vec::new();
    archive(store, image.parts.as_ref().unwrap(), &image.names, &mut bytes).unwrap();
    let mut tar = tar::Archive::new(bytes.as_slice());
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    });
    entries.collect()
}

#[test]
fn every_blob_of_the_archive_hashes_to_its_name() {
    let dir = containerd();
    let store = open_containerd(dir.path(), "k8s.io").unwrap();
    let image = store.list().unwrap().swap_remove(0);
    let files = files_of(&store, &image);
    // An index, a manifest, a config and two layers.
    assert_eq!(files.len(), 6, "{:?}", files.keys());
    for (name, content) in &files {
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(Digest::sha256(content).hex(), hex);
        }
    }
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), image.names.len());
}

/// What a store contains is hostile: blobs that are links, or not what their names say.
#[test]
fn links_and_damage_skip_an_image() {
    for damage in ["link", "content", "fifo"] {
        let dir = containerd();
        let store = open_containerd(dir.path(), "k8s.io").unwrap();
        let image = store.list().unwrap().swap_remove(0);
        let (config, _) = image.parts.unwrap().config().unwrap().clone();
        let path = dir
            .path()
            .join("io.containerd.content.v1.content/blobs/sha256")
            .join(config.hex());
        std::fs::remove_file(&path).unwrap();
        match damage {
            "link" => symlink("/etc/hostname", &path).unwrap(),
            "content" => std::fs::write(&path, "{}").unwrap(),
            _ => rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                0o644.into(),
                0,
            )
            .unwrap(),
        }
        let image = store.list().unwrap().swap_remove(0);
        assert_eq!(image.state, State::Skipped, "{damage}: {:?}", image.reason);
    }
}

#[test]
fn a_damaged_database_is_an_error() {
    let dir = containerd();
    let path = dir.path().join("io.containerd.metadata.v1.bolt/meta.db");
    std::fs::write(&path, vec![0; 1 << 17]).unwrap();
    let error = open_containerd(dir.path(), "k8s.io").unwrap().list().unwrap_err();
    assert!(error.to_string().contains("stop containerd"), "{error}");
}

fn segment(bytes: &[u8]) -> String {
    let payload = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("{{\"type\":2,\"payload\":\"{payload}\",\"position\":0}}\n")
}

fn rebuilt(lines: &str, files: impl FnOnce(&Path)) -> std::io::Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let diff = dir.path().join("diff");
    std::fs::create_dir(&diff).unwrap();
    files(&diff);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(lines.as_bytes()).unwrap();
    std::fs::write(dir.path().join("split"), packed.finish().unwrap()).unwrap();
    let split = std::fs::File::open(dir.path().join("split")).unwrap();
    let mut bytes = Vec::new();
    tar_split::Reader::new(split, beneath::Dir::open(&diff).unwrap()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn archives_are_rebuilt_from_segments_and_files() {
    let raw = base64::engine::general_purpose::STANDARD.encode(b"dir/\xff");
    let lines = [
        segment(b"header "),
        "{\"type\":1,\"name\":\"./dir/a\",\"size\":3,\"payload\":\"AAAA\",\"position\":1}\n".to_owned(),
        "{\"type\":1,\"name\":\"gone-but-empty\",\"payload\":null,\"position\":2}\n".to_owned(),
        segment(b" padding "),
        format!("{{\"type\":1,\"name_raw\":\"{raw}\",\"size\":2,\"position\":3}}\n"),
        segment(b""),
    ];
    let bytes = rebuilt(&lines.concat(), |diff| {
        use std::os::unix::ffi::OsStrExt as _;
        std::fs::create_dir(diff.join("dir")).unwrap();
        std::fs::write(diff.join("dir/a"), "abc").unwrap();
        let name = std::ffi::OsStr::from_bytes(b"dir/\xff");
        std::fs::write(diff.join(name), "xy").unwrap();
    });
    assert_eq!(bytes.unwrap(), b"header abc padding xy");
}

#[test]
fn nothing_outside_of_a_layer_is_read() {
    for (name, what) in [
        ("../secret", "parent"),
        ("link", "link"),
        ("dir/x", "link to a directory"),
        ("absent", "absent"),
    ] {
        let line = format!("{{\"type\":1,\"name\":\"{name}\",\"size\":3,\"position\":1}}\n");
        let read = rebuilt(&line, |diff| {
            std::fs::write(diff.with_file_name("secret"), "abc").unwrap();
            symlink("../secret", diff.join("link")).unwrap();
            symlink("/etc", diff.join("dir")).unwrap();
        });
        assert!(read.is_err(), "{what}");
    }
    for lines in [
        "not JSON\n",
        "{\"type\":3}\n",
        "{\"type\":2,\"payload\":\"!\"}\n",
        "{\"type\":1,\"name\":\"\",\"size\":1}\n",
    ] {
        assert!(rebuilt(lines, |_| {}).is_err(), "{lines}");
    }
    let short = "{\"type\":1,\"name\":\"a\",\"size\":9}\n";
    assert!(rebuilt(short, |diff| std::fs::write(diff.join("a"), "abc").unwrap()).is_err());
}

#[test]
fn a_refusal_is_recognised_below_its_context() {
    let error = anyhow::Error::new(io::Error::other(Refused)).context("cannot read the layer");
    assert!(error.chain().any(is_refusal));
    assert!(
        !anyhow::Error::new(io::Error::other("disk"))
            .chain()
            .any(is_refusal)
    );
}
