//! Which spec file counts, and what happens when files change, on a real file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Two directories of spec files.
struct Node {
    root: tempfile::TempDir,
    registry: Registry,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directories = ["etc", "run"].map(|name| root.path().join(name));
        for directory in &directories {
            fs::create_dir(directory).unwrap();
        }
        let registry = Registry::new(directories.to_vec());
        Self { root, registry }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a spec file in place: its devices set the variables `SPEC` and `DEVICE` to this.
    fn write(&self, name: &str, kind: &str, devices: &[&str], mark: &str) {
        let devices: Vec<_> = devices
            .iter()
            .map(|device| json!({"name": device, "containerEdits": {"env": [format!("DEVICE={device} {mark}")]}}))
            .collect();
        let spec = json!({
            "cdiVersion": "0.5.0", "kind": kind, "containerEdits": {"env": [format!("SPEC={mark}")]},
            "devices": devices,
        });
        fs::write(self.path(name), spec.to_string()).unwrap();
    }

    fn edits(&self, devices: &[&str]) -> Result<Edits, CdiError> {
        let devices: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
        self.registry.edits(&devices)
    }

    fn env(&self, devices: &[&str]) -> Vec<String> {
        self.edits(devices).unwrap().env
    }

    fn refused(&self, devices: &[&str]) -> String {
        self.edits(devices).unwrap_err().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.registry
            .list()
            .devices
            .into_iter()
            .map(|device| device.name)
            .collect()
    }

