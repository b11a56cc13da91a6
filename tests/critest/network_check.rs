//! `pausa network check`: what is wrong with the networks of pods.

use std::process::{Command, Stdio};

use pausa::proto::v1;
use serde_json::Value;

use crate::harness::cni::use_plugin;
use crate::harness::{Node, Pod, eventually, on_own_node, strings};

/// Exit code and document.
fn check(node: &Node, arguments: &[&str]) -> (i32, Value) {
    let output = run(node, &[&["-o", "json"], arguments].concat());
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().expect("no signal"), document)
}

fn run(node: &Node, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pausa"));
    command.args(["network", "check", "--address"]).arg(node.socket());
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("pausa runs")
}

/// What is wrong with the only pod: check and verdict of each finding. CNI CHECK has its own opinion.
fn faults(document: &Value) -> Vec<(&str, &str)> {
    let pods = document["pods"].as_array().expect("pods");
    assert_eq!(pods.len(), 1, "{document:#}");
    let findings = pods[0]["findings"].as_array().expect("findings");
    let all = findings.iter().map(|finding| {
        let text = |key: &str| finding[key].as_str().expect("a text");
        (text("check"), text("verdict"))
    });
    all.filter(|(check, _)| *check != "cni-check").collect()
}

/// Whether CHECK has failed.
fn plugins_object(document: &Value) -> bool {
    let findings = document["pods"][0]["findings"].as_array().expect("findings");
    findings
        .iter()
        .any(|finding| finding["check"] == "cni-check" && finding["verdict"] == "problem")
}

/// Runs a program of the node; it must succeed.
fn node_runs(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// ip(8) in the pod's namespace.
async fn ip_in(pod: &Pod<'_>, arguments: &[&str]) {
    let netns = pod.details().await["netns"].as_str().expect("a path").to_owned();
    let inside = format!("--net={netns}");
    node_runs("nsenter", &[&[inside.as_str(), "ip"], arguments].concat());
}

/// What every pod has, so that no uplink of a node is too narrow for it.
async fn narrow(node: &Node) {
    node.restart_with(Some("[network.bridge]\nmtu = 1280\n")).await;
}

/// A pod with a host port and a name server.
async fn usual_pod(node: &Node) -> Pod<'_> {
    narrow(node).await;
    node.pod_with(|config| {
        config.port_mappings = vec![v1::PortMapping {
            protocol: v1::Protocol::Tcp.into(),
            container_port: 8080,
            host_port: node.slot().host_port().into(),
            host_ip: String::new(),
        }];
        config.dns_config = Some(v1::DnsConfig {
            servers: strings(&["10.9.8.7"]),
            ..Default::default()
        });
    })
    .await
}

#[track_caller]
fn assert_healthy(node: &Node) {
    let (code, document) = check(node, &[]);
    assert_eq!((code, faults(&document)), (0, vec![]), "{document:#}");
    assert!(!plugins_object(&document), "{document:#}");
}

/// docs/operations.md, "Faults in the networks of pods": a healthy pod, and the ways to name it.
#[test]
#[ignore = "needs root"]
fn a_healthy_pod_has_no_findings() {
    on_own_node(async |node| {
        let pod = usual_pod(node).await;
        assert_healthy(node);
        let name = &pod.config.metadata.as_ref().expect("metadata").name;
        let full = format!("critest/{name}");
        for given in [&pod.id, &pod.id[..10], name, &full, "--all"] {
            let (code, document) = check(node, &[given]);
            assert_eq!((code, faults(&document)), (0, vec![]), "{given}: {document:#}");
            assert_eq!(document["pods"][0]["podId"], *pod.id);
        }
        let output = run(node, &[name]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(text, format!("critest/{name} ({}): ok\n", &pod.id[..13]));
        // With `-v`, what was checked.
        let (_, document) = check(node, &["-v"]);
        let findings = document["pods"][0]["findings"].as_array().expect("findings");
        for expected in [
            "namespace",
            "interface",
            "address",
            "route",
            "gateway",
            "host-end",
            "bridge",
            "mtu",
            "forwarding",
            "host-port",
            "masquerade",
            "cni-check",
            "resolv-conf",
            "duplicate-address",
        ] {
            let found = findings.iter().find(|finding| finding["check"] == expected);
            assert_eq!(found.expect(expected)["verdict"], "ok", "{document:#}");
        }
    });
}

/// One fault at a time in the pod's namespace, each mended before the next.
#[test]
#[ignore = "needs root"]
fn faults_in_the_pod_are_found_one_by_one() {
    on_own_node(async |node| {
        let pod = usual_pod(node).await;
        let address = format!("{}/24", pod.ip().await);
        let gateway = {
            let [a, b, c, _] = node.slot().subnet().octets();
            format!("{a}.{b}.{c}.1")
        };
        let default = ["route", "add", "default", "via", &gateway];
        let mac = "02:00:00:00:00:99";
        let (_, document) = check(node, &["-v"]);
        let findings = document["pods"][0]["findings"]
            .as_array()
            .expect("findings")
            .clone();
        let interface = findings.iter().find(|finding| finding["check"] == "interface");
        let found = interface.expect("an interface")["found"]
            .as_str()
            .expect("a text")
            .to_owned();
        let own_mac = found.rsplit(' ').next().expect("an address");

        ip_in(&pod, &["addr", "del", &address, "dev", "eth0"]).await;
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("address", "problem")]),
            "{document:#}"
        );
        assert!(plugins_object(&document), "{document:#}");
        ip_in(&pod, &["addr", "add", &address, "dev", "eth0"]).await;
        ip_in(&pod, &default).await;
        assert_healthy(node);

        ip_in(&pod, &["route", "del", "default"]).await;
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("route", "problem")]),
            "{document:#}"
        );
        ip_in(&pod, &default).await;
        assert_healthy(node);

        ip_in(&pod, &["link", "set", "eth0", "down"]).await;
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("interface", "problem")]),
            "{document:#}"
        );
        ip_in(&pod, &["link", "set", "eth0", "up"]).await;
        ip_in(&pod, &default).await;

        ip_in(&pod, &["link", "set", "eth0", "mtu", "1200"]).await;
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("mtu", "problem")]),
            "{document:#}"
        );
        ip_in(&pod, &["link", "set", "eth0", "mtu", "1280"]).await;

        ip_in(&pod, &["link", "set", "eth0", "address", mac]).await;
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("interface", "problem")]),
            "{document:#}"
        );
        ip_in(&pod, &["link", "set", "eth0", "address", own_mac]).await;

        ip_in(
            &pod,
            &["neigh", "replace", &gateway, "dev", "eth0", "nud", "failed"],
        )
        .await;
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("gateway", "problem")]),
            "{document:#}"
        );
        ip_in(&pod, &["neigh", "del", &gateway, "dev", "eth0"]).await;
        assert_healthy(node);
    });
}

