//! For tests: the tables of netfilter as text, and calls of the plugins that change them.

use std::collections::BTreeMap;
use std::process::Command;

use pausa_cni::Command as CniCommand;
use serde_json::{Value, json};

use crate::reference::{Netns, binaries, call, run};
pub(crate) use crate::reference::{in_new_netns, output};

/// Another network namespace that lives as long as the value, and its path.
pub(crate) fn pod() -> (Netns, String) {
    let netns = Netns::new();
    let path = netns.path().display().to_string();
    (netns, path)
}

/// Whether the reference plugin understands a setting: older releases do not have it in them.
pub(crate) fn plugin_has(name: &str, word: &str) -> bool {
    let binary = std::fs::read(&binaries(name)[0]).unwrap();
    binary.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Calls the reference plugin: the first of its type.
pub(crate) fn reference(
    name: &str,
    command: &str,
    container: &str,
    netns: &str,
    config: &Value,
) -> Result<Value, String> {
    let commands = [CniCommand::Add, CniCommand::Check, CniCommand::Del];
    let command = commands.into_iter().find(|known| known.as_str() == command);
    let mut call = call(command.unwrap(), container, config);
    call.netns = netns.into();
    run(&binaries(name)[0], &call)
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
        // Releases of iptables write the matches of a rule in different orders, and the protocol in different ways.
        let of_iptables = matches!(object["family"].as_str(), Some("ip" | "ip6"));
        if let Some(parts) = object
            .get_mut("expr")
            .and_then(Value::as_array_mut)
            .filter(|_| of_iptables)
        {
            for part in &mut *parts {
                let of_header = [
                    json!({"payload": {"field": "protocol", "protocol": "ip"}}),
                    json!({"payload": {"field": "nexthdr", "protocol": "ip6"}}),
                ];
                if let Some(left) = part.pointer_mut("/match/left")
                    && of_header.contains(left)
                {
                    *left = json!({"meta": {"key": "l4proto"}});
                }
            }
            parts.sort_by_key(ToString::to_string);
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
