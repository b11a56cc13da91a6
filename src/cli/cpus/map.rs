//! The map of a node as lines of text: one for the cores of a NUMA node that are used in the same way.
//!
//! ```text
//!   CPUs ─▶ cores ─▶ equal neighbours of one cache ─▶ equal caches of one node
//! ```
//!
//! The threads of a core are on one line. Where they are used differently, the cells have a part for each:
//! `2 | 42`, `pinned | pool`.
//!
//! Must never: have two lines for one core, or text of a container's that controls the terminal.

use std::fmt::Write as _;

use super::Document;
use super::index;
use crate::cgroups::cpus::CpuSet;
use crate::cli::output::Table;
use crate::cli::screen::Line;
use crate::cli::units;
use crate::proto::admin::{Cpu, CpuHolder, CpuMode, CpusResponse};

/// How CPUs are used: the less others may run there, the later it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Usage {
    Pool,
    Reserved,
    /// In a way that this client does not know.
    Unknown,
    Given,
    Pinned,
    /// Pinned, and a cpuset partition.
    Partition,
    /// The same without load balancing.
    Isolated,
}

impl Usage {
    fn of(holder: &CpuHolder) -> Self {
        match (holder.mode(), holder.partition.as_str()) {
            (CpuMode::Pinned, "isolated") => Self::Isolated,
            (CpuMode::Pinned, "root") => Self::Partition,
            (CpuMode::Pinned, _) => Self::Pinned,
            (CpuMode::Given, _) => Self::Given,
            (CpuMode::Unspecified, _) => Self::Unknown,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Reserved => "reserved",
            Self::Unknown => "unknown",
            Self::Given => "given",
            Self::Pinned => "pinned",
            Self::Partition => "partition",
            Self::Isolated => "isolated",
        }
    }

    fn style(self) -> &'static str {
        match self {
            Self::Pool | Self::Unknown => "",
            // Faint, yellow, green, and bold green.
            Self::Reserved => "2",
            Self::Given => "33",
            Self::Pinned => "32",
            Self::Partition | Self::Isolated => "1;32",
        }
    }
}

/// CPUs that are used in the same way by the same container.
#[derive(Debug)]
struct Part {
    usage: Usage,
    /// Empty for the pool.
    owner: String,
    cpus: CpuSet,
    /// Of the CPUs of which it is known.
    load: Vec<u64>,
}

impl Part {
    fn is_like(&self, other: &Self) -> bool {
        self.usage == other.usage && self.owner == other.owner
    }

    fn append(&mut self, other: Self) {
        self.cpus = self.cpus.union(&other.cpus);
        self.load.extend(other.load);
    }
}

/// Cores that are used in the same way.
#[derive(Debug)]
struct Run<'a> {
    first: &'a Cpu,
    caches: CpuSet,
    cores: CpuSet,
    /// Of their threads, in order.
    parts: Vec<Part>,
    /// Whether these are all cores of their caches.
    whole: bool,
}

impl Run<'_> {
    fn is_like(&self, other: &Self) -> bool {
        let place = |run: &Self| (run.first.socket, run.first.numa_node);
        let both = || self.parts.iter().zip(&other.parts);
        place(self) == place(other)
            && self.parts.len() == other.parts.len()
            && both().all(|(one, other)| one.is_like(other))
    }

    fn append(&mut self, other: Self) {
        self.caches = self.caches.union(&other.caches);
        self.cores = self.cores.union(&other.cores);
        for (part, other) in self.parts.iter_mut().zip(other.parts) {
            part.append(other);
        }
    }
}

/// Everything that is to be printed.
pub(super) fn lines(document: &Document) -> Vec<Line> {
    let CpusResponse { cpus, holders, .. } = &document.map;
    let mut lines = map(&fold(cores(document)));
    if !holders.is_empty() {
        lines.push(Line::plain(String::new()));
        lines.extend(owners(holders));
    }
    lines.push(Line::plain(String::new()));
    let reserved = cpus.iter().filter(|cpu| cpu.reserved);
    lines.extend(summary(
        &document.map,
        &reserved.map(|cpu| index(cpu.cpu)).collect(),
    ));
    lines
}

/// A run for each core.
fn cores(document: &Document) -> Vec<Run<'_>> {
    let holders: Vec<(CpuSet, Usage, String)> = document
        .map
        .holders
        .iter()
        .map(|holder| (parse(&holder.cpus), Usage::of(holder), owner(holder)))
        .collect();
    let mut cores: Vec<Run<'_>> = Vec::new();
    for cpu in &document.map.cpus {
        let part = part(cpu, &holders, document.load.get(&cpu.cpu));
        let core = match cores.last_mut().filter(|core| core.first.core == cpu.core) {
            Some(core) => core,
            None => cores.push_mut(Run {
                first: cpu,
                caches: [index(cpu.cache)].into_iter().collect(),
                cores: [index(cpu.core)].into_iter().collect(),
                parts: Vec::new(),
                whole: true,
            }),
        };
        match core.parts.last_mut().filter(|last| last.is_like(&part)) {
            Some(last) => last.append(part),
            None => core.parts.push(part),
        }
    }
    cores
}

fn part(cpu: &Cpu, holders: &[(CpuSet, Usage, String)], load: Option<&u64>) -> Part {
    let number = index(cpu.cpu);
    let here = || holders.iter().filter(|(cpus, ..)| cpus.contains(number));
    // Whoever has it alone comes first.
    let first = here().rev().max_by_key(|(_, usage, _)| *usage);
    let (usage, owner) = match (first, here().count()) {
        (None, _) if cpu.reserved => (Usage::Reserved, String::new()),
        (None, _) => (Usage::Pool, String::new()),
        (Some((_, usage, owner)), 1) => (*usage, owner.clone()),
        // kubelet's static policy gives the same CPUs to every container without its own.
        (Some((_, usage, owner)), count) => (*usage, format!("{owner} and {} more", count - 1)),
    };
    Part {
        usage,
        owner,
        cpus: [number].into_iter().collect(),
        load: load.copied().into_iter().collect(),
    }
}

