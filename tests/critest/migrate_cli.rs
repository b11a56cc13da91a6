//! `pausa migrate`: from containerd or CRI-O, with images.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::node::{Node, spec};
use crate::harness::pod::bind;
use crate::harness::registry::Registry;
use crate::harness::{on_own_node, recipe, strings, which};

const HELLO: &str = "registry.example/team/hello:v1";
const STORED: &str = "example.test/stored:v1";

fn pausa(args: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_pausa"))
        .arg("migrate")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("pausa runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        done.status.code().unwrap_or(-1),
        text(&done.stdout),
        text(&done.stderr),
    )
}

#[track_caller]
fn json(args: &[&str]) -> Value {
    let (code, out, err) = pausa(&[args, &["-o", "json"]].concat());
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// Names and states of the images in a report.
fn states(report: &Value) -> Vec<(String, String)> {
    let images = report["images"].as_array().expect("images");
    let rows = images.iter().flat_map(|image| {
        let state = image["state"].as_str().expect("a state").to_owned();
        let names = image["names"].as_array().expect("names").iter();
        names.map(move |name| (name.as_str().expect("a name").to_owned(), state.clone()))
    });
    rows.collect()
}

/// The store of a containerd 1.6 with an image for two architectures, one that lacks a layer, and another namespace.
fn containerd(dir: &Path) -> std::path::PathBuf {
    let root = dir.join("containerd");
    let packed = include_bytes!("migrate_cli/containerd_store.tar.gz").as_slice();
    tar::Archive::new(flate2::read::GzDecoder::new(packed))
        .unpack(&root)
        .expect("the store");
    let config = dir.join("containerd.toml");
    let text = format!("version = 2\nroot = {root:?}\n[debug]\nlevel = \"debug\"\n");
    std::fs::write(&config, text).expect("a configuration");
    config
}

fn address(node: &Node) -> String {
    format!("unix://{}", node.socket().display())
}

/// docs/compatibility.md, "Coming from containerd or CRI-O": configuration and images of containerd, and what is written once
/// stays as it is.
#[test]
#[ignore = "needs root"]
fn images_of_containerd_run() {
    on_own_node(async |node| {
        let from = containerd(node.dir());
        let (from, to) = (from.to_str().expect("UTF-8"), node.dir().join("etc/config.toml"));
        let to = to.to_str().expect("UTF-8");
        let address = address(node);
        let base = [
            "containerd",
            "--from",
            from,
            "--config",
            to,
            "--images",
            "--address",
            &address,
        ];

        let dry = json(&base);
        assert!(
            states(&dry).contains(&(HELLO.to_owned(), "found".to_owned())),
            "{dry}"
        );
        assert_eq!(dry["written"], Value::Null);
        assert!(!Path::new(to).exists());
        assert_eq!(node.image(HELLO).await, None);

        let done = json(&[&base[..], &["--write"]].concat());
        assert_eq!(done["written"], to);
        let written = std::fs::read_to_string(to).expect("the configuration");
        assert!(written.contains("level = \"debug\""), "{written}");
        let wanted = [
            ("docker.io/library/hello:latest", "imported"),
            (HELLO, "imported"),
            ("registry.example/team/gone:v1", "skipped"),
        ];
        for (name, state) in wanted {
            assert!(
                states(&done).contains(&(name.to_owned(), state.to_owned())),
                "{name}: {done}"
            );
        }
        // All its names, the digest of its index among them.
        let image = node.image(HELLO).await.expect("imported");
        assert_eq!(image.repo_tags, ["docker.io/library/hello:latest", HELLO]);
        let digest = "registry.example/team/hello@sha256:9b80f1e661f5be9aeb6929c0d753b875a0574530e57d1208e81654b57bff0e3f";
        assert!(
            image.repo_digests.contains(&digest.to_owned()),
            "{:?}",
            image.repo_digests
        );
        assert_eq!(node.image(digest).await.map(|found| found.id), Some(image.id));

        let again = json(&[&base[..], &["--write"]].concat());
        assert!(
            states(&again).contains(&(HELLO.to_owned(), "present".to_owned())),
            "{again}"
        );

        let pod = node.pod().await;
        let busybox = which("busybox").expect("busybox");
        let ended = pod
            .run(|config| {
                config.image = Some(spec(HELLO));
                config.command = strings(&["/busybox", "cat", "/hello"]);
                config.mounts.push(bind(&busybox, "/busybox"));
            })
            .await;
        assert_eq!(ended.stdout(), "hello from the old runtime\n");

        // A configuration of somebody else stays.
        std::fs::write(to, "# mine\n").expect("written");
        let (code, _, err) = pausa(&[&base[..], &["--write"]].concat());
        assert_eq!(code, 64, "{err}");
        assert!(err.contains("is not overwritten"), "{err}");
        assert_eq!(std::fs::read_to_string(to).expect("there"), "# mine\n");
    });
}

/// An image whose name means another one here is left alone.
#[test]
#[ignore = "needs root"]
fn names_that_are_taken_stay() {
    on_own_node(async |node| {
        let image = recipe::all()
            .into_iter()
            .find(|found| found.name == "base")
            .expect("an image");
        let file = node.dir().join("taken.tar");
        std::fs::write(&file, image.archive(HELLO)).expect("an archive");
        let address = address(node);
        let done = Command::new(env!("CARGO_BIN_EXE_pausa"))
            .args(["image", "import", "--address", &address])
            .arg(&file)
            .output()
            .expect("pausa runs");
        assert!(done.status.success(), "{done:?}");
        let before = node.image(HELLO).await.expect("imported").id;
        let from = containerd(node.dir());
        let from = from.to_str().expect("UTF-8");
        let report = json(&[
            "containerd",
            "--from",
            from,
            "--images-only",
            "--write",
            "--address",
            &address,
        ]);
        assert_eq!(node.image(HELLO).await.map(|image| image.id), Some(before));
        let other = node.image("docker.io/library/hello:latest").await;
        assert!(other.is_some(), "{report}");
        let reason = report["images"].to_string();
        assert!(reason.contains("is another image in pausa"), "{reason}");
    });
}

/// A store that skopeo has made, as CRI-O has it: layers are rebuilt from their tar-split files, whiteouts included.
#[test]
#[ignore = "needs root"]
fn images_of_containers_storage_run() {
    if which("skopeo").is_none() {
        eprintln!("skipped: there is no skopeo");
        return;
    }
    on_own_node(async |node| {
        let image = recipe::all()
            .into_iter()
            .find(|found| found.name == "whiteouts")
            .expect("an image of the suite");
        let archive = node.dir().join("image.tar");
        std::fs::write(&archive, image.archive(STORED)).expect("an archive");
        let (root, run) = (node.dir().join("storage"), node.dir().join("storage-run"));
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy"])
            .arg(format!("oci-archive:{}", archive.display()))
            .arg(format!(
                "containers-storage:[overlay@{}+{}]{STORED}",
                root.display(),
                run.display()
            ))
            .output()
            .expect("skopeo runs");
        // It leaves a mount in the store.
        _ = rustix::mount::unmount(root.join("overlay"), rustix::mount::UnmountFlags::DETACH);
        assert!(copied.status.success(), "{copied:?}");
        let from = node.dir().join("crio.conf");
        std::fs::write(&from, format!("[crio]\nroot = {root:?}\n")).expect("a configuration");
        let address = address(node);
        let (from, to) = (from.to_str().expect("UTF-8"), node.dir().join("etc/config.toml"));
        let done = json(&[
            "crio",
            "--from",
            from,
            "--config",
            to.to_str().expect("UTF-8"),
            "--images",
            "--write",
            "--address",
            &address,
        ]);
        assert_eq!(
            states(&done),
            [(STORED.to_owned(), "imported".to_owned())],
            "{done}"
        );
        // Id and digest are those of a pull, although the store has no compressed layers.
        let stored = node.image(STORED).await.expect("imported");
        assert_eq!(stored.id, Registry::get().image("whiteouts").id);
        let digest = format!("example.test/stored@{}", recipe::digest(&image.manifest));
        assert_eq!(stored.repo_digests, [digest]);
        let pod = node.pod().await;
        let said = pod
            .sh_with("cat /replaced", |config| config.image = Some(spec(STORED)))
            .await;
        assert_eq!(said, "second");

        // A layer that is not what its config says is not taken.
        let address = &address;
        let removed = Command::new(env!("CARGO_BIN_EXE_pausa"))
            .args(["image", "rm", "--address", address, STORED])
            .output()
            .expect("pausa runs");
        assert!(removed.status.success(), "{removed:?}");
        let layers = std::fs::read_dir(root.join("overlay")).expect("layers");
        let tampered = layers
            .filter_map(Result::ok)
            .map(|entry| entry.path().join("diff/replaced"));
        let tampered: Vec<_> = tampered.filter(|path| path.is_file()).collect();
        assert!(!tampered.is_empty());
        for path in tampered {
            std::fs::write(
                &path,
                "x".repeat(usize::try_from(path.metadata().expect("a file").len()).expect("small")),
            )
            .expect("written");
        }
        pod.remove().await;
        let again = json(&[
            "crio",
            "--from",
            from,
            "--images-only",
            "--write",
            "--address",
            address,
        ]);
        assert_eq!(
            states(&again),
            [(STORED.to_owned(), "skipped".to_owned())],
            "{again}"
        );
        assert_eq!(node.image(STORED).await, None);
    });
}
