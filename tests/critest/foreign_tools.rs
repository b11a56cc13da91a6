//! Images that buildah and umoci build: pulled and imported, run, exported, and read by those who built them and by skopeo.
//! (skopeo's own archives are tested beside the code that imports and exports.)

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::node::{Node, spec};
use crate::harness::registry::{HOST, Registry};
use crate::harness::{on_own_node, which};

/// What a container of such an image says, whoever built it: a file replaced and one removed in the second layer, a hard
/// link, a symbolic link, an environment, a working directory.
const SCRIPT: &str = "cat kept linked soft; test ! -e gone && echo $FROM && pwd && stat -c %h kept";

/// Runs a program that must succeed; what it printed.
#[track_caller]
fn run(dir: &Path, program: &str, args: &[&str]) -> String {
    let done = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Whether all programs are there; says what is skipped if not.
fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|name| which(name).is_none()).collect();
    if !missing.is_empty() {
        println!("skipped: {missing:?} not on PATH; scripts/setup.sh installs them");
    }
    missing.is_empty()
}

fn pausa(node: &Node, args: &[&str]) -> String {
    let address = format!("unix://{}", node.socket().display());
    let all = [&["image", "--address", &address], args].concat();
    run(node.dir(), env!("CARGO_BIN_EXE_pausa"), &all)
}

