//! CNI with the stock plugins (bridge, host-local, portmap), and with scripts where something has to go wrong.

use crate::error::Kinded;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn write_conflist(node: &Node, text: &Value) {
    fs::create_dir_all(node.path("net.d")).unwrap();
    fs::write(node.path("net.d/10-test.conflist"), text.to_string()).unwrap();
}

fn stock(node: &Node, version: &str) -> Value {
    json!({"cniVersion": version, "name": "testnet", "plugins": [
        {"type": "loopback"},
        {"type": "bridge", "bridge": "ctest0", "isGateway": true, "ipam": {
            "type": "host-local", "dataDir": node.path("ipam"), "ranges": [[{"subnet": "10.124.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn script(node: &Node, name: &str, body: &str) {
    fs::create_dir_all(node.path("bin")).unwrap();
    let path = node.path("bin").join(name);
    let dir = node.dir.path().display();
    fs::write(
        &path,
        format!("#!/bin/sh\ncd {dir}\necho $CNI_COMMAND \"$CNI_NETNS\" >> calls\n{body}\n"),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn has_stock_plugins() -> bool {
    let there = Path::new("/usr/lib/cni/portmap").exists();
    if !there {
        println!("skipped: needs the stock CNI plugins in /usr/lib/cni");
    }
    there
}

#[test]
#[ignore = "needs root"]
fn stock_plugins_connect_pods_in_every_version() {
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let Some(node) = Some(Node::new()).filter(|_| has_stock_plugins()) else {
            return;
        };
        write_conflist(&node, &stock(&node, version));
        let network = Network::new(node.config(NetworkMode::Cni));
        let (a, mut pod_a) = node.pod("a");
        let (b, pod_b) = node.pod("b");
        pod_a.port_mappings = vec![PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: 8080,
            host_ip: None,
        }];
        let (first, second) = node.run(async || {
            (
                network.attach(&pod_a).await.unwrap(),
                network.attach(&pod_b).await.unwrap(),
            )
        });
        assert_eq!(
            (first.ips.len(), second.ips.len()),
            (1, 1),
            "the loopback plugin's addresses are not the pod's"
        );
        assert_ne!(first.ips, second.ips);
        assert_eq!(first.network, "testnet");
        let target = format!("{}:80", first.ips[0]);
        assert!(connects(&b, &a, &target, &target));
        assert!(
            connects(&node.host, &a, "0.0.0.0:80", "10.124.0.1:8080"),
            "host port"
        );
        assert_eq!(count(&node.path("cni/results"), |_| true), 2);

        b.remove();
        let network = Network::new(node.config(NetworkMode::Cni));
        node.run(async || {
            network.detach(&pod_a, true).await.unwrap();
            network.detach(&pod_a, true).await.unwrap();
            network.detach(&pod_b, false).await.unwrap();
        });
        assert_eq!(a.links(), ["lo"]);
        assert_eq!(count(&node.path("cni/results"), |_| true), 0);
        assert_eq!(
            count(&node.path("ipam/testnet"), |name| name.starts_with("10.124.0")),
            0
        );
        assert!(!connects(&node.host, &a, "0.0.0.0:80", "10.124.0.1:8080"));
    }
}

#[test]
#[ignore = "needs root"]
fn a_chain_that_fails_in_the_middle_leaves_nothing() {
    let Some(node) = Some(Node::new()).filter(|_| has_stock_plugins()) else {
        return;
    };
    let mut list = stock(&node, "1.0.0");
    list["plugins"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "broken"}));
    write_conflist(&node, &list);
    script(
        &node,
        "broken",
        "if [ $CNI_COMMAND = ADD ]; then echo '{\"code\":7,\"msg\":\"no\"}'; exit 1; fi",
    );
    let network = Network::new(node.config(NetworkMode::Cni));
    let (a, pod) = node.pod("a");
    node.run(async || {
        let error = network.attach(&pod).await.unwrap_err();
        assert!(crate::error::chain(&error).contains("no (code 7)"), "{error:?}");
    });
    assert_eq!(a.links(), ["lo"]);
    assert_eq!(
        count(&node.path("ipam/testnet"), |name| name.starts_with("10.124.0")),
        0
    );
    assert_eq!(count(&node.path("cni/results"), |_| true), 0);
}

const ADDRESS: &str = "echo '{\"ips\":[{\"address\":\"10.9.9.9/24\"}]}'";

#[test]
#[ignore = "needs root"]
fn readiness_follows_the_directory_and_the_plugins() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Cni));
    let (_a, pod) = node.pod("a");
    node.run(async || {
        let reason = network.readiness().unwrap_err();
        assert_eq!(reason.reason, "NetworkPluginNotReady");
        let error = network.attach(&pod).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Unavailable);
        assert!(network.wait_ready(Duration::from_millis(1)).await.is_err());

        write_conflist(
            &node,
            &json!({"cniVersion": "1.1.0", "name": "../n", "plugins": [{"type": "fake"}]}),
        );
        assert!(
            network
                .readiness()
                .unwrap_err()
                .message
                .contains("`name` must be")
        );
        assert!(
            network.describe()["lastCNILoadStatus"]
                .as_str()
                .unwrap()
                .contains("10-test.conflist")
        );

        write_conflist(
            &node,
            &json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "fake"}]}),
        );
        script(
            &node,
            "fake",
            "if [ -e sick ]; then echo '{\"code\":50,\"msg\":\"no uplink\"}'; exit 1; fi",
        );
        network.wait_ready(Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            network.describe()["cniconfig"]["Networks"][0]["Config"]["Name"],
            "n"
        );
        fs::write(node.path("sick"), "").unwrap();
        network.probe().await;
        assert!(network.readiness().unwrap_err().message.contains("no uplink"));
        fs::remove_file(node.path("sick")).unwrap();
        network.probe().await;
        network.readiness().unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn plugins_get_what_kubernetes_promises_them() {
    let node = Node::new();
    let capabilities = json!({"portMappings": true, "bandwidth": true, "dns": true, "ipRanges": true,
        "cgroupPath": true, "io.kubernetes.cri.pod-annotations": true});
    write_conflist(
        &node,
        &json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "fake", "capabilities": capabilities},
        ]}),
    );
    script(
        &node,
        "fake",
        &format!("echo $CNI_ARGS > args; cat > stdin.$CNI_COMMAND; {ADDRESS}"),
    );
    let network = Network::new(node.config(NetworkMode::Cni));
    let (_a, mut pod) = node.pod("a");
    pod.annotations
        .insert("kubernetes.io/egress-bandwidth".to_owned(), "10M".to_owned());
    pod.cgroup_parent = "/kubepods/x".to_owned();
    pod.dns = Some(files::DnsConfig {
        servers: vec!["1.1.1.1".to_owned()],
        ..files::DnsConfig::default()
    });
    let unused = PortMapping {
        protocol: Protocol::Udp,
        container_port: 53,
        host_port: 0,
        host_ip: None,
    };
    pod.port_mappings = vec![unused.clone()];
    let stdin = |command: &str| -> Value {
        serde_json::from_slice(&fs::read(node.path(&format!("stdin.{command}"))).unwrap()).unwrap()
    };
    node.run(async || {
        network.set_pod_cidr("10.9.9.0/24,fd00::/64").await.unwrap();
        network.attach(&pod).await.unwrap();
        assert_eq!(
            stdin("ADD")["runtimeConfig"],
            json!({
                "bandwidth": {"egressRate": 10_000_000, "egressBurst": 4_294_967_295_u32},
                "dns": {"servers": ["1.1.1.1"], "searches": [], "options": []},
                "ipRanges": [[{"subnet": "10.9.9.0/24"}], [{"subnet": "fd00::/64"}]],
                "cgroupPath": "/kubepods/x",
                "io.kubernetes.cri.pod-annotations": {"kubernetes.io/egress-bandwidth": "10M"},
            }),
            "a port mapping without a host port is none"
        );
        let evil = PodNetwork {
            name: "p;K8S_POD_UID=other".to_owned(),
            ..pod.clone()
        };
        let error = network.attach(&evil).await.unwrap_err();
        assert!(matches!(error, NetworkError::InvalidPod { .. }), "{error:?}");
        network.detach(&evil, true).await.unwrap();
        let args = fs::read_to_string(node.path("args")).unwrap();
        let id = &pod.pod_id;
        assert_eq!(
            args.trim(),
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;\
            K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=u-1"
            )
        );
        pod.port_mappings = vec![PortMapping {
            host_port: 53,
            ..unused
        }];
        network.attach(&pod).await.unwrap();
        let expected = json!([{"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": ""}]);
        assert_eq!(stdin("ADD")["runtimeConfig"]["portMappings"], expected);
        network.detach(&pod, true).await.unwrap();
        assert_eq!(stdin("DEL")["runtimeConfig"]["portMappings"], expected);
    });
}

