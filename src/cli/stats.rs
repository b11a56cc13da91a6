//! `pausa stats`: what containers use, once or again and again.
//!
//! `pausa top` shows more, with the calls that only pausa has; this command asks with CRI's ListContainerStats.

use std::num::NonZeroU32;

use clap::Args;
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::objects::{Objects, container_name};
use super::output::{Format, OutputFlags, Table, print, print_json};
use super::screen::{self, Line, Output, Size};
use super::selection::Selection;
use super::units;
use crate::proto::v1::{ContainerStats, ListContainerStatsRequest, UInt64Value};

/// What is not known.
const NOTHING: &str = "-";

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    selection: Selection,
    /// Print again and again until interrupted.
    #[arg(long, short)]
    watch: bool,
    /// Seconds between two prints.
    #[arg(long, value_name = "SECONDS", default_value = "2", requires = "watch")]
    interval: NonZeroU32,
    /// Only these containers: NAMESPACE/POD/CONTAINER or the end of it, or the beginning of an id.
    #[arg(value_name = "CONTAINER", add = ArgValueCompleter::new(complete::containers))]
    containers: Vec<String>,
}

/// What `-o json` prints (`docs/operations.md`). What the runtime does not know is absent.
#[derive(Debug, Serialize)]
struct Document {
    containers: Vec<Usage>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    id: String,
    name: String,
    namespace: String,
    pod: String,
    pod_id: String,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    /// Billionths of a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_nano_cores: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_nano_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_set_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
    /// Of the writable layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_inodes: Option<u64>,
}

pub(super) fn run(args: &StatsArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        if !args.watch {
            let document = ask(&daemon, args).await?;
            return match args.output.format {
                Format::Json => print_json(&document),
                Format::Table => {
                    let lines = lines(&document, Size::of_stdout());
                    print(&screen::text(&lines, Output::new().coloured))
                }
            };
        }
        let ask = async || ask(&daemon, args).await;
        screen::watch_every(args.interval, args.output.format, ask, lines).await
    })
}

async fn ask(daemon: &Daemon, args: &StatsArgs) -> anyhow::Result<Document> {
    let request = ListContainerStatsRequest::default();
    let mut runtime = daemon.runtime();
    let (objects, answer) = tokio::join!(Objects::list(daemon), runtime.list_container_stats(request));
    let objects = objects?;
    let stats = answer
        .map_err(daemon.failed("ListContainerStats"))?
        .into_inner()
        .stats;
    let named = args
        .containers
        .iter()
        .map(|given| objects.container(given).map(|one| &one.id));
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let mut containers = Vec::new();
    for stats in stats {
        let id = stats.attributes.as_ref().map_or("", |attributes| &attributes.id);
        // One that has gone between two answers is left out.
        let Some(container) = objects.containers.iter().find(|one| one.id == id) else {
            continue;
        };
        let Some(pod) = objects.pod_with(container) else {
            continue;
        };
        let metadata = pod.metadata.clone().unwrap_or_default();
        let is_named = named.is_empty() || named.contains(&&container.id);
        if is_named
            && args
                .selection
                .has(&metadata.namespace, &metadata.name, &pod.id, &pod.labels)
        {
            let name = container_name(container).to_owned();
            containers.push(Usage {
                id: container.id.clone(),
                name,
                namespace: metadata.namespace,
                pod: metadata.name,
                pod_id: pod.id.clone(),
                figures: figures(stats),
            });
        }
    }
    // The order of a list means nothing.
    containers
        .sort_by(|a, b| (&a.namespace, &a.pod, &a.name, &a.id).cmp(&(&b.namespace, &b.pod, &b.name, &b.id)));
    Ok(Document { containers })
}

fn figures(stats: ContainerStats) -> Figures {
    let value = |value: Option<UInt64Value>| value.map(|value| value.value);
    let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
    let disk = stats.writable_layer.unwrap_or_default();
    let working_set_bytes = value(memory.working_set_bytes);
    // 0 for "no limit" comes from containerd, which otherwise says what is left below it.
    let available = value(memory.available_bytes).filter(|available| *available > 0);
    Figures {
        cpu_nano_cores: value(cpu.usage_nano_cores),
        cpu_nano_seconds: value(cpu.usage_core_nano_seconds),
        working_set_bytes,
        memory_limit_bytes: available.and_then(|left| left.checked_add(working_set_bytes?)),
        rss_bytes: value(memory.rss_bytes),
        swap_bytes: stats.swap.and_then(|swap| value(swap.swap_usage_bytes)),
        disk_bytes: value(disk.used_bytes),
        disk_inodes: value(disk.inodes_used),
    }
}

fn lines(document: &Document, size: Option<Size>) -> Vec<Line> {
    let mut table = Table::new([
        "NAME", "CPU>", "MEMORY>", "LIMIT>", "RSS>", "SWAP>", "DISK>", "INODES>",
    ]);
    let or_nothing =
        |value: Option<u64>, shown: fn(u64) -> String| value.map_or_else(|| NOTHING.to_owned(), shown);
    for one in &document.containers {
        // Thousandths of a CPU, rounded.
        let cpu = |nano: u64| {
            let milli = (nano + 500_000) / 1_000_000;
            format!("{}.{:03}", milli / 1000, milli % 1000)
        };
        table.row([
            format!("{}/{}/{}", one.namespace, one.pod, one.name),
            or_nothing(one.figures.cpu_nano_cores, cpu),
            or_nothing(one.figures.working_set_bytes, units::size),
            or_nothing(one.figures.memory_limit_bytes, units::size),
            or_nothing(one.figures.rss_bytes, units::size),
            or_nothing(one.figures.swap_bytes, units::size),
            or_nothing(one.figures.disk_bytes, units::size),
            or_nothing(one.figures.disk_inodes, |inodes| inodes.to_string()),
        ]);
    }
    table.hide_columns_of(NOTHING);
    if let Some(size) = size {
        table.fit(size.columns, &["INODES>", "SWAP>", "RSS>", "LIMIT>"]);
    }
    Line::of_table(&table.render(), document.containers.iter().map(|_| ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{CpuUsage, MemoryUsage};

    #[test]
    fn what_is_not_known_is_not_shown() {
        let value = |value| Some(UInt64Value { value });
        let stats = ContainerStats {
            cpu: Some(CpuUsage {
                usage_nano_cores: value(1_234_567_890),
                ..Default::default()
            }),
            memory: Some(MemoryUsage {
                working_set_bytes: value(3 << 20),
                available_bytes: value(5 << 20),
                ..Default::default()
            }),
            ..Default::default()
        };
        let figures_of = figures(stats);
        assert_eq!(figures_of.memory_limit_bytes, Some(8 << 20));
        let used = |name: &str, figures| Usage {
            id: String::new(),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            pod: "web".to_owned(),
            pod_id: String::new(),
            figures,
        };
        let idle = used("idle", figures(ContainerStats::default()));
        let document = Document {
            containers: vec![used("nginx", figures_of), idle],
        };
        let text = screen::text(&lines(&document, None), false);
        let wanted = "NAME               CPU    MEMORY     LIMIT\n\
                      shop/web/nginx   1.235   3.0 MiB   8.0 MiB\n\
                      shop/web/idle        -         -         -\n";
        assert_eq!(text, wanted);
        assert_eq!(
            serde_json::to_value(&document).unwrap()["containers"][1]
                .as_object()
                .unwrap()
                .len(),
            5
        );
    }
}
