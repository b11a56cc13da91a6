//! Two nodes: network namespaces, one of which has its networks from the plugins in process and the other one from binaries.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pausa_cni::{Error, InProcess, NetworkConfigList, Request, Runtime};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::snapshot::Snapshot;
use crate::reference::{Netns, directories};

/// Who runs the plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plugins {
    InProcess,
    Binaries,
}

pub(super) struct Node {
    dir: TempDir,
    host: Netns,
    pods: BTreeMap<&'static str, Netns>,
    network: NetworkConfigList,
}

impl Node {
    /// A node with a network. `{dir}` in the configuration is a directory of the node's own.
    pub(super) fn new(config: &Value) -> Self {
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

    pub(super) fn add(
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

    pub(super) fn check(&self, plugins: Plugins, pod: &str, arguments: &Value) -> Result<(), Error> {
        let request = self.request(pod, arguments);
        self.call(plugins, async |runtime| {
            runtime.check(&self.network, &request).await
        })
    }

    /// DEL, with the configuration and arguments in the cache.
    pub(super) fn del(&self, plugins: Plugins, pod: &str) -> Result<(), Error> {
        let request = self.request(pod, &Value::Null);
        self.call(plugins, async |runtime| {
            runtime.del(Some(&self.network), &request).await
        })
    }

    /// Ends a pod's namespace.
    pub(super) fn end(&mut self, pod: &str) {
        self.pods.remove(pod);
    }

    fn call<T: Send>(
        &self,
        plugins: Plugins,
        work: impl AsyncFnOnce(&Runtime) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let in_process: BTreeMap<String, Arc<dyn InProcess>> = match plugins {
            Plugins::InProcess => crate::all(),
            Plugins::Binaries => BTreeMap::new(),
        };
        let runtime = Runtime::new(directories(), &self.dir.path().join("cni"), in_process);
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
    pub(super) fn snapshot(&self) -> Snapshot {
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

    pub(super) fn pod(&self, name: &str) -> &Netns {
        self.pods.get(name).unwrap()
    }
}
