//! `pausa image`: the node's owner and images, over the daemon's socket.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::node::Node;
use crate::harness::registry::{Registry, named};
use crate::harness::{eventually, on_own_node};

/// What a command said and ended with.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn pausa(args: &[&str]) -> Said {
    let done = Command::new(env!("CARGO_BIN_EXE_pausa"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("pausa runs");
    said(&done)
}

fn said(done: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: done.status.code().unwrap_or(-1),
        out: text(&done.stdout),
        err: text(&done.stderr),
    }
}

/// `pausa image …` at a node.
fn image(node: &Node, args: &[&str]) -> Said {
    let address = format!("unix://{}", node.socket().display());
    let mut all = vec!["image", "--address", &address];
    all.extend(args);
    pausa(&all)
}

/// The same with `-o json`; it must succeed.
#[track_caller]
fn json(node: &Node, args: &[&str]) -> Value {
    let mut all = vec!["-o", "json"];
    all.extend(args);
    let said = image(node, &all);
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn reference(image: &str) -> String {
    format!("{}:{}", named(image), if image == "tags" { "a" } else { "1" })
}

/// docs/operations.md, "Images": what is pulled is listed, in a table, as JSON and as ids.
#[test]
#[ignore = "needs root"]
fn what_is_pulled_is_listed() {
    on_own_node(async |node| {
        let pulled = image(node, &["pull", &reference("base")]);
        assert_eq!(pulled.code, 0, "{pulled:?}");
        let published = Registry::get().image("base");
        assert!(pulled.out.contains(&published.manifest), "{pulled:?}");
        assert!(pulled.out.contains(&published.id), "{pulled:?}");

        let table = image(node, &["ls"]).out;
        let row = table.lines().nth(1).expect("a row");
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            cells[..3],
            [named("base").as_str(), "1", &published.id[7..20]],
            "{table}"
        );
        assert_eq!(image(node, &["ls", "-q"]).out, format!("{}\n", published.id));

        let listed = json(node, &["ls"]);
        let entry = &listed["images"][0];
        assert_eq!(entry["id"], published.id.as_str());
        assert_eq!(entry["repoTags"][0], reference("base").as_str());
        assert_eq!(
            entry["repoDigests"][0],
            format!("{}@{}", named("base"), published.manifest)
        );
        assert!(
            entry["size"].as_u64().is_some_and(|size| size > 500_000),
            "{listed}"
        );
    });
}

/// Filters: a repository, a name, the beginning of an id, a pattern; what fits nothing is an empty list.
#[test]
#[ignore = "needs root"]
fn the_list_is_filtered() {
    on_own_node(async |node| {
        node.pull("base").await;
        node.pull("silent").await;
        let id = &Registry::get().image("base").id;
        for filter in [&named("base"), &reference("base"), &id[7..19], "*/base"] {
            assert_eq!(
                image(node, &["ls", "-q", filter]).out,
                format!("{id}\n"),
                "{filter}"
            );
        }
        assert_eq!(image(node, &["ls", "-q", "nothing.test/x"]).out, "");
        assert_eq!(image(node, &["ls", "-q"]).out.lines().count(), 2);
    });
}

/// Several at once; one that is not there ends in 66 and does not keep the others.
#[test]
#[ignore = "needs root"]
fn several_images_are_removed() {
    on_own_node(async |node| {
        node.pull("base").await;
        node.pull("tags:a").await;
        node.pull("tags:b").await;
        let removed = image(
            node,
            &["rm", &reference("base"), "nothing.test/x:1", &reference("tags")],
        );
        assert_eq!(removed.code, 66, "{removed:?}");
        assert!(removed.err.contains("nothing.test/x:1"), "{removed:?}");
        let id = &Registry::get().image("tags").id;
        for line in [
            format!("untagged {}", named("tags:a")),
            format!("untagged {}", named("tags:b")),
            format!("removed {id}"),
        ] {
            assert!(
                removed.out.lines().any(|said| said == line),
                "{line}: {removed:?}"
            );
        }
        assert_eq!(image(node, &["ls", "-q"]).out, "");
    });
}

/// The configuration of an image, for people and for programs.
#[test]
#[ignore = "needs root"]
fn an_image_is_inspected() {
    on_own_node(async |node| {
        node.pull("rich").await;
        let inspected = json(node, &["inspect", &reference("rich")]);
        let config = &inspected["images"][0]["info"]["imageSpec"]["config"];
        assert_eq!(config["WorkingDir"], "/made/by/image", "{inspected}");
        let page = image(node, &["inspect", &Registry::get().image("rich").id[7..20]]).out;
        for line in [
            "Directory    /made/by/image",
            "Stop signal  SIGUSR1",
            "Volumes      /data",
        ] {
            assert!(page.lines().any(|said| said == line), "{line}: {page}");
        }
        let missing = image(node, &["inspect", &reference("rich"), "nothing.test/x"]);
        assert_eq!(missing.code, 66, "{missing:?}");
        assert!(missing.out.contains("/made/by/image"), "{missing:?}");
    });
}

