use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

use parking_lot::Mutex;
use pausa_cni::{NetworkConfigList, Request, Runtime};
use tempfile::TempDir;

use super::*;
use crate::reference::{self, call, directories};

const ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48,fd00:0:0:1::1/48\n\
                   FLANNEL_IPV6_SUBNET=fd00:0:0:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// Stands for `bridge`: has addresses given, and notes what it was called with.
#[derive(Debug, Default)]
struct Bridge {
    calls: Mutex<Vec<(Command, Map<String, Value>)>>,
    fails: Mutex<bool>,
}

impl InProcess for Bridge {
    fn understands(&self, _config: &Map<String, Value>) -> Result<(), String> {
        Ok(())
    }

    fn call(&self, call: &Call, delegate: &Delegate<'_>) -> Result<Value, Failure> {
        self.calls.lock().push((call.command, call.config.clone()));
        let result = delegate.run("host-local", call)?;
        if *self.fails.lock() {
            return Err(Failure::internal("no bridge"));
        }
        Ok(result)
    }
}

/// A node with flannel and that bridge.
struct Node {
    dir: TempDir,
    bridge: Arc<Bridge>,
    runtime: Runtime,
    network: NetworkConfigList,
}

fn flannel_config(dir: &Path) -> Value {
    json!({
        "type": "flannel",
        "subnetFile": dir.join("subnet.env"),
        "dataDir": dir.join("var/flannel"),
        "delegate": {"hairpinMode": true, "isDefaultGateway": true},
        "ipam": {"dataDir": dir.join("networks"), "routes": [{"dst": "192.0.2.0/24", "mtu": 1400}]},
        "capabilities": {"portMappings": true},
    })
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("subnet.env"), ENV).unwrap();
        let bridge = Arc::new(Bridge::default());
        let mut plugins = crate::all();
        plugins.insert("bridge".to_owned(), Arc::<Bridge>::clone(&bridge));
        let list = json!({"cniVersion": "1.1.0", "name": "cbr0", "plugins": [flannel_config(dir.path())]});
        let network = NetworkConfigList::parse(list.to_string().as_bytes(), Path::new("list")).unwrap();
        Self {
            runtime: Runtime::new(Vec::new(), &dir.path().join("cache"), plugins),
            bridge,
            network,
            dir,
        }
    }

    fn saved(&self) -> PathBuf {
        self.dir.path().join("var/flannel/pod")
    }

    fn addresses(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("networks/cbr0")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names
            .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
            .collect();
        names.sort();
        names
    }

    /// The configurations of the calls since the last time.
    fn calls(&self) -> Vec<(Command, Map<String, Value>)> {
        std::mem::take(&mut *self.bridge.calls.lock())
    }
}

fn request() -> Request {
    Request {
        container_id: "pod".to_owned(),
        netns: PathBuf::from("/proc/self/ns/net"),
        if_name: "eth0".to_owned(),
        capability_args: Map::from_iter([("portMappings".to_owned(), json!([]))]),
        ..Request::default()
    }
}

/// What the bridge is given.
fn delegated(dir: &Path) -> Value {
    json!({
        "name": "cbr0", "cniVersion": "1.1.0", "type": "bridge",
        "hairpinMode": true, "isDefaultGateway": true, "isGateway": true, "ipMasq": false, "mtu": 1450,
        "runtimeConfig": {"portMappings": []},
        "ipam": {
            "type": "host-local", "dataDir": dir.join("networks"),
            "ranges": [[{"subnet": "10.244.3.0/24"}], [{"subnet": "fd00:0:0:3::/64"}]],
            "routes": [{"dst": "192.0.2.0/24", "mtu": 1400}, {"dst": "10.244.0.0/16"}, {"dst": "fd00::/48"}],
        },
    })
}

