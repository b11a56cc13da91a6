//! The daemon dies between the plugins of a network, and between an IPAM plugin and the one that delegated to it. In the end
//! every address is given back and no interface is left.

use std::process::Command;

use pausa::proto::v1;

use crate::harness::cni::use_plugins;
use crate::harness::daemon::Daemon;
use crate::harness::{Node, eventually, on_crashing_node};

/// Where plugins kill the daemon: before the bridge, after its addresses are reserved, after the bridge.
const PLACES: [&str; 3] = ["before", "ipam", "after"];

/// A plugin that kills the daemon if it is called with the command in the file `kill`, after its place. Only once.
fn killer(node: &Node, place: &str, work: &str) -> String {
    let kill = node.dir().join("kill").display().to_string();
    format!(
        "dies() {{
    test \"$(cat {kill} 2> /dev/null)\" = \"{place} $CNI_COMMAND\" || return 0
    rm {kill}
    kill -9 $PPID
    sleep 1
}}
{work}
"
    )
}

async fn use_chain(node: &Node) {
    let scripts = [
        (
            "before",
            "cat > /dev/null\ndies\ntest \"$CNI_COMMAND\" != ADD || echo '{\"cniVersion\": \"1.0.0\"}'",
        ),
        (
            "ipam",
            "result=$(sed 's/\"type\":\"ipam\"/\"type\":\"host-local\"/' | /usr/lib/cni/host-local) || \
             { echo \"$result\"; exit 1; }\ndies\necho \"$result\"",
        ),
        // Passes the result of the plugin before on.
        (
            "after",
            r#"config=$(cat)
dies
test "$CNI_COMMAND" != ADD || echo "$config" | sed 's/.*"prevResult":\({.*}\),"type".*/\1/'"#,
        ),
    ];
    let scripts = scripts.map(|(place, work)| (place, killer(node, place, work)));
    let scripts: Vec<(&str, &str)> = scripts
        .iter()
        .map(|(place, script)| (*place, script.as_str()))
        .collect();
    let list = serde_json::json!({"cniVersion": "1.0.0", "name": "testnet", "plugins": [
        {"type": "before"},
        {"type": "bridge", "bridge": node.slot().bridge(), "isDefaultGateway": true, "ipam": {
            "type": "ipam", "dataDir": node.dir().join("ipam"),
            "ranges": [[{"subnet": format!("{}/24", node.slot().subnet())}]],
        }},
        {"type": "after"},
    ]});
    use_plugins(node, &list.to_string(), &scripts).await;
}

/// Has the daemon killed in the middle of what `act` asks for, and starts it again.
async fn dies<T>(node: &Node, place: &str, command: &str, act: impl AsyncFnOnce() -> T) {
    std::fs::write(node.dir().join("kill"), format!("{place} {command}")).expect("a file");
    drop(act().await);
    eventually(&format!("the daemon dies at {place} {command}"), async || {
        node.daemon(|daemon| daemon.ended())
    })
    .await;
    assert!(!node.dir().join("kill").exists());
    node.daemon(Daemon::forget);
    node.daemon(Daemon::restart);
    node.until_it_answers().await;
    for tree in ["s/pods", "r/pods"] {
        for entry in std::fs::read_dir(node.dir().join(tree))
            .into_iter()
            .flatten()
            .flatten()
        {
            node.remember(&entry.file_name().to_string_lossy());
        }
    }
}

/// Addresses in use, and links that are ports of the bridge.
fn left(node: &Node) -> (Vec<String>, String) {
    let entries = std::fs::read_dir(node.dir().join("ipam/testnet"))
        .into_iter()
        .flatten()
        .flatten();
    let addresses = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("10."))
        .collect();
    let ports = Command::new("ip")
        .args(["-o", "link", "show", "master", &node.slot().bridge()])
        .output()
        .expect("ip");
    (addresses, String::from_utf8_lossy(&ports.stdout).into_owned())
}

async fn nothing_is_left(node: &Node, when: &str) {
    eventually(&format!("everything is given back, {when}"), async || {
        let (addresses, ports) = left(node);
        (addresses.is_empty() && ports.is_empty()).then_some(())
    })
    .await;
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_being_attached() {
    on_crashing_node(async |node| {
        node.pull("base").await;
        use_chain(node).await;
        for place in PLACES {
            dies(node, place, "ADD", async || {
                node.try_pod(&node.pod_config()).await
            })
            .await;
            nothing_is_left(node, &format!("died at {place} ADD")).await;
            let pod = node.pod().await;
            assert_eq!(pod.sh("echo works").await, "works\n");
            pod.remove().await;
            nothing_is_left(node, "removed").await;
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_being_detached() {
    on_crashing_node(async |node| {
        node.pull("base").await;
        use_chain(node).await;
        for place in PLACES {
            let pod = node.pod().await;
            dies(node, place, "DEL", async || {
                let pod_sandbox_id = pod.id.clone();
                let request = v1::StopPodSandboxRequest { pod_sandbox_id };
                node.runtime().stop_pod_sandbox(request).await
            })
            .await;
            pod.remove().await;
            nothing_is_left(node, &format!("died at {place} DEL")).await;
        }
    });
}