    fn problems(&self) -> Vec<String> {
        self.registry
            .list()
            .problems
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

#[test]
fn edits_come_in_the_order_of_the_devices_and_once() {
    let node = Node::new();
    node.write("etc/a.json", "v.com/gpu", &["0", "1"], "a");
    node.write("run/b.json", "w.com/nic", &["x"], "b");
    assert_eq!(
        node.env(&["v.com/gpu=1", "w.com/nic=x", "v.com/gpu=0", "v.com/gpu=1"]),
        ["SPEC=a", "DEVICE=1 a", "SPEC=b", "DEVICE=x b", "DEVICE=0 a"]
    );
    assert_eq!(node.edits(&[]).unwrap(), Edits::default());
    assert_eq!(node.names(), ["v.com/gpu=0", "v.com/gpu=1", "w.com/nic=x"]);
    assert_eq!(node.registry.list().devices[2].file, node.path("run/b.json"));
}

#[test]
fn directories_may_be_missing_and_other_files_are_not_looked_at() {
    let missing = Registry::new(vec![PathBuf::from("/nonexistent/pausa-cdi")]);
    assert!(missing.list().devices.is_empty() && missing.list().problems.is_empty());
    let node = Node::new();
    for name in ["etc/a.json.tmp", "etc/README", "etc/json", "etc/.json"] {
        fs::write(node.path(name), "{").unwrap();
    }
    fs::create_dir(node.path("etc/directory.json")).unwrap();
    node.write("etc/directory.json/b.json", "v/c", &["b"], "");
    node.write("etc/c.yml", "v/c", &["c"], "");
    node.write("etc/d.yaml", "v/c", &["d"], "");
    assert_eq!(node.names(), ["v/c=c", "v/c=d"]);
    assert_eq!(node.problems(), [""; 0]);
    let file = Registry::new(vec![node.path("etc/c.yml")]);
    assert!(matches!(file.list().problems[..], [Problem::Directory { .. }]));
}

#[test]
fn a_later_directory_takes_precedence() {
    let node = Node::new();
    node.write("etc/z.json", "v/c", &["0", "1"], "etc");
    node.write("run/a.json", "v/c", &["1"], "run");
    assert_eq!(
        node.env(&["v/c=0", "v/c=1"]),
        ["SPEC=etc", "DEVICE=0 etc", "SPEC=run", "DEVICE=1 run"]
    );
    assert_eq!(node.problems(), [""; 0]);
}

#[test]
fn a_device_of_two_files_is_a_conflict_unless_it_is_shadowed() {
    let node = Node::new();
    node.write("etc/a.json", "v/c", &["0", "1"], "a");
    node.write("etc/b.json", "v/c", &["1", "2"], "b");
    let error = node.refused(&["v/c=0", "v/c=1"]);
    for part in ["v/c=1 is defined", "/etc/a.json", "/etc/b.json"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("v/c=0"), "{error}");
    assert_eq!(node.names(), ["v/c=0", "v/c=2"]);
    assert!(matches!(&node.registry.list().problems[..],
        [Problem::Conflict { device, files }] if device == "v/c=1" && files.len() == 2));
    node.write("run/c.json", "v/c", &["1"], "c");
    assert_eq!(node.env(&["v/c=1"]), ["SPEC=c", "DEVICE=1 c"]);
    assert_eq!(node.problems(), [""; 0]);
}

#[test]
fn an_unknown_device_is_named_with_what_there_is() {
    let node = Node::new();
    let error = node.refused(&["v/c=0"]);
    assert!(error.contains("v/c=0 is unknown; vendors are: none"), "{error}");
    let many: Vec<String> = (10..40).map(|number| format!("d{number}")).collect();
    node.write(
        "etc/a.json",
        "v/many",
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
        "",
    );
    node.write("etc/b.json", "v/few", &["x", "y"], "");
    node.write("etc/c.json", "w/c", &["z"], "");
    let error = node.refused(&["v/many=0", "v/few=x", "v/few=z", "v/none=0", "u/c=0"]);
    for part in [
        "v/many=0 is unknown; this kind has d10, d11, d12,",
        "d25, 14 more;",
        "v/few=z is unknown; this kind has x, y;",
        "v/none=0 is unknown; this vendor has the kinds v/few, v/many;",
        "u/c=0 is unknown; vendors are: v, w",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("v/few=x") && !error.contains("d26"), "{error}");
    let error = node.edits(&["v/few=x", "gpu"]).unwrap_err();
    assert!(
        matches!(&error, CdiError::Name { name } if name == "gpu"),
        "{error}"
    );
}

#[test]
fn a_broken_file_is_named_and_hides_nothing() {
    let node = Node::new();
    node.write("etc/b.json", "v/c", &["0"], "good");
    fs::write(node.path("etc/a.json"), "{").unwrap();
    fs::write(node.path("etc/c.yaml"), "cdiVersion: 9.0.0").unwrap();
    symlink("/nonexistent", node.path("etc/d.json")).unwrap();
    let pipe = node.path("etc/e.json");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from(0o600)).unwrap();
    symlink("/dev/zero", node.path("etc/f.json")).unwrap();
    fs::File::create(node.path("etc/g.json"))
        .unwrap()
        .set_len((4 << 20) + 1)
        .unwrap();
    assert_eq!(node.env(&["v/c=0"]), ["SPEC=good", "DEVICE=0 good"]);
    let problems = node.problems();
    assert_eq!(problems.len(), 6);
    for (problem, name) in problems
        .iter()
        .zip(["a.json", "c.yaml", "d.json", "e.json", "f.json", "g.json"])
    {
        assert!(problem.contains(name), "{problem}");
    }
    let error = node.refused(&["v/c=1"]);
    for part in [
        "a.json cannot be used: it is neither JSON",
        "line 1",
        "\"9.0.0\"",
        "no regular file",
        "4194304 bytes",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_directory_with_too_many_files_says_so() {
    let node = Node::new();
    node.write("etc/0.json", "v/c", &["0"], "first");
    fs::write(node.path("empty"), "").unwrap();
    for number in 1..=4096 {
        fs::hard_link(node.path("empty"), node.path(&format!("etc/{number}.json"))).unwrap();
    }
    let listing = node.registry.list();
    let too_many = |problem: &Problem| matches!(problem, Problem::TooManyFiles { limit: 4096, .. });
    assert!(listing.problems.iter().any(too_many));
    assert_eq!(listing.problems.len(), 4096);
    assert_eq!(listing.devices.len(), 1);
}

#[test]
fn symbolic_links_are_followed() {
    let node = Node::new();
    node.write("elsewhere", "v/c", &["0"], "link");
    symlink("../elsewhere", node.path("etc/a.json")).unwrap();
    symlink("etc", node.path("link")).unwrap();
    assert_eq!(node.env(&["v/c=0"]), ["SPEC=link", "DEVICE=0 link"]);
    let linked = Registry::new(vec![node.path("link")]);
    assert_eq!(linked.list().devices.len(), 1);
}

/// Each change is seen at once, of files that have just been written as well as of those that are kept.
#[test]
fn changes_are_seen_at_the_next_use() {
    for kept in [false, true] {
        let node = Node::new();
        for name in ["same", "renamed", "broken", "removed"] {
            node.write(&format!("etc/{name}.json"), "v/c", &[name], "1");
        }
        fs::write(node.path("etc/repaired.json"), "{").unwrap();
        assert_eq!(
            node.names(),
            ["v/c=broken", "v/c=removed", "v/c=renamed", "v/c=same"]
        );
        let end = Instant::now() + Duration::from_secs(20);
        while kept && !is_kept(&node.registry) {
            assert!(
                Instant::now() < end,
                "files that do not change are read again and again"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        node.write("etc/same.json", "v/c", &["same"], "2");
        node.write("new", "v/c", &["renamed"], "2");
        fs::rename(node.path("new"), node.path("etc/renamed.json")).unwrap();
        fs::write(node.path("etc/broken.json"), "{").unwrap();
        node.write("etc/repaired.json", "v/c", &["repaired"], "2");
        fs::remove_file(node.path("etc/removed.json")).unwrap();
        assert_eq!(node.names(), ["v/c=renamed", "v/c=repaired", "v/c=same"]);
        for name in ["renamed", "repaired", "same"] {
            let env = node.env(&[&format!("v/c={name}")]);
            assert_eq!(env, ["SPEC=2".to_owned(), format!("DEVICE={name} 2")]);
        }
        assert!(
            node.refused(&["v/c=broken"])
                .contains("broken.json cannot be used")
        );
        assert_eq!(
            node.registry.known.lock().len(),
            4,
            "the removed file is forgotten"
        );
    }
}

/// Whether the next use takes all files from the use before.
fn is_kept(registry: &Registry) -> bool {
    drop(registry.list());
    let before = Arc::clone(&registry.known.lock());
    drop(registry.list());
    let after = registry.known.lock();
    after
        .iter()
        .all(|(path, file)| before.get(path).is_some_and(|other| Arc::ptr_eq(file, other)))
}

#[test]
fn a_node_that_the_host_does_not_have_is_an_error() {
    let node = Node::new();
    let spec = json!({"cdiVersion": "0.3.0", "kind": "v/c", "devices": [
        {"name": "d", "containerEdits": {"deviceNodes": [{"path": "/dev/pausa-no-such-node"}]}},
    ]});
    fs::write(node.path("etc/a.json"), spec.to_string()).unwrap();
    assert!(node.refused(&["v/c=d"]).contains("/dev/pausa-no-such-node"));
    assert_eq!(node.names(), ["v/c=d"]);
}

#[test]
fn many_threads_may_use_it() {
    let node = Node::new();
    node.write("etc/b.json", "v/c", &["0"], "always");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(node.env(&["v/c=0"]).len(), 2);
                }
            });
        }
        for number in 0..50 {
            node.write("new", "v/d", &["0"], &number.to_string());
            fs::rename(node.path("new"), node.path("run/a.json")).unwrap();
        }
    });
    assert_eq!(node.env(&["v/d=0"]), ["SPEC=49", "DEVICE=0 49"]);
}