/// Puts equal neighbours together: cores of one cache, then caches of one node.
fn fold(cores: Vec<Run<'_>>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for mut core in cores {
        match runs.last_mut().filter(|last| last.caches == core.caches) {
            Some(last) if last.is_like(&core) => last.append(core),
            Some(last) => {
                last.whole = false;
                core.whole = false;
                runs.push(core);
            }
            None => runs.push(core),
        }
    }
    let mut folded: Vec<Run<'_>> = Vec::new();
    for run in runs {
        let same = |last: &&mut Run<'_>| last.whole && run.whole && last.is_like(&run);
        match folded.last_mut().filter(same) {
            Some(last) => last.append(run),
            None => folded.push(run),
        }
    }
    folded
}

fn map(runs: &[Run<'_>]) -> Vec<Line> {
    let mut table = Table::new([
        "SOCKET>", "NODE>", "CACHE", "CORES", "CPUS", "LOAD>", "MODE", "OWNER",
    ]);
    let mut above = None;
    for run in runs {
        let Cpu {
            socket, numa_node, ..
        } = run.first;
        // What the line above has is not repeated: the domains can be seen.
        let [socket_cell, node_cell] = match above {
            Some(place) if place == (socket, numa_node) => [String::new(), String::new()],
            Some((same, _)) if same == socket => [String::new(), numa_node.to_string()],
            _ => [socket.to_string(), numa_node.to_string()],
        };
        above = Some((socket, numa_node));
        table.row([
            socket_cell,
            node_cell,
            short(&run.caches),
            short(&run.cores),
            cell(run, |part| short(&part.cpus)),
            format!("{} %", cell(run, percent)),
            cell(run, |part| part.usage.word().to_owned()),
            match run.parts.as_slice() {
                [Part { owner, .. }] => owner.clone(),
                _ => cell(run, |part| match part.owner.as_str() {
                    "" => "-".to_owned(),
                    owner => owner.to_owned(),
                }),
            },
        ]);
    }
    let most = |run: &Run<'_>| run.parts.iter().map(|part| part.usage).max();
    let styles = runs.iter().filter_map(most).map(Usage::style);
    Line::of_table(&table.render(), styles)
}

fn cell(run: &Run<'_>, text: impl Fn(&Part) -> String) -> String {
    let texts: Vec<String> = run.parts.iter().map(text).collect();
    texts.join(" | ")
}

/// The mean of the CPUs of which the load is known.
fn percent(part: &Part) -> String {
    let known = u64::try_from(part.load.len()).unwrap_or_default();
    let load = part.load.iter().sum::<u64>().checked_div(known);
    load.map_or_else(|| "-".to_owned(), |load| load.to_string())
}

fn owners(holders: &[CpuHolder]) -> Vec<Line> {
    let mut table = Table::new(["OWNER", "CONTAINER", "MODE", "CPUS", "MEMORY"]);
    for holder in holders {
        table.row([
            owner(holder),
            units::id(&holder.container_id, false),
            Usage::of(holder).word().to_owned(),
            short(&parse(&holder.cpus)),
            short(&parse(&holder.memory_nodes)),
        ]);
    }
    let styles = holders.iter().map(|holder| Usage::of(holder).style());
    Line::of_table(&table.render(), styles)
}

fn owner(holder: &CpuHolder) -> String {
    format!("{}/{}/{}", holder.namespace, holder.pod, holder.container)
}

fn summary(map: &CpusResponse, reserved: &CpuSet) -> [Line; 3] {
    let containers = match map.pool_containers {
        1 => "1 container".to_owned(),
        count => format!("{count} containers"),
    };
    let reserved = match reserved.is_empty() {
        true => "none".to_owned(),
        false => short(reserved),
    };
    let shortage = match map.pinning.as_str() {
        "static" => format!(", {} when CPUs run short", map.on_shortage),
        _ => String::new(),
    };
    [
        Line::plain(format!(
            "Shared pool: {} ({containers})",
            short(&parse(&map.pool))
        )),
        Line::plain(format!("Reserved:    {reserved}")),
        Line::plain(format!("Pinning:     {}{shortage}", map.pinning)),
    ]
}

fn parse(list: &str) -> CpuSet {
    list.parse().unwrap_or_default()
}

/// A list as taskset(1) takes it: `0-78:2` is every second number from 0 to 78, as all CPUs of a socket are where sockets take
/// turns.
fn short(set: &CpuSet) -> String {
    let numbers: Vec<usize> = set.iter().collect();
    let mut text = String::new();
    let mut rest = numbers.as_slice();
    while let [first, others @ ..] = rest {
        let step = others.first().map_or(1, |second| second - first);
        let run = rest
            .windows(2)
            .take_while(|pair| pair[1] - pair[0] == step)
            .count()
            + 1;
        // Two numbers are no pattern.
        let run = if step > 1 && run < 3 { 1 } else { run };
        let last = rest[run - 1];
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        _ = match (run, step) {
            (1, _) => write!(text, "{comma}{first}"),
            (_, 1) => write!(text, "{comma}{first}-{last}"),
            _ => write!(text, "{comma}{first}-{last}:{step}"),
        };
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests;
