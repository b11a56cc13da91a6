//! For tests: network namespaces, programs of the node, and the binaries of the reference plugins.
//!
//! `PAUSA_CNI_PLUGINS` names the directories that have the binaries, separated by colons; without it they are those of
//! Debian's package.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pausa_cni::Call;
use pausa_netlink::in_netns;
use serde_json::Value;

/// A network namespace that lives as long as the value.
pub(crate) struct Netns(File);

impl Netns {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(thread::spawn(make).join().unwrap())
    }

    /// A path for other processes.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    /// Does something in the namespace. Threads and programs that it starts are in it, too.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(self.as_fd(), work).unwrap()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs a test on a thread in a network namespace that ends with it, and mounts of its own. Programs that it starts are in
/// the same namespaces.
pub(crate) fn in_new_netns<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        output(Command::new("ip").args(["link", "set", "lo", "up"]));
        test()
    };
    thread::scope(|scope| {
        scope
            .spawn(run)
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// What a program writes.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed?"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON that a program such as `ip -j link` writes; null if it writes nothing.
pub(crate) fn json_of(command: &str) -> Value {
    let mut words = command.split(' ');
    let text = output(Command::new(words.next().unwrap()).args(words));
    serde_json::from_str(&text).unwrap_or_default()
}

/// The directories of the binaries.
pub(crate) fn directories() -> Vec<PathBuf> {
    let directories = std::env::var("PAUSA_CNI_PLUGINS").unwrap_or_else(|_| "/usr/lib/cni".to_owned());
    directories.split(':').map(PathBuf::from).collect()
}

/// The binaries of a plugin type, of which there is at least one.
pub(crate) fn binaries(plugin: &str) -> Vec<PathBuf> {
    let directories = directories();
    let paths = directories.iter().map(|directory| directory.join(plugin));
    let binaries: Vec<PathBuf> = paths.filter(|path| path.exists()).collect();
    assert!(
        !binaries.is_empty(),
        "there is no {plugin} in {directories:?}: set PAUSA_CNI_PLUGINS, or install containernetworking-plugins"
    );
    binaries
}

/// A call for the interface `eth0` of a container, in the network namespace of the test.
pub(crate) fn call(command: pausa_cni::Command, container_id: &str, config: &Value) -> Call {
    Call {
        command,
        container_id: container_id.to_owned(),
        netns: PathBuf::from("/proc/self/ns/net"),
        if_name: "eth0".to_owned(),
        args: Vec::new(),
        config: config.as_object().unwrap().clone(),
    }
}

/// Runs a binary. An error is what it wrote.
pub(crate) fn run(binary: &Path, call: &Call) -> Result<Value, String> {
    let args: Vec<String> = call
        .args
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut child = Command::new(binary)
        .env("CNI_COMMAND", call.command.as_str())
        .env("CNI_CONTAINERID", &call.container_id)
        .env("CNI_NETNS", &call.netns)
        // The namespace may be the plugin's own.
        .env("CNI_NETNS_OVERRIDE", "1")
        .env("CNI_IFNAME", &call.if_name)
        .env("CNI_ARGS", args.join(";"))
        .env("CNI_PATH", binary.parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let config = Value::Object(call.config.clone()).to_string();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        Ok(serde_json::from_str(&text).unwrap_or_default())
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}