/// One fault at a time on the node's side, of the bridge, the table and the files of this node only.
#[test]
#[ignore = "needs root"]
fn faults_of_the_node_are_found_one_by_one() {
    on_own_node(async |node| {
        let pod = usual_pod(node).await;
        let bridge = node.slot().bridge();
        let table = format!("pausa_{bridge}");

        let element = format!("{{ tcp . {} }}", node.slot().host_port());
        let port_of = |verb: &str, element: &str| {
            node_runs("nft", &[verb, "element", "ip", &table, "host_ports", element]);
        };
        // The first reconciliation after the daemon's start may restore it once.
        let (code, document) = eventually("the fault stays", async || {
            port_of("delete", &element);
            let (code, document) = check(node, &[]);
            (code != 0).then_some((code, document))
        })
        .await;
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("host-port", "problem")]),
            "{document:#}"
        );
        let [a, b, c, _] = node.slot().subnet().octets();
        let elsewhere = format!("{{ tcp . {} : {a}.{b}.{c}.99 . 8080 }}", node.slot().host_port());
        port_of("add", &elsewhere);
        let (_, document) = check(node, &[]);
        assert_eq!(faults(&document), [("host-port", "problem")], "{document:#}");
        let found = document["pods"][0]["findings"][0]["found"]
            .as_str()
            .expect("a text");
        assert!(found.contains(&format!("{a}.{b}.{c}.99:8080")), "{found}");
        port_of("delete", &element);
        let mended = format!(
            "{{ tcp . {} : {} . 8080 }}",
            node.slot().host_port(),
            pod.ip().await
        );
        port_of("add", &mended);
        assert_healthy(node);

        node_runs("nft", &["flush", "chain", "ip", &table, "postrouting"]);
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("masquerade", "problem")]),
            "{document:#}"
        );
        // The daemon that comes next does not know what is installed; the next pod makes the rules again.
        node.kill_and_restart_daemon().await;
        let (_, document) = check(node, &[]);
        assert_eq!(faults(&document), [("masquerade", "problem")], "{document:#}");
        node.pod().await.remove().await;
        assert_healthy(node);

        let sysctl = format!("/proc/sys/net/ipv4/conf/{bridge}/forwarding");
        std::fs::write(&sysctl, "0").expect("a sysctl");
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("forwarding", "problem")]),
            "{document:#}"
        );
        std::fs::write(&sysctl, "1").expect("a sysctl");

        let gateway = format!("{a}.{b}.{c}.1/24");
        node_runs("ip", &["addr", "del", &gateway, "dev", &bridge]);
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("bridge", "problem")]),
            "{document:#}"
        );
        node_runs("ip", &["addr", "add", &gateway, "dev", &bridge]);

        let resolv_conf = node.dir().join("s/pods").join(&pod.id).join("resolv.conf");
        let text = std::fs::read(&resolv_conf).expect("a file");
        std::fs::write(&resolv_conf, "").expect("a file");
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("resolv-conf", "problem")]),
            "{document:#}"
        );
        std::fs::write(&resolv_conf, text).expect("a file");
        assert_healthy(node);

        let listener = std::net::TcpListener::bind(("0.0.0.0", node.slot().host_port())).expect("a socket");
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (0, vec![("host-port", "info")]),
            "{document:#}"
        );
        drop(listener);

        let ports = node_runs("ip", &["-o", "link", "show", "master", &bridge]);
        let port = ports.split([':', '@']).nth(1).expect("a port").trim().to_owned();
        node_runs("ip", &["link", "set", &port, "nomaster"]);
        let (code, document) = check(node, &[]);
        assert_eq!(
            (code, faults(&document)),
            (1, vec![("host-end", "problem")]),
            "{document:#}"
        );
        assert!(plugins_object(&document), "{document:#}");
        node_runs("ip", &["link", "set", &port, "master", &bridge]);
        assert_healthy(node);
    });
}