#[tokio::test]
async fn what_add_was_given_is_given_to_del() {
    let node = Node::new();
    let result = node.runtime.add(&node.network, &request()).await.unwrap();
    assert_eq!(result["ips"][0]["address"], "10.244.3.2/24");
    assert_eq!(result["ips"][1]["address"], "fd00:0:0:3::2/64");
    let expected = delegated(node.dir.path());
    assert_eq!(
        node.calls(),
        [(Command::Add, expected.as_object().unwrap().clone())]
    );
    let saved: Value = serde_json::from_slice(&fs::read(node.saved()).unwrap()).unwrap();
    assert_eq!(saved, expected);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&node.saved()), mode(node.saved().parent().unwrap())),
        (0o600, 0o700)
    );

    // The node gets another subnet, and flannel stops.
    fs::remove_file(node.dir.path().join("subnet.env")).unwrap();
    node.runtime.check(&node.network, &request()).await.unwrap();
    node.runtime.del(Some(&node.network), &request()).await.unwrap();
    let [(Command::Check, check), (Command::Del, del)] = &*node.calls() else {
        panic!("CHECK and DEL are delegated");
    };
    for config in [check, del] {
        assert_eq!(config["ipam"], expected["ipam"]);
        assert_eq!(config["prevResult"]["ips"], result["ips"]);
    }
    assert!(!node.saved().exists());
    assert!(node.addresses().is_empty());

    node.runtime.del(Some(&node.network), &request()).await.unwrap();
    assert!(node.calls().is_empty(), "there is nothing to remove");
    node.runtime.check(&node.network, &request()).await.unwrap_err();
}

#[tokio::test]
async fn a_failed_add_can_be_removed() {
    let node = Node::new();
    *node.bridge.fails.lock() = true;
    node.runtime.add(&node.network, &request()).await.unwrap_err();
    assert_eq!(node.addresses().len(), 2);
    node.runtime
        .del(Some(&node.network), &request())
        .await
        .unwrap_err();
    assert!(node.saved().exists(), "DEL has to be tried again");
    *node.bridge.fails.lock() = false;
    node.runtime.del(Some(&node.network), &request()).await.unwrap();
    assert!(!node.saved().exists());
    assert!(node.addresses().is_empty());
}

#[tokio::test]
async fn a_damaged_configuration_is_made_anew() {
    let node = Node::new();
    node.runtime.add(&node.network, &request()).await.unwrap();
    let too_large = fs::read_to_string(node.saved()).unwrap() + &" ".repeat(1 << 20);
    fs::write(node.saved(), "").unwrap();
    fs::rename(node.dir.path().join("subnet.env"), node.dir.path().join("away")).unwrap();
    node.runtime.del(Some(&node.network), &request()).await.unwrap();
    assert_eq!(node.addresses().len(), 2);
    fs::write(node.saved(), too_large).unwrap();
    fs::rename(node.dir.path().join("away"), node.dir.path().join("subnet.env")).unwrap();
    node.runtime.del(Some(&node.network), &request()).await.unwrap();
    assert!(node.addresses().is_empty());
    assert!(!node.saved().exists());
}

#[tokio::test]
async fn status_waits_for_the_daemon() {
    let node = Node::new();
    node.runtime.status(&node.network).await.unwrap();
    node.runtime.gc(&node.network, &[]).await.unwrap();
    let commands: Vec<Command> = node.calls().into_iter().map(|(command, _)| command).collect();
    assert_eq!(commands, [Command::Status, Command::Gc]);
    fs::remove_file(node.dir.path().join("subnet.env")).unwrap();
    let error = node.runtime.status(&node.network).await.unwrap_err();
    assert!(
        matches!(error, pausa_cni::Error::Plugin { code: 50, .. }),
        "{error:?}"
    );
    node.runtime.add(&node.network, &request()).await.unwrap_err();
    assert!(!node.saved().exists());
}

