//! Two nodes: network namespaces, one of which has its networks from the plugins in process and the other one from binaries.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use pausa_cni::{Error, InProcess, NetworkConfigList, Request, Runtime};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::snapshot::Snapshot;

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

    /// Does something in the namespace, on a thread that ends.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

/// Who runs the plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugins {
    InProcess,
    Binaries,
}

pub(crate) struct Node {
    dir: TempDir,
    host: Netns,
    pods: BTreeMap<&'static str, Netns>,
    network: NetworkConfigList,
}

impl Node {
    /// A node with a network. `{dir}` in the configuration is a directory of the node's own.
    pub(crate) fn new(config: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = config.to_string().replace("{dir}", dir.path().to_str().unwrap());
        let network = NetworkConfigList::parse(text.as_bytes(), Path::new("test.conflist")).unwrap();
        Self {
            dir,
            host: Netns::new(),
            pods: BTreeMap::new(),
            network,
        }
    }

    fn request(&self, pod: &str, arguments: &Value) -> Request {
        Request {
            container_id: pod.to_owned(),
            netns: self.pods.get(pod).map(Netns::path).unwrap_or_default(),
            if_name: "eth0".to_owned(),
            args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
            capability_args: arguments.as_object().cloned().unwrap_or_else(Map::new),
        }
    }

    pub(crate) fn add(
        &mut self,
        plugins: Plugins,
        pod: &'static str,
        arguments: &Value,
    ) -> Result<Value, Error> {
        self.pods.entry(pod).or_insert_with(Netns::new);
        let request = self.request(pod, arguments);
        self.call(plugins, async |runtime| {
            runtime.add(&self.network, &request).await
        })
    }

    pub(crate) fn check(&self, plugins: Plugins, pod: &str, arguments: &Value) -> Result<(), Error> {
        let request = self.request(pod, arguments);
        self.call(plugins, async |runtime| {
            runtime.check(&self.network, &request).await
        })
    }

    /// DEL, with the configuration and arguments in the cache.
    pub(crate) fn del(&self, plugins: Plugins, pod: &str) -> Result<(), Error> {
        let request = self.request(pod, &Value::Null);
        self.call(plugins, async |runtime| {
            runtime.del(Some(&self.network), &request).await
        })
    }

    /// Ends a pod's namespace.
    pub(crate) fn end(&mut self, pod: &str) {
        self.pods.remove(pod);
    }

    fn call<T: Send>(
        &self,
        plugins: Plugins,
        work: impl AsyncFnOnce(&Runtime) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let in_process: BTreeMap<String, std::sync::Arc<dyn InProcess>> = match plugins {
            Plugins::InProcess => pausa_cni_plugins::all(),
            Plugins::Binaries => BTreeMap::new(),
        };
        let runtime = Runtime::new(binaries(), &self.dir.path().join("cni"), in_process);
        // Threads and processes inherit the namespace of the thread that starts them, which is this one.
        self.host.run(|| {
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tokio.block_on(work(&runtime))
        })
    }

    /// What the node and its pods look like.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.add("node", &self.host);
        for (name, pod) in &self.pods {
            snapshot.add(name, pod);
        }
        for (name, pod) in &self.pods {
            snapshot.rename_macs(name, pod);
        }
        snapshot.add_files(self.dir.path());
        snapshot
    }

    pub(crate) fn pod(&self, name: &str) -> &Netns {
        self.pods.get(name).unwrap()
    }
}

fn binaries() -> Vec<PathBuf> {
    let dirs = std::env::var("PAUSA_CNI_PLUGINS").unwrap_or_else(|_| "/usr/lib/cni".to_owned());
    let dirs: Vec<PathBuf> = dirs.split(':').map(PathBuf::from).collect();
    assert!(
        dirs.iter().any(|dir| dir.join("bridge").exists()),
        "no CNI plugins in {dirs:?}: install containernetworking-plugins"
    );
    dirs
}
