//! A container of runc's, from a `config.json` of pausa's.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::harness::{Node, recipe};

/// The container's id.
pub(super) const ID: &str = "under-runc";

/// A running container. Dropped, it is removed.
pub(super) struct Runc {
    directory: PathBuf,
    process: Value,
    systemd: bool,
    first: String,
    child: Child,
}

impl Runc {
    /// Starts a container like the one that `config` is of, and waits for its first process' report. `like` is the process whose
    /// namespaces it joins, where they are not the container's own.
    pub(super) fn start(node: &Node, config: &Value, like: i32) -> Self {
        let directory = node.dir().join("runc");
        std::fs::remove_dir_all(&directory).ok();
        std::fs::create_dir(&directory).expect("a directory");
        let root = directory.join("rootfs");
        copy_root(&node.dir().join("unpacked"), &root);
        let mut config = config.clone();
        let own_root = config["root"]["path"].as_str().expect("a root").to_owned();
        config["root"]["path"] = json!(root);
        // Volumes of the image are parts of the root.
        for mount in config["mounts"].as_array_mut().expect("mounts") {
            let below = mount["source"]
                .as_str()
                .and_then(|source| source.strip_prefix(&own_root));
            if let Some(source) = below.map(|below| root.join(below.trim_start_matches('/'))) {
                std::fs::create_dir_all(&source).expect("a directory");
                mount["source"] = json!(source);
            }
        }
        let cgroup = config["linux"]["cgroupsPath"].as_str().expect("a cgroup");
        // The container's own name is its last part.
        let id = cgroup.rsplit(['/', ':']).next().expect("a name");
        let cgroup = cgroup.replace(id, ID);
        let systemd = cgroup.contains(':');
        config["linux"]["cgroupsPath"] = json!(cgroup);
        config["linux"]["namespaces"] = namespaces(&config["linux"]["namespaces"], like);
        std::fs::write(directory.join("config.json"), config.to_string()).expect("a file");
        let process = config["process"].clone();
        let mut runc = runc(&directory, systemd);
        runc.args(["run", "--bundle"]).arg(&directory).arg(ID);
        let mut child = spawn(&mut runc, &process, &directory);
        let mut first = String::new();
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
            let line = line.expect("text");
            first.push_str(line.trim_end_matches('\r'));
            first.push('\n');
            if line.starts_with("end\t") {
                break;
            }
        }
        let complaint = std::fs::read_to_string(directory.join("stderr")).unwrap_or_default();
        assert!(
            first.contains("end\t"),
            "runc run: {complaint}{first}\n{config:#}"
        );
        Self {
            directory,
            process,
            systemd,
            first,
            child,
        }
    }

    pub(super) fn first(&mut self) -> String {
        std::mem::take(&mut self.first)
    }

    /// The report of a further process.
    pub(super) fn exec(&mut self) -> String {
        let mut process = self.process.clone();
        process["args"] = json!(["/probe"]);
        let file = self.directory.join("process.json");
        std::fs::write(&file, process.to_string()).expect("a file");
        let mut runc = runc(&self.directory, self.systemd);
        runc.args(["exec", "--process"]).arg(&file).arg(ID);
        let child = spawn(&mut runc, &process, &self.directory);
        let done = child.wait_with_output().expect("runc ends");
        let complaint = std::fs::read_to_string(self.directory.join("stderr")).unwrap_or_default();
        assert!(done.status.success(), "runc exec: {complaint}");
        String::from_utf8_lossy(&done.stdout).replace('\r', "")
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        let mut runc = runc(&self.directory, self.systemd);
        let deleted = runc.args(["delete", "--force", ID]).status();
        self.child.wait().ok();
        assert!(deleted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Copies the root directory of the base image, which is unpacked the first time.
fn copy_root(unpacked: &Path, to: &Path) {
    if !unpacked.exists() {
        let layer = recipe::base();
        let mut archive = tar::Archive::new(GzDecoder::new(&*layer.blob));
        archive.unpack(unpacked).expect("a root directory");
    }
    let copied = Command::new("cp").arg("--archive").arg(unpacked).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp");
}

fn runc(directory: &Path, systemd: bool) -> Command {
    let mut runc = Command::new("setpriv");
    runc.args(["--pdeathsig", "KILL", "--", "runc", "--root"]);
    runc.arg(directory.join("state"));
    if systemd {
        runc.arg("--systemd-cgroup");
    }
    runc
}

/// Starts runc, on a terminal if the process has one.
fn spawn(runc: &mut Command, process: &Value, directory: &Path) -> Child {
    let terminal = process["terminal"] == true;
    let mut command = if terminal {
        // runc passes on the terminal that it has itself.
        let words = [runc.get_program()].into_iter().chain(runc.get_args());
        let words: Vec<&str> = words.map(|word| word.to_str().expect("plain words")).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        script
    } else {
        let mut own = Command::new(runc.get_program());
        own.args(runc.get_args());
        own
    };
    let stderr = std::fs::File::create(directory.join("stderr")).expect("a file");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    command.spawn().expect("runc starts")
}

/// The namespaces as another container has them: pausa's `config.json` does not name those that only its monitor has.
fn namespaces(given: &Value, like: i32) -> Value {
    let link =
        |process: &str, name: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}")).expect("a link");
    let given = given.as_array().expect("namespaces");
    let mut all = Vec::new();
    for (kind, name) in [
        ("mount", "mnt"),
        ("pid", "pid"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("network", "net"),
        ("cgroup", "cgroup"),
    ] {
        if link(&like.to_string(), name) == link("self", name) {
            continue;
        }
        let new = given
            .iter()
            .any(|one| one["type"] == kind && one["path"].is_null());
        all.push(if new {
            json!({"type": kind})
        } else {
            json!({"type": kind, "path": format!("/proc/{like}/ns/{name}")})
        });
    }
    json!(all)
}
