//! Where plugins are shell scripts, and what the tests call them with.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pausa_cni::{InProcess, NetworkConfigList, Request, Runtime};
use serde_json::{Value, json};

pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: Runtime,
}

impl Node {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        let runtime = runtime(&dir, BTreeMap::new());
        Self { dir, runtime }
    }

    /// Another runtime for the same plugins, some of which are implemented in process.
    pub(crate) fn runtime_with(&self, in_process: BTreeMap<String, Arc<dyn InProcess>>) -> Runtime {
        runtime(&self.dir, in_process)
    }

    /// Installs a plugin; each call appends the command to `calls` and keeps stdin in `<type>.<command>`.
    pub(crate) fn plugin(&self, name: &str, body: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "#!/bin/sh\ncd {dir}\necho {name} $CNI_COMMAND >> calls\ncat > {name}.$CNI_COMMAND\n{body}\n"
        );
        let path = self.dir.path().join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn stdin(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.dir.path().join(file)).unwrap()).unwrap()
    }

    pub(crate) fn cache_files(&self) -> usize {
        fs::read_dir(self.dir.path().join("cni/results")).map_or(0, Iterator::count)
    }
}

fn runtime(dir: &tempfile::TempDir, in_process: BTreeMap<String, Arc<dyn InProcess>>) -> Runtime {
    Runtime::new(vec![dir.path().join("bin")], &dir.path().join("cni"), in_process)
}

pub(crate) fn network(value: &Value) -> NetworkConfigList {
    NetworkConfigList::parse(value.to_string().as_bytes(), Path::new("test.conflist")).unwrap()
}

pub(crate) fn chain(version: &str) -> NetworkConfigList {
    network(&json!({"cniVersion": version, "name": "net", "plugins": [
        {"type": "first", "capabilities": {"portMappings": true}}, {"type": "second"},
    ]}))
}

pub(crate) fn request() -> Request {
    Request {
        container_id: "c1".to_owned(),
        netns: PathBuf::from("/var/run/netns/none"),
        if_name: "eth0".to_owned(),
        args: vec![
            ("IgnoreUnknown".to_owned(), "1".to_owned()),
            ("K8S_POD_NAME".to_owned(), "p".to_owned()),
        ],
        capability_args: json!({"portMappings": [{"hostPort": 80}], "dns": {}})
            .as_object()
            .unwrap()
            .clone(),
    }
}

pub(crate) const ADDRESS: &str = r#"if [ $CNI_COMMAND = ADD ]; then echo '{"cniVersion":"1.0.0","mine":1,"ips":[{"address":"10.1.0.5/16"}]}'; fi"#;
pub(crate) const PASS: &str =
    r#"if [ $CNI_COMMAND = ADD ]; then sed 's/.*"prevResult":\({.*}\),"type".*/\1/' < second.ADD; fi"#;
