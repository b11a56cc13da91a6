//! A node whose pods are connected by CNI plugins.

use std::os::unix::fs::PermissionsExt as _;

use super::daemon::Daemon;
use super::node::Node;

/// Has the daemon, restarted, use a CNI plugin that is this shell script. Its directory is the node's.
pub(crate) async fn use_plugin(node: &Node, script: &str) {
    let script = format!("cd {}\n{script}", node.dir().display());
    let list = r#"{"cniVersion": "1.0.0", "name": "testnet", "plugins": [{"type": "scripted"}]}"#;
    use_plugins(node, list, &[("scripted", &script)]).await;
}

/// Has the daemon, restarted, use a configuration list with these plugins, which are shell scripts.
pub(crate) async fn use_plugins(node: &Node, list: &str, scripts: &[(&str, &str)]) {
    let dir = node.dir();
    let path = |name: &str| dir.join(name).display().to_string();
    for name in ["net.d", "bin"] {
        std::fs::create_dir(dir.join(name)).expect("a new directory");
    }
    std::fs::write(dir.join("net.d/10-test.conflist"), list).expect("a configuration");
    for (name, script) in scripts {
        let plugin = dir.join("bin").join(name);
        std::fs::write(&plugin, format!("#!/bin/sh\n{script}")).expect("a plugin");
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let config = std::fs::read_to_string(dir.join("config.toml")).expect("a configuration");
    let cni = format!(
        "[cni]\nconf_dir = \"{}\"\nbin_dir = [\"{}\"]\n",
        path("net.d"),
        path("bin")
    );
    let config = config
        .replace("mode = \"bridge\"", "mode = \"cni\"")
        .replace("[cni]\n", &cni);
    std::fs::write(dir.join("config.toml"), config).expect("a configuration");
    node.daemon(Daemon::terminate);
    node.daemon(Daemon::restart);
    node.until_it_answers().await;
}
