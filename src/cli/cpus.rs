//! `pausa cpus`: who runs on which CPUs of the node, and how busy they are.
//!
//! The daemon says who has which CPU, `/proc/stat` how busy each is. Neighbouring CPUs with the same owner are one line.
//!
//! Must never: change anything.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::client::{ClientFlags, Daemon};
use super::output::{Format, OutputFlags, Table, print, print_json};
use crate::cgroups::cpus::CpuSet;
use crate::proto::admin::{Cpu, CpuMode, CpusRequest, CpusResponse};

/// How long CPUs are watched for their load.
const SAMPLE: Duration = Duration::from_millis(200);
const STAT: &str = "/proc/stat";

#[derive(Debug, Args)]
pub(super) struct CpusArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    output: OutputFlags,
    /// Print again and again, until interrupted; with `-o json` a document per line.
    #[arg(long, short)]
    watch: bool,
    /// Seconds between two prints.
    #[arg(long, value_name = "SECONDS", default_value = "1", requires = "watch")]
    interval: NonZeroU32,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    map: CpusResponse,
    /// How busy each CPU was, in percent.
    load: BTreeMap<u32, u64>,
}

pub(super) fn run(args: &CpusArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let daemon = Daemon::connect(socket).await?;
            show(&daemon, args).await
        })
}

async fn show(daemon: &Daemon, args: &CpusArgs) -> anyhow::Result<()> {
    let terminal = io::stdout().is_terminal();
    let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut before = times(&stat()?);
    let mut pause = SAMPLE;
    loop {
        tokio::time::sleep(pause).await;
        let answer = daemon.admin().cpus(CpusRequest {}).await;
        let map = answer
            .map_err(daemon.failed("the CPUs of the node"))?
            .into_inner();
        let now = times(&stat()?);
        let document = Document {
            load: load(&before, &now),
            map,
        };
        match (args.output.format, args.watch) {
            (Format::Json, false) => print_json(&document)?,
            (Format::Json, true) => print(&format!("{}\n", serde_json::to_string(&document)?))?,
            (Format::Table, watch) => {
                // Back to the first line, and away with what was there.
                let clear = if watch && terminal { "\x1b[H\x1b[2J" } else { "" };
                print(&format!("{clear}{}", render(&document, coloured)))?;
            }
        }
        if !args.watch {
            return Ok(());
        }
        before = now;
        pause = Duration::from_secs(args.interval.get().into());
    }
}

fn stat() -> anyhow::Result<String> {
    fs::read_to_string(STAT).with_context(|| format!("cannot read {STAT}"))
}

/// Time of a CPU since boot, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    busy: u64,
    idle: u64,
}

/// The lines of proc_stat(5) that are about single CPUs.
fn times(stat: &str) -> BTreeMap<u32, Times> {
    let cpus = stat.lines().filter_map(|line| {
        let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu = words.next()?.parse().ok()?;
        // Guests' time, which comes after these, is in the user's.
        let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        let all: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        let busy = all - idle;
        Some((cpu, Times { busy, idle }))
    });
    cpus.collect()
}

/// Percent of the time between two samples. Of a CPU without time between them nothing is known. Idle times may run
/// backwards, see proc_stat(5).
fn load(before: &BTreeMap<u32, Times>, now: &BTreeMap<u32, Times>) -> BTreeMap<u32, u64> {
    let cpus = now.iter().filter_map(|(cpu, now)| {
        let before = before.get(cpu)?;
        let idle = now.idle.saturating_sub(before.idle);
        let busy = now.busy.saturating_sub(before.busy);
        Some((*cpu, (busy * 100).checked_div(busy + idle)?))
    });
    cpus.collect()
}

/// Neighbouring CPUs of one owner.
#[derive(Debug)]
struct Run<'a> {
    first: &'a Cpu,
    mode: &'static str,
    owner: String,
    cores: CpuSet,
    cpus: CpuSet,
    /// Of the CPUs of which it is known.
    load: Vec<u64>,
}

fn runs(document: &Document) -> Vec<Run<'_>> {
    let holders: Vec<(CpuSet, CpuMode, String)> = document
        .map
        .holders
        .iter()
        .map(|holder| {
            let owner = format!("{}/{}/{}", holder.namespace, holder.pod, holder.container);
            (holder.cpus.parse().unwrap_or_default(), holder.mode(), owner)
        })
        .collect();
    let mut runs: Vec<Run<'_>> = Vec::new();
    for cpu in &document.map.cpus {
        let (number, core) = (index(cpu.cpu), index(cpu.core));
        let here = holders.iter().filter(|(cpus, ..)| cpus.contains(number));
        // Whoever has it alone comes first.
        let pinned = here.clone().find(|(_, mode, _)| *mode == CpuMode::Pinned);
        let first = pinned.or_else(|| here.clone().next());
        let mode = match first {
            Some((_, mode, _)) => mode.word(),
            None if cpu.reserved => "reserved",
            None => "pool",
        };
        let owner = match (first, here.count()) {
            (None, _) => String::new(),
            (Some((.., owner)), 1) => owner.clone(),
            // kubelet's static policy gives the same CPUs to every container without its own.
            (Some((.., owner)), count) => format!("{owner} and {} more", count - 1),
        };
        let same = |run: &&mut Run<'_>| {
            let place = |cpu: &Cpu| (cpu.socket, cpu.numa_node, cpu.cache);
            place(run.first) == place(cpu) && run.mode == mode && run.owner == owner
        };
        let run = match runs.last_mut().filter(same) {
            Some(run) => run,
            None => runs.push_mut(Run {
                first: cpu,
                mode,
                owner,
                cores: CpuSet::default(),
                cpus: CpuSet::default(),
                load: Vec::new(),
            }),
        };
        run.cores.insert(core);
        run.cpus.insert(number);
        run.load.extend(document.load.get(&cpu.cpu));
    }
    runs
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn render(document: &Document, coloured: bool) -> String {
    let runs = runs(document);
    let mut table = Table::new([
        "SOCKET>", "NODE>", "CACHE>", "CORES", "CPUS", "LOAD>", "MODE", "OWNER",
    ]);
    for run in &runs {
        let known = u64::try_from(run.load.len()).unwrap_or_default();
        let load = run.load.iter().sum::<u64>().checked_div(known);
        table.row([
            run.first.socket.to_string(),
            run.first.numa_node.to_string(),
            run.first.cache.to_string(),
            run.cores.to_string(),
            run.cpus.to_string(),
            load.map_or_else(|| "-".to_owned(), |load| format!("{load} %")),
            run.mode.to_owned(),
            run.owner.clone(),
        ]);
    }
    let rendered = table.render();
    let mut lines = rendered.lines();
    let mut text = lines
        .next()
        .map(|heading| format!("{heading}\n"))
        .unwrap_or_default();
    for (line, run) in lines.zip(&runs) {
        let colour = match run.mode {
            "pinned" => "\x1b[32m",
            "given" => "\x1b[33m",
            "reserved" => "\x1b[2m",
            _ => "",
        };
        match coloured && !colour.is_empty() {
            true => text.push_str(&format!("{colour}{line}\x1b[0m\n")),
            false => text.push_str(&format!("{line}\n")),
        }
    }
    let CpusResponse {
        pinning,
        on_shortage,
        pool,
        ..
    } = &document.map;
    text.push_str(&format!("\nShared pool: {pool}. Pinning: {pinning}"));
    text.push_str(&match pinning.as_str() {
        "static" => format!(", {on_shortage} when CPUs run short.\n"),
        _ => ".\n".to_owned(),
    });
    text
}

#[cfg(test)]
mod tests;
