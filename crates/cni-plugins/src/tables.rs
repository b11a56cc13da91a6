//! What the tests of rules have in common: network namespaces, the reference plugins, and the tables as text.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs a test on a thread in a network namespace that ends with it. Programs it starts are in the same namespace.
pub(crate) fn in_new_netns<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        output(Command::new("ip").args(["link", "set", "lo", "up"]));
        test()
    };
    std::thread::spawn(run).join().unwrap()
}

/// Another network namespace that lives as long as the file, and its path for other processes.
pub(crate) fn pod() -> (File, String) {
    let open = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    let file = std::thread::spawn(open).join().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    (file, path)
}

pub(crate) fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed?"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn directories() -> String {
    std::env::var("PAUSA_CNI_PLUGINS").unwrap_or_else(|_| "/usr/lib/cni".to_owned())
}

/// Whether the reference plugin understands a setting: older releases do not have it in them.
pub(crate) fn plugin_has(name: &str, word: &str) -> bool {
    let binary = std::fs::read(plugin(name)).unwrap();
    binary.windows(word.len()).any(|window| window == word.as_bytes())
}

fn plugin(name: &str) -> PathBuf {
    let directories = directories();
    directories
        .split(':')
        .map(|directory| PathBuf::from(directory).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!("there is no {name} in {directories}: set PAUSA_CNI_PLUGINS, or install the plugins")
        })
}

/// Calls the reference plugin.
pub(crate) fn reference(
    name: &str,
    command: &str,
    container: &str,
    netns: &str,
    config: &Value,
) -> Result<Value, String> {
    let mut child = Command::new(plugin(name))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", directories())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(config.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        Ok(serde_json::from_str(&text).unwrap_or_default())
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// All rules, as iptables and nft list them: without counters, numbers, comments of tables, and the order of chains.
pub(crate) fn tables() -> Vec<String> {
    let mut lines = Vec::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let mut table = String::new();
        let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in output(&mut Command::new(program)).lines() {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
            } else if line.starts_with("-A") || line.starts_with(':') && line.contains(" - ") {
                let words: Vec<_> = line.split(' ').collect();
                let chain = if words[0] == "-A" { words[1] } else { "" };
                let line = line.split(" [").next().unwrap().to_owned();
                rules
                    .entry(format!("{program} {table} {chain}"))
                    .or_default()
                    .push(line);
            }
        }
        for (chain, mut rules) in rules {
            if chain.ends_with(' ') {
                rules.sort();
            }
            lines.extend(rules.iter().map(|rule| format!("{chain}: {rule}")));
        }
    }
    let listing: Value =
        serde_json::from_str(&output(Command::new("nft").args(["-j", "list", "ruleset"]))).unwrap();
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in listing["nftables"].as_array().unwrap() {
        let (kind, value) = item.as_object().unwrap().iter().next().unwrap();
        let mut value = value.clone();
        // iptables makes its tables even when it deletes something.
        if kind == "metainfo" || kind == "table" && (value["name"] == "nat" || value["name"] == "filter") {
            continue;
        }
        let object = value.as_object_mut().unwrap();
        object.remove("handle");
        if kind != "rule" {
            object.remove("comment");
        }
        let key = format!(
            "nft {kind} {} {} {}",
            value["family"], value["table"], value["chain"]
        );
        let text = value.to_string();
        // The counts of packets are not the same in two runs.
        let text = text
            .split("\"bytes\":")
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        let text = text.collect::<Vec<_>>().join("");
        let text = text
            .split("\"packets\":")
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        chains
            .entry(key)
            .or_default()
            .push(text.collect::<Vec<_>>().join(""));
    }
    for (key, mut items) in chains {
        if !key.starts_with("nft rule") {
            items.sort();
        }
        lines.extend(items.iter().map(|item| format!("{key}: {item}")));
    }
    lines
}
