//! What an NRI plugin adds to the start and end of a pod.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use pausa::proto::v1::NamespaceMode;
use pausa_nri::testing::FakePlugin;
use tokio::task::AbortHandle;

use crate::harness::Node;
use crate::harness::pod::pod_security;
use crate::latency;
use crate::table::Table;

/// The events of pods and containers, which plugins of policies subscribe to; not the validation of adjustments.
const EVENTS: i32 = (1 << 13) - 1;

/// Starts pods in pairs, one of them with the plugin, in alternating order, and takes the differences. The pods are on the
/// node's network, whose setup varies by more than a plugin costs.
pub(crate) async fn measure(nodes: &[(String, Node)], sockets: &[(String, PathBuf)], pairs: usize) -> Table {
    let mut table = Table::new(sockets.iter().map(|(name, _)| name.clone()));
    for pair in 0..pairs {
        for (name, socket) in sockets {
            let node = nodes.iter().find(|(node, _)| node == name);
            let (_, node) = node.unwrap_or_else(|| panic!("--nri {name}: no such runtime"));
            let (without, with) = match pair % 2 {
                0 => (one_pod(node, None).await, one_pod(node, Some(socket)).await),
                _ => {
                    let with = one_pod(node, Some(socket)).await;
                    (one_pod(node, None).await, with)
                }
            };
            for ((what, without), (_, with)) in without.into_iter().zip(with) {
                table.add(&format!("{what}, without"), "ms", name, without);
                table.add(&format!("{what}, the plugin adds"), "ms", name, with - without);
            }
        }
    }
    table
}

/// Starts and ends a pod. Gives what that took, in milliseconds.
async fn one_pod(node: &Node, plugin: Option<&PathBuf>) -> Vec<(&'static str, f64)> {
    let plugin = match plugin {
        Some(socket) => Some(answer_at_once(socket).await),
        None => None,
    };
    let mut config = node.pod_config();
    config.hostname.clear();
    let options = pod_security(&mut config)
        .namespace_options
        .get_or_insert_default();
    options.set_network(NamespaceMode::Node);
    let started = latency::start_with(node, config).await;
    let ended = latency::end(&started.pod).await;
    if let Some(plugin) = plugin {
        plugin.abort();
    }
    let times = started.times.into_iter().chain(ended);
    times
        .map(|(what, took)| (what, took.as_secs_f64() * 1000.0))
        .collect()
}

/// Joins a runtime with a plugin that wants nothing.
async fn answer_at_once(socket: &Path) -> AbortHandle {
    let (mut plugin, _) = FakePlugin::join(socket, "10", "bench", EVENTS).await;
    let task = tokio::spawn(async move {
        while let Some(call) = plugin.next_call().await {
            plugin.answer_bytes(call.stream, Bytes::new()).await;
        }
    });
    task.abort_handle()
}