/// Unused images go; what a container uses stays, and nothing goes with `--dry-run`.
#[test]
#[ignore = "needs root"]
fn what_nobody_uses_is_pruned() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        node.pull("spare").await;
        let spare = &Registry::get().image("spare").id;
        let base = &Registry::get().image("base").id;
        let dry = json(node, &["rm", "--prune", "--dry-run"]);
        assert_eq!(dry["removed"][0]["id"], spare.as_str(), "{dry}");
        assert_eq!(image(node, &["ls", "-q"]).out.lines().count(), 2);
        let pruned = json(node, &["rm", "--all"]);
        assert_eq!(pruned["removed"].as_array().map(Vec::len), Some(1), "{pruned}");
        assert_eq!(pruned["inUse"], 1, "{pruned}");
        assert_eq!(image(node, &["ls", "-q"]).out, format!("{base}\n"));
        assert_eq!(container.sh("echo up").await, "up\n");
        container.remove().await;
        image(node, &["rm", "--prune"]);
        assert_eq!(image(node, &["ls", "-q"]).out, "");
    });
}

/// A pull in flight is seen by everybody, with how many wait for it; without anybody it goes on.
#[test]
#[ignore = "needs root"]
fn pulls_in_flight_are_listed() {
    on_own_node(async |node| {
        // A registry that listens and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = silent.local_addr().expect("an address");
        let dir = node.dir().join("hosts/silent.test");
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("hosts.toml"), format!("server = \"http://{server}\"\n")).expect("a file");
        assert_eq!(json(node, &["pulls"])["pulls"], serde_json::json!([]));
        let address = format!("unix://{}", node.socket().display());
        let told = node.dir().join("progress");
        let mut puller = Command::new(env!("CARGO_BIN_EXE_pausa"))
            .args(["image", "--address", &address, "pull", "silent.test/x:1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&told).expect("a file"))
            .spawn()
            .expect("pausa runs");
        let waiting = async |count: u64| {
            eventually("the pull is listed", async || {
                let listed = json(node, &["pulls"]);
                let pull = &listed["pulls"][0];
                let same = pull["reference"] == "silent.test/x:1" && pull["waiting"] == count;
                same.then_some(())
            })
            .await;
        };
        waiting(1).await;
        let table = image(node, &["pulls"]).out;
        assert!(
            table.contains("silent.test/x:1") && table.contains("resolving"),
            "{table}"
        );
        eventually("a line about it", async || {
            let lines = std::fs::read_to_string(&told).unwrap_or_default();
            lines.starts_with("silent.test/x:1: resolving, ").then_some(())
        })
        .await;
        puller.kill().expect("the command is killed");
        puller.wait().expect("the command ends");
        waiting(0).await;
    });
}

/// Where a reference leads is told with the file that says so, and nobody is asked.
#[test]
#[ignore = "needs root"]
fn the_way_of_a_reference_is_explained() {
    on_own_node(async |node| {
        let told = json(node, &["check", &reference("base")]);
        let endpoint = &told["references"][0]["endpoints"][0];
        let url = endpoint["url"].as_str().unwrap_or_default();
        assert!(url.contains(&Registry::get().address), "{told}");
        let file = endpoint["file"].as_str().unwrap_or_default();
        assert!(file.ends_with("hosts.toml"), "{told}");
        assert_eq!(endpoint["transport"], "plain HTTP", "{told}");
        let page = image(node, &["check", "busybox"]);
        assert_eq!(page.code, 0, "{page:?}");
        assert!(
            page.out.starts_with("docker.io/library/busybox:latest\n"),
            "{page:?}"
        );
        assert_eq!(image(node, &["check", "UPPER/case"]).code, 1);
    });
}

/// An archive brings back what it was made of: the same id, the same name.
#[test]
#[ignore = "needs root"]
fn an_exported_image_can_be_imported() {
    on_own_node(async |node| {
        node.pull("whiteouts").await;
        let id = Registry::get().image("whiteouts").id.clone();
        let file = node.dir().join("exported.tar");
        let path = file.to_str().expect("a path of text");
        let exported = json(node, &["export", path, &id[7..20]]);
        let entry = &exported["images"][0];
        assert_eq!(entry["exportedId"], id.as_str(), "{exported}");
        assert_eq!(entry["exact"], true, "{exported}");
        assert_eq!(image(node, &["rm", &id]).code, 0);
        let imported = image(node, &["import", path]);
        assert_eq!(
            imported.out,
            format!("{id} {}\n", reference("whiteouts")),
            "{imported:?}"
        );
        let piped = image(node, &["export", "-", &id]);
        assert_eq!((piped.code, piped.err.as_str()), (0, ""));
        assert!(piped.out.contains("oci-layout"), "no archive on standard output");
    });
}

/// What cannot be exported leaves no file, nor spoils one that is there.
#[test]
#[ignore = "needs root"]
fn a_failed_export_leaves_no_file() {
    on_own_node(async |node| {
        let file = node.dir().join("precious.tar");
        std::fs::write(&file, "precious").expect("a file");
        let path = file.to_str().expect("a path of text");
        let failed = image(node, &["export", path, "nothing.test/x:1"]);
        assert_eq!(failed.code, 66, "{failed:?}");
        assert_eq!(std::fs::read(&file).expect("the file"), b"precious");
        let entries = std::fs::read_dir(node.dir()).expect("a directory").flatten();
        let partial = entries.filter(|entry| entry.path().to_string_lossy().contains("partial"));
        assert_eq!(partial.count(), 0);
    });
}

/// Damage is found and told with 65; `--repair` fetches what is damaged anew.
#[test]
#[ignore = "needs root"]
fn damage_is_found_and_repaired() {
    on_own_node(async |node| {
        node.pull("base").await;
        let whole = image(node, &["verify"]);
        assert_eq!(whole.code, 0, "{whole:?}");
        assert!(whole.out.starts_with("whole"), "{whole:?}");
        let layers = std::fs::read_dir(node.dir().join("r/images/layers")).expect("the layers");
        let passwd = layers
            .flatten()
            .map(|layer| layer.path().join("fs/etc/passwd"))
            .find(|file| file.exists())
            .expect("the image has users");
        let before = std::fs::read(&passwd).expect("the file");
        std::fs::write(&passwd, "mallory:x:0:0::/:/bin/sh\n").expect("the damage");
        let damaged = image(node, &["verify", &reference("base")]);
        assert_eq!(damaged.code, 65, "{damaged:?}");
        assert!(
            damaged.out.starts_with("damaged") && damaged.out.contains("passwd"),
            "{damaged:?}"
        );
        let repaired = json(node, &["verify", "--repair", &reference("base")]);
        assert_eq!(repaired["images"][0]["repaired"], true, "{repaired}");
        assert_eq!(std::fs::read(&passwd).expect("the file"), before);
        assert_eq!(image(node, &["verify"]).code, 0);
        let id = &Registry::get().image("base").id;
        assert_eq!(
            image(node, &["ls", "-q", &reference("base")]).out,
            format!("{id}\n")
        );
        assert_eq!(image(node, &["verify", "nothing.test/x:1"]).code, 66);
    });
}

/// The registry's answer reaches whoever asked, with code 1.
#[test]
#[ignore = "needs root"]
fn a_pull_that_fails_says_why() {
    on_own_node(async |node| {
        let failed = image(node, &["pull", &named("no-such-repository")]);
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.err.contains("no-such-repository"), "{failed:?}");
        assert_eq!(failed.out, "");
        let invalid = image(node, &["pull", "UPPER/case"]);
        assert_eq!(invalid.code, 1, "{invalid:?}");
    });
}

