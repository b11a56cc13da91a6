//! For tests: nodes with one pod each, and the reference plugins.
//!
//! A node is a thread with a network namespace and mounts of its own. `PAUSA_CNI_PLUGINS` names the directories that have
//! the binaries, separated by colons; without it they are those of Debian's package.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pausa_cni::Call;
use pausa_netlink::{LinkChange, Netlink, Request, Veth, in_netns};
use serde_json::{Value, json};

/// The host's end of the pod's veth pair.
pub(crate) const HOST: &str = "veth1";
/// The pod's end.
pub(crate) const POD: &str = "eth0";
/// Its address.
pub(crate) const POD_MAC: &str = "02:00:00:00:00:01";

pub(crate) struct Node {
    pod: File,
}

/// Does something on a node of its own.
pub(crate) fn on_node<T: Send>(work: impl FnOnce(&Node) -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            work(&Node::new())
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Node {
    fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let pod = thread::spawn(make).join().unwrap();
        let mut netlink = Netlink::open().unwrap();
        let veth = Veth {
            name: HOST,
            master: None,
            peer_name: POD,
            peer_netns: pod.as_fd(),
            peer_mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: Some(1450),
        };
        netlink.execute(&[Request::CreateVeth(veth)]).unwrap();
        let index = netlink.index_of(HOST).unwrap().unwrap();
        let change = LinkChange {
            mac: Some([2, 0, 0, 0, 0, 2]),
            ..LinkChange::default()
        };
        netlink.execute(&[Request::ChangeLink { index, change }]).unwrap();
        Self { pod }
    }

    pub(crate) fn in_pod<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(self.pod.as_fd(), work).unwrap()
    }

    /// A call of a plugin that comes after one that made the veth pair.
    pub(crate) fn call(&self, command: pausa_cni::Command, config: &Value) -> Call {
        let netns = PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.pod.as_raw_fd()
        ));
        let mut config = config.as_object().unwrap().clone();
        let previous = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": HOST}, {"name": POD, "mac": POD_MAC, "sandbox": netns}],
            "ips": [{"interface": 1, "address": "10.62.0.2/24"}],
        });
        for (key, value) in [
            ("cniVersion", json!("1.0.0")),
            ("name", json!("net")),
            ("prevResult", previous),
        ] {
            config.insert(key.to_owned(), value);
        }
        Call {
            command,
            container_id: "pod-1".to_owned(),
            netns,
            if_name: POD.to_owned(),
            args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
            config,
        }
    }

    /// What iproute2 says about the node and the pod, without what differs every time.
    pub(crate) fn state(&self) -> Value {
        let links = || output("ip -j -d link");
        let mut state = json!({
            "host": links(),
            "pod": self.in_pod(links),
            "qdiscs": output("tc -j qdisc"),
            "filters": output(&format!("tc -j filter show dev {HOST} parent ffff:")),
        });
        for side in ["host", "pod"] {
            for link in state[side].as_array_mut().unwrap() {
                let ifb = link["ifname"].as_str().unwrap().starts_with("bwp");
                let link = link.as_object_mut().unwrap();
                // The kernel works these out later.
                link.remove("operstate");
                link["flags"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|flag| flag != "NO-CARRIER");
                if ifb {
                    link.remove("address");
                }
            }
        }
        state
    }
}

/// The JSON that a program of iproute2 writes.
pub(crate) fn output(command: &str) -> Value {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The binaries of a plugin type.
pub(crate) fn binaries(plugin: &str) -> Vec<PathBuf> {
    let dirs = std::env::var("PAUSA_CNI_PLUGINS").unwrap_or_else(|_| "/usr/lib/cni".to_owned());
    let binaries: Vec<PathBuf> = dirs
        .split(':')
        .map(|dir| PathBuf::from(dir).join(plugin))
        .filter(|path| path.exists())
        .collect();
    assert!(
        !binaries.is_empty(),
        "no CNI plugin {plugin} in {dirs}: install containernetworking-plugins"
    );
    binaries
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
        .env("CNI_IFNAME", &call.if_name)
        .env("CNI_ARGS", args.join(";"))
        .env("CNI_PATH", binary.parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let config = Value::Object(call.config.clone()).to_string();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if !output.status.success() {
        return Err(text);
    }
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// The interfaces of a result, without the namespace's path and the random addresses of ifb devices.
pub(crate) fn interfaces(result: &Value) -> Value {
    let mut interfaces = result["interfaces"].clone();
    for interface in interfaces.as_array_mut().unwrap() {
        let ifb = interface["name"].as_str().unwrap().starts_with("bwp");
        let interface = interface.as_object_mut().unwrap();
        interface.entry("sandbox").and_modify(|path| *path = json!("pod"));
        if ifb {
            let mac = interface["mac"].as_str().unwrap().len();
            interface.insert("mac".to_owned(), mac.into());
        }
    }
    interfaces
}