/// Pods without a network to check are said to be that.
#[test]
#[ignore = "needs root"]
fn pods_that_cannot_be_checked_are_named() {
    on_own_node(async |node| {
        let pod = node
            .pod_with(|config| {
                let security = crate::harness::pod::pod_security(config);
                let options = security.namespace_options.get_or_insert_default();
                options.network = v1::NamespaceMode::Node.into();
            })
            .await;
        let (code, document) = check(node, &[&pod.id]);
        assert_eq!((code, faults(&document)), (0, vec![]));
        let why = document["pods"][0]["skipped"].as_str().expect("a reason");
        assert!(why.contains("the network of the node"), "{why}");

        narrow(node).await;
        let stopped = node.pod().await;
        stopped.stop().await;
        let (code, document) = check(node, &[&stopped.id]);
        assert_eq!((code, faults(&document)), (2, vec![]));
        let why = document["pods"][0]["skipped"].as_str().expect("a reason");
        assert!(why.contains("stopped"), "{why}");
        // It is not a ready pod.
        let (code, document) = check(node, &["--all"]);
        assert_eq!((code, document["pods"].as_array().map(Vec::len)), (0, Some(1)));

        let output = run(node, &["nobody"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            text.contains("no pod has the id or the name \"nobody\""),
            "{text}"
        );

        let twin = |namespace: &str| {
            let mut config = node.pod_config();
            let metadata = config.metadata.get_or_insert_default();
            metadata.name = "twin".to_owned();
            metadata.namespace = namespace.to_owned();
            config
        };
        let first = node.run_pod(twin("a")).await;
        node.run_pod(twin("b")).await;
        let output = run(node, &["twin"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            text.contains("more than one pod") && text.contains("a/twin"),
            "{text}"
        );
        let (code, document) = check(node, &["a/twin"]);
        assert_eq!(
            (code, &document["pods"][0]["podId"]),
            (0, &first.id.clone().into())
        );
    });
}

/// CNI 1.1.0, CHECK: with the configuration and result of ADD; what the plugin says is in the finding, with its name. A pod can
/// be stopped while a plugin hangs.
#[test]
#[ignore = "needs root"]
fn what_a_plugin_says_is_a_finding() {
    on_own_node(async |node| {
        node.pull("base").await;
        let script = r#"case $CNI_COMMAND in
ADD) echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "lo", "sandbox": "x"}], "ips": [{"address": "127.0.0.1/8"}]}' ;;
CHECK)
    cat > check.json
    test ! -e hang || { touch hangs; exec sleep 3600; }
    test ! -e broken || { echo '{"code": 123, "msg": "the tunnel is gone"}'; exit 1; } ;;
esac
"#;
        use_plugin(node, script).await;
        let mut config = node.pod_config();
        config.dns_config = Some(v1::DnsConfig {
            servers: strings(&["127.0.0.1"]),
            ..Default::default()
        });
        let pod = node.run_pod(config).await;
        let (code, document) = check(node, &["-v"]);
        assert_eq!(code, 0, "{document:#}");
        assert!(!plugins_object(&document), "{document:#}");
        let given = std::fs::read(node.dir().join("check.json")).expect("what the plugin got");
        let given: Value = serde_json::from_slice(&given).expect("JSON");
        assert_eq!(
            given["prevResult"]["ips"][0]["address"], "127.0.0.1/8",
            "{given:#}"
        );

        std::fs::write(node.dir().join("broken"), "").expect("a file");
        let (code, document) = check(node, &[]);
        assert_eq!(code, 1, "{document:#}");
        let findings = document["pods"][0]["findings"].as_array().expect("findings");
        let found = findings.iter().find(|finding| finding["check"] == "cni-check");
        let text = found.expect("CHECK")["found"].as_str().expect("a text");
        assert!(
            text.contains("\"scripted\"") && text.contains("the tunnel is gone"),
            "{text}"
        );

        std::fs::write(node.dir().join("hang"), "").expect("a file");
        let socket = node.socket().to_owned();
        let id = pod.id.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pausa"));
            command
                .args(["network", "check", "--address"])
                .arg(socket)
                .arg(id);
            command.output().expect("pausa runs")
        });
        crate::harness::eventually("the plugin hangs", async || {
            node.dir().join("hangs").exists().then_some(())
        })
        .await;
        pod.stop().await;
        let output = checked.await.expect("a task");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("not checked: the pod is"), "{text}");
    });
}