#[test]
fn subnet_files() {
    assert_eq!(
        SubnetEnv::parse(
            "# comment\r\nFLANNEL_SUBNET=10.1.2.1/24\r\nFLANNEL_NETWORK=10.1.0.0/16,10.1.0.0/16,10.3.0.1/16\r\n\
             FLANNEL_MTU=1500\r\nFLANNEL_IPMASQ=1\r\nOTHER=x"
        ),
        Ok(SubnetEnv {
            networks: vec!["10.1.0.0/16".parse().unwrap(), "10.3.0.0/16".parse().unwrap()],
            subnets: vec!["10.1.2.0/24".parse().unwrap()],
            mtu: 1500,
            ip_masq: false,
        })
    );
    SubnetEnv::parse(ENV).unwrap();
    for line in ENV
        .lines()
        .filter(|line| line.starts_with("FLANNEL_MTU") || line.starts_with("FLANNEL_IPMASQ"))
    {
        SubnetEnv::parse(&ENV.replace(line, "")).unwrap_err();
        SubnetEnv::parse(&ENV.replace(line, line.split_once('=').unwrap().0)).unwrap_err();
    }
    for (from, to) in [
        ("1450", "-1"),
        ("10.244.3.1/24", "10.244.3.1"),
        ("_NETWORK", ""),
        ("_SUBNET", ""),
        ("fd00::/48", ""),
    ] {
        SubnetEnv::parse(&ENV.replace(from, to)).unwrap_err();
    }
}

#[test]
fn delegates_that_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (delegate, refused) in [
        (json!(null), false),
        (json!({"type": "ipvlan"}), false),
        (json!({"type": 1}), true),
        (json!({"name": "net"}), true),
        (json!({"ipam": {}}), true),
    ] {
        let mut config = flannel_config(dir.path());
        config["delegate"] = delegate;
        let call = call(Command::Add, "pod", &config);
        Flannel.understands(&call.config).unwrap();
        let parsed: Config = configuration(&call).unwrap();
        let outcome = parsed.delegated(&call, &SubnetEnv::parse(ENV).unwrap());
        assert_eq!(outcome.is_err(), refused, "{outcome:?}");
        if let Ok(outcome) = outcome {
            assert_eq!(outcome.contains_key("isGateway"), outcome["type"] == "bridge");
        }
    }
    for unknown in [
        json!({"subnetfile": "x"}),
        json!({"delegate": "bridge"}),
        json!({"ipam": {"routes": [{"to": "0.0.0.0/0"}]}}),
        json!({"args": {}}),
    ] {
        Flannel.understands(unknown.as_object().unwrap()).unwrap_err();
    }
}

/// What the binary saves ours deletes with, and the other way round.
#[tokio::test]
#[ignore = "needs the flannel plugin, which PAUSA_CNI_PLUGINS may have"]
async fn the_binary_saves_the_same() {
    let mut paths = directories().into_iter().map(|dir| dir.join("flannel"));
    let Some(binary) = paths.find(|path| path.exists()) else {
        println!("skipped: needs the CNI plugin flannel in PAUSA_CNI_PLUGINS");
        return;
    };
    let node = Node::new();
    let bin = node.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(binary, bin.join("flannel")).unwrap();
    let script = format!(
        "#!/bin/sh\ncat > {}/$CNI_COMMAND\n[ $CNI_COMMAND = DEL ] || echo '{{\"cniVersion\": \"1.1.0\"}}'\n",
        node.dir.path().display()
    );
    fs::write(bin.join("bridge"), script).unwrap();
    fs::set_permissions(bin.join("bridge"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = flannel_config(node.dir.path());
    config["name"] = json!("cbr0");
    config["cniVersion"] = json!("1.1.0");
    config["runtimeConfig"] = json!({"portMappings": []});
    let call = |command| call(command, "pod", &config);
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();

    reference::run(&bin.join("flannel"), &call(Command::Add)).unwrap();
    let expected = delegated(node.dir.path());
    assert_eq!(read(&node.saved()), expected);
    assert_eq!(read(&node.dir.path().join("ADD")), expected);
    node.runtime.del(Some(&node.network), &request()).await.unwrap();
    assert_eq!(
        node.calls(),
        [(Command::Del, expected.as_object().unwrap().clone())]
    );
    assert!(!node.saved().exists());

    node.runtime.add(&node.network, &request()).await.unwrap();
    reference::run(&bin.join("flannel"), &call(Command::Del)).unwrap();
    assert_eq!(read(&node.dir.path().join("DEL")), expected);
    assert!(!node.saved().exists());
}