/// Fills a root directory with what the first layer has, or changes it to what the second one has.
fn fill(root: &Path, second: bool) {
    let place = root.join("made/by");
    std::fs::create_dir_all(&place).expect("a directory");
    std::fs::create_dir_all(root.join("bin")).expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(place.join(name), text).expect("a file");
    if second {
        std::fs::remove_file(place.join("gone")).expect("removed");
        std::fs::remove_file(place.join("kept")).expect("removed");
        write("kept", "two\n");
        std::fs::hard_link(place.join("kept"), place.join("linked")).expect("a link");
        std::os::unix::fs::symlink("kept", place.join("soft")).expect("a link");
        return;
    }
    let busybox = which("busybox").expect("checked by the harness");
    std::fs::copy(busybox, root.join("bin/busybox")).expect("busybox");
    for name in ["sh", "cat", "test", "stat"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    write("gone", "one\n");
    write("kept", "one\n");
}

/// A container of the image says what it should.
async fn runs(node: &Node, name: &str, tool: &str) {
    let pod = node.pod().await;
    let said = pod
        .sh_with(SCRIPT, |config| config.image = Some(spec(name)))
        .await;
    assert_eq!(said, format!("two\ntwo\ntwo\n{tool}\n/made/by\n2\n"));
    node.clean_up().await;
}

/// Imports an archive; the id of its image.
fn import(node: &Node, archive: &Path) -> String {
    let text = pausa(node, &["-o", "json", "import", &archive.display().to_string()]);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    json["images"][0]["id"].as_str().expect("an id").to_owned()
}

/// Exports an image and returns where its archive is, as foreign tools name it; skopeo must find the configuration in it that
/// the image has.
fn export(node: &Node, dir: &Path, image: &str, tool: &str) -> (PathBuf, String) {
    let file = dir.join("exported.tar");
    pausa(node, &["export", &file.display().to_string(), image]);
    let source = format!("oci-archive:{}:{image}", file.display());
    let config = run(
        dir,
        "skopeo",
        &["--insecure-policy", "inspect", "--config", &source],
    );
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let inspected = pausa(node, &["-o", "json", "inspect", image]);
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    let own = &inspected["images"][0]["info"]["imageSpec"];
    assert_eq!(config["rootfs"], own["rootfs"]);
    let env = config["config"]["Env"].to_string();
    assert!(env.contains(&format!("FROM={tool}")), "{env}");
    (file, source)
}

/// buildah with a store of its own, which needs no mounts.
struct Buildah(PathBuf);

impl Buildah {
    fn new(dir: &Path) -> Self {
        std::fs::write(
            dir.join("policy.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .expect("a policy");
        Self(dir.to_owned())
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let store = ["--root", "root", "--runroot", "run", "--storage-driver", "vfs"];
        run(&self.0, "buildah", &[&store, args].concat())
    }

    /// Changes the files of a working container.
    fn change(&self, container: &str, change: impl FnOnce(&Path)) {
        let root = self.run(&["mount", container]);
        change(Path::new(&root));
        self.run(&["umount", container]);
    }

    /// An image of two layers in its store.
    fn build(&self) {
        let policy = ["--signature-policy", "policy.json"];
        let commit = [&["commit", "--timestamp", "0", "-q"], &policy[..]].concat();
        let first = self.run(&["from", "scratch"]);
        self.change(&first, |root| fill(root, false));
        self.run(&[&commit[..], &[&first, "localhost/first:1"]].concat());
        let from = [&["from", "--pull-never"], &policy[..], &["localhost/first:1"]].concat();
        let second = self.run(&from);
        self.change(&second, |root| fill(root, true));
        let config = [
            "--env",
            "FROM=buildah",
            "--env",
            "PATH=/bin",
            "--workingdir",
            "/made/by",
        ];
        self.run(&[&["config"], &config[..], &[&second]].concat());
        self.run(&[&commit[..], &[&second, "localhost/built:1"]].concat());
    }

    fn push(&self, format: &str, to: &str) {
        let args = [
            "push",
            "--signature-policy",
            "policy.json",
            "--tls-verify=false",
            "-q",
            "--format",
        ];
        self.run(&[&args[..], &[format, "localhost/built:1", to]].concat());
    }

    /// A file of an image in an archive.
    fn file_of(&self, source: &str, file: &str) -> String {
        let container = self.run(&["from", "--signature-policy", "policy.json", source]);
        let mut text = String::new();
        self.change(&container, |root| {
            text = std::fs::read_to_string(root.join(file)).expect("a file");
        });
        self.run(&["rm", &container]);
        text
    }
}

/// docs/compatibility.md: buildah's images, in both manifest formats, from archives and from a registry.
#[test]
#[ignore = "needs root"]
fn images_of_buildah_run_and_go_back() {
    if !have(&["buildah", "skopeo"]) {
        return;
    }
    on_own_node(async |node| {
        let dir = tempfile::tempdir().expect("a directory");
        let buildah = Buildah::new(dir.path());
        buildah.build();
        let registry = &Registry::get().address;
        for (format, manifest) in [("oci", "oci"), ("docker", "v2s2")] {
            let archive = dir.path().join(format!("{format}.tar"));
            buildah.push(
                manifest,
                &format!("{format}-archive:{}:example.test/built:1", archive.display()),
            );
            let id = import(node, &archive);
            runs(node, &id, "buildah").await;

            let name = format!("{HOST}/foreign/buildah:{format}");
            buildah.push(manifest, &format!("docker://{registry}/foreign/buildah:{format}"));
            pausa(node, &["pull", &name]);
            runs(node, &name, "buildah").await;
            pausa(node, &["verify", &name]);

            let (exported, source) = export(node, dir.path(), &name, "buildah");
            assert_eq!(buildah.file_of(&source, "made/by/soft"), "two\n");
            pausa(node, &["rm", "--prune"]);
            // What was exported comes in as the image that was pulled.
            let again = import(node, &exported);
            runs(node, &again, "buildah").await;
            pausa(node, &["rm", "--prune"]);
        }
    });
}

/// The same with umoci, which writes layouts.
#[test]
#[ignore = "needs root"]
fn images_of_umoci_run_and_go_back() {
    if !have(&["umoci", "skopeo", "tar"]) {
        return;
    }
    on_own_node(async |node| {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path();
        let umoci = |args: &[&str]| run(dir, "umoci", args);
        umoci(&["init", "--layout", "layout"]);
        umoci(&["new", "--image", "layout:built"]);
        for (bundle, second) in [("first", false), ("second", true)] {
            umoci(&["unpack", "--image", "layout:built", bundle]);
            fill(&dir.join(bundle).join("rootfs"), second);
            umoci(&["repack", "--image", "layout:built", bundle]);
        }
        umoci(&[
            "config",
            "--image",
            "layout:built",
            "--config.env",
            "FROM=umoci",
            "--config.env",
            "PATH=/bin",
            "--config.workingdir",
            "/made/by",
        ]);
        umoci(&["gc", "--layout", "layout"]);
        run(dir, "tar", &["-C", "layout", "-cf", "layout.tar", "."]);
        let id = import(node, &dir.join("layout.tar"));
        runs(node, &id, "umoci").await;

        let registry = &Registry::get().address;
        let to = format!("docker://{registry}/foreign/umoci:1");
        let copy = [
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "oci:layout:built",
            &to,
        ];
        run(dir, "skopeo", &copy);
        let name = format!("{HOST}/foreign/umoci:1");
        pausa(node, &["pull", &name]);
        runs(node, &name, "umoci").await;

        let (_, source) = export(node, dir, &name, "umoci");
        run(
            dir,
            "skopeo",
            &["--insecure-policy", "copy", "-q", &source, "oci:again:built"],
        );
        umoci(&["unpack", "--image", "again:built", "third"]);
        let place = dir.join("third/rootfs/made/by");
        assert_eq!(
            std::fs::read_to_string(place.join("linked")).expect("a file"),
            "two\n"
        );
        assert!(!place.join("gone").exists());
    });
}
