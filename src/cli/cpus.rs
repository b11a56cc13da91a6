//! `pausa cpus`: who runs on which CPUs of the node, and how busy they are.
//!
//! The daemon says who has which CPU, `/proc/stat` how busy each is.
//!
//! Must never: change anything.

mod map;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::client::{ClientFlags, Daemon, block_on};
use super::output::{Format, OutputFlags, print, print_json};
use super::screen::{self, Output};
use crate::proto::admin::{CpusRequest, CpusResponse};

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
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        match args.watch {
            false => once(&daemon, args.output.format).await,
            true => watch(&daemon, args.output.format, args.interval).await,
        }
    })
}

async fn once(daemon: &Daemon, format: Format) -> anyhow::Result<()> {
    let document = Sampler::begin(daemon)?.after(SAMPLE).await?;
    match format {
        Format::Json => print_json(&document),
        Format::Table => print(&screen::text(&map::lines(&document), Output::new().coloured)),
    }
}

async fn watch(daemon: &Daemon, format: Format, interval: NonZeroU32) -> anyhow::Result<()> {
    let mut sampler = Sampler::begin(daemon)?;
    let mut pause = SAMPLE;
    let next = async || {
        let document = sampler.after(pause).await;
        pause = Duration::from_secs(interval.get().into());
        document
    };
    screen::watch(format, next, |document, _| map::lines(document)).await
}

/// Asks the daemon again and again, with the load of the CPUs in between.
#[derive(Debug)]
struct Sampler<'a> {
    daemon: &'a Daemon,
    before: BTreeMap<u32, Times>,
}

impl<'a> Sampler<'a> {
    fn begin(daemon: &'a Daemon) -> anyhow::Result<Self> {
        let before = times(&stat()?);
        Ok(Self { daemon, before })
    }

    async fn after(&mut self, pause: Duration) -> anyhow::Result<Document> {
        tokio::time::sleep(pause).await;
        let answer = self.daemon.admin().cpus(CpusRequest {}).await;
        let answer = answer.map_err(self.daemon.failed("the CPUs of the node"))?;
        let now = times(&stat()?);
        let load = load(&self.before, &now);
        self.before = now;
        Ok(Document {
            map: answer.into_inner(),
            load,
        })
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
        // The line of all CPUs together has no number.
        let (cpu, ticks) = line.strip_prefix("cpu")?.split_once(' ')?;
        let cpu = cpu.parse().ok()?;
        // Guests' time, which comes after these, is in the user's.
        let words = ticks.split_ascii_whitespace().take(8);
        let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
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

/// A number of the kernel's or of pausa's as an index of sets.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