/// No daemon: 69, with the socket's path. Wrong usage: 64.
#[test]
fn a_daemon_that_is_not_there_is_told_from_wrong_usage() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("nobody.sock");
    let address = format!("unix://{}", socket.display());
    let absent = pausa(&["image", "--address", &address, "ls"]);
    assert_eq!(absent.code, 69, "{absent:?}");
    assert!(absent.err.contains(&socket.display().to_string()), "{absent:?}");
    assert_eq!(pausa(&["image", "-a", "tcp://127.0.0.1:1", "ls"]).code, 64);
    assert_eq!(pausa(&["image", "rm"]).code, 64);
    assert_eq!(
        pausa(&["image", "pull", "x", "--creds", "nocolon", "-a", &address]).code,
        64
    );
}

/// `pausa image ls | head -1` and the like: no panic, no error text.
#[test]
#[ignore = "needs root"]
fn a_reader_that_goes_away_is_no_failure() {
    on_own_node(async |node| {
        node.pull("base").await;
        let address = format!("unix://{}", node.socket().display());
        for args in [
            &["ls"][..],
            &["-o", "json", "ls"],
            &["inspect", &reference("base")],
        ] {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let done = Command::new(env!("CARGO_BIN_EXE_pausa"))
                .args(["image", "--address", &address])
                .args(args)
                .stdin(Stdio::null())
                .stdout(writer)
                .stderr(Stdio::piped())
                .output()
                .expect("pausa runs");
            let said = said(&done);
            assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}");
        }
    });
}