#[test]
#[ignore = "needs root"]
fn an_abandoned_attach_ends_with_a_delete() {
    let node = Node::new();
    write_conflist(
        &node,
        &json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "slow"}]}),
    );
    script(
        &node,
        "slow",
        &format!("if [ $CNI_COMMAND = ADD ]; then sleep 1000; fi; {ADDRESS}"),
    );
    let network = Network::new(node.config(NetworkMode::Cni));
    let (_a, pod) = node.pod("a");
    let calls = || fs::read_to_string(node.path("calls")).unwrap_or_default();
    node.run(async || {
        let attach = tokio::spawn({
            let (network, pod) = (network.clone(), pod.clone());
            async move { network.attach(&pod).await }
        });
        let called = async |command: &str| {
            for _ in 0..6000 {
                if calls().contains(command) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("the plugin was never called with {command}");
        };
        called("ADD").await;
        attach.abort();
        called("DEL").await;
    });
    assert_eq!(calls(), format!("ADD {0}\nDEL {0}\n", pod.netns.display()));
}

#[test]
#[ignore = "needs root"]
fn a_failed_undo_is_reported_and_can_be_repeated() {
    let node = Node::new();
    write_conflist(
        &node,
        &json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bad"}]}),
    );
    script(
        &node,
        "bad",
        "echo '{\"code\":101,\"msg\":\"broken '$CNI_COMMAND'\"}'; exit 1",
    );
    let network = Network::new(node.config(NetworkMode::Cni));
    let (_a, pod) = node.pod("a");
    node.run(async || {
        let error = network.attach(&pod).await.unwrap_err();
        assert!(matches!(error, NetworkError::NotUndone { .. }), "{error:?}");
        let text = crate::error::chain(&error);
        for said in ["broken ADD", "undoing it failed too", "broken DEL"] {
            assert!(text.contains(said), "{text}");
        }
        assert!(network.detach(&pod, true).await.is_err());
        script(&node, "bad", "true");
        network.detach(&pod, false).await.unwrap();
    });
    let calls = fs::read_to_string(node.path("calls")).unwrap();
    assert!(
        calls.ends_with("DEL \n"),
        "a namespace that is gone is an empty path: {calls:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn garbage_is_what_has_neither_a_pod_nor_a_namespace() {
    let node = Node::new();
    write_conflist(
        &node,
        &json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "fake"}]}),
    );
    script(&node, "fake", &format!("cat > stdin.$CNI_COMMAND; {ADDRESS}"));
    let network = Network::new(node.config(NetworkMode::Cni));
    let (_live, live) = node.pod("live");
    let (_other, other) = node.pod("other");
    let (dead_netns, dead) = node.pod("dead");
    node.run(async || {
        for pod in [&live, &other, &dead] {
            network.attach(pod).await.unwrap();
        }
        dead_netns.remove();
        // As libcni before 1.3 writes it, for a pod of another runtime that may be running.
        let foreign = json!({
            "kind": "cniCacheV1", "containerId": "foreign", "ifName": "eth0", "networkName": "n",
            "config": STANDARD.encode(fs::read(node.path("net.d/10-test.conflist")).unwrap()),
        });
        fs::write(node.path("cni/results/n-foreign-eth0"), foreign.to_string()).unwrap();
        assert_eq!(network.collect_garbage(pods(&[&live])).await.unwrap(), 1);
    });
    assert_eq!(
        count(&node.path("cni/results"), |_| true),
        3,
        "foreign attachments stay if they have a namespace or it is not known"
    );
    assert!(node.path("cni/results/n-foreign-eth0").exists());
    let gc: Value = serde_json::from_slice(&fs::read(node.path("stdin.GC")).unwrap()).unwrap();
    let expected = json!([
        {"containerID": "foreign", "ifname": "eth0"},
        {"containerID": live.pod_id, "ifname": "eth0"}, {"containerID": other.pod_id, "ifname": "eth0"},
    ]);
    assert_eq!(gc["cni.dev/valid-attachments"], expected);
}

#[tokio::test]
async fn another_directory_of_configurations_can_be_taken() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str, mode| NetworkConfig {
        mode,
        cni_conf_dir: dir.path().join(name),
        cni_bin_dirs: vec![dir.path().join("bin")],
        cni_cache_dir: dir.path().join("cache"),
        ..NetworkConfig::default()
    };
    std::fs::create_dir(dir.path().join("full")).unwrap();
    let list = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "ptp"}]}"#;
    std::fs::write(dir.path().join("full/a.conflist"), list).unwrap();
    let network = Network::new(config("empty", NetworkMode::Cni));
    let message = network.readiness().unwrap_err().message;
    assert!(message.contains("empty"), "{message}");
    network.configure(config("full", NetworkMode::Cni));
    network.readiness().unwrap();
    assert_eq!(
        network.describe()["cniconfig"]["PluginConfDir"],
        dir.path().join("full").to_str().unwrap()
    );
    network.configure(config("empty", NetworkMode::Cni));
    network.readiness().unwrap_err();
}
