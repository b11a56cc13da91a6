//! The room in network namespaces of the test's own: one plays the host, others the pods. The runtime is started on
//! a thread that has entered the host's, so every thread and program it starts is in there; the machine's own
//! network is never touched.

mod bridge;
mod cni;

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::*;
use crate::config::InProcessPlugins;

/// A namespace bound to a file, as the sandbox makes them.
struct Netns {
    path: PathBuf,
}

impl Netns {
    fn new(path: PathBuf) -> Self {
        fs::write(&path, "").unwrap();
        let target = path.clone();
        let bind = move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let up = pausa_netlink::Request::SetUp {
                index: pausa_netlink::LOOPBACK,
            };
            pausa_netlink::Netlink::open().unwrap().execute(&[up]).unwrap();
            mount(
                Some("/proc/thread-self/ns/net"),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .unwrap();
        };
        std::thread::spawn(bind).join().unwrap();
        Self { path }
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use std::os::fd::AsFd;
        let file = fs::File::open(&self.path).unwrap();
        pausa_netlink::in_netns(file.as_fd(), work).unwrap()
    }

    fn links(&self) -> Vec<String> {
        let links = self.run(|| pausa_netlink::Netlink::open().unwrap().links().unwrap());
        links.into_iter().map(|link| link.name).collect()
    }

    fn remove(&self) {
        umount2(&self.path, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&self.path).unwrap();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        umount2(&self.path, MntFlags::MNT_DETACH).ok();
    }
}

/// A machine: its network and its directories.
struct Node {
    host: Netns,
    dir: TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Netns::new(dir.path().join("host"));
        Self { host, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, mode: NetworkMode) -> NetworkConfig {
        NetworkConfig {
            mode,
            in_process: InProcessPlugins::default(),
            cni_conf_dir: self.path("net.d"),
            cni_bin_dirs: vec![PathBuf::from("/usr/lib/cni"), self.path("bin")],
            cni_cache_dir: self.path("cni"),
            netns_dir: self.dir.path().to_path_buf(),
            bridge: BridgeConfig {
                name: "ptest0".to_owned(),
                subnet: "10.123.0.0/24".parse().unwrap(),
                subnet_v6: None,
                state_dir: self.path("network"),
                mtu: None,
                masquerade: true,
            },
        }
    }

    fn pod(&self, name: &str) -> (Netns, PodNetwork) {
        let netns = Netns::new(self.path(name));
        let pod = PodNetwork {
            pod_id: format!("{name}-0123456789abcdef"),
            netns: netns.path.clone(),
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: "u-1".to_owned(),
            ..PodNetwork::default()
        };
        (netns, pod)
    }

    /// Runs a scenario on a runtime all of whose threads are in the host's namespace.
    fn run<T: Send>(&self, scenario: impl AsyncFnOnce() -> T + Send) -> T {
        self.host.run(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build();
            runtime.unwrap().block_on(scenario())
        })
    }

    /// Files of the address pool that are addresses.
    fn addresses(&self) -> usize {
        count(&self.path("network/ptest0"), |name| name.starts_with("10."))
    }
}

/// The pods that garbage collection is to spare.
fn pods(pods: &[&PodNetwork]) -> impl FnOnce() -> BTreeSet<String> + Send + use<> {
    let ids = pods.iter().map(|pod| pod.pod_id.clone()).collect();
    move || ids
}

fn count(dir: &Path, wanted: impl Fn(&str) -> bool) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter(|entry| wanted(&entry.as_ref().unwrap().file_name().to_string_lossy()))
        .count()
}

/// Whether a connection from `from` reaches a listener in `to`.
fn connects(from: &Netns, to: &Netns, listen: &str, connect: &str) -> bool {
    let listener = to.run(|| std::net::TcpListener::bind(listen).unwrap());
    let address = connect.parse().unwrap();
    let connected =
        from.run(|| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok());
    drop(listener);
    connected
}
