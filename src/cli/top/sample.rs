//! What the daemon says, joined by id, with rates from the sample before.
//!
//! What is not known is none, never zero: CPU, memory and processes of a pod that is not ready, traffic of a pod on the host's
//! network, PSI on cgroup v1, and every rate of what was not there in the sample before.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;

use super::{Choice, Sort};
use crate::proto::admin::{Operation, PullProgress};
use crate::proto::json;
use crate::proto::v1;

/// Everything that was answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Nanoseconds since the epoch.
    pub(super) now: i64,
    pub(super) pods: Vec<v1::PodSandbox>,
    pub(super) containers: Vec<v1::Container>,
    pub(super) stats: Vec<v1::PodSandboxStats>,
    pub(super) metrics: Vec<v1::PodSandboxMetrics>,
    pub(super) operations: Vec<Operation>,
    pub(super) pulls: Vec<PullProgress>,
}

/// What `-o json` prints (`docs/operations.md`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    #[serde(serialize_with = "json::time")]
    pub(super) time: i64,
    pub(super) pods: Vec<Pod>,
    pub(super) operations: Vec<Operation>,
    pub(super) pulls: Vec<PullProgress>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) id: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    #[serde(flatten)]
    pub(super) row: Row,
    pub(super) containers: Vec<Container>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) row: Row,
}

/// What pods and containers have in common.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) attempt: u32,
    pub(super) state: &'static str,
    /// Nanoseconds since the epoch.
    #[serde(serialize_with = "json::time")]
    pub(super) created_at: i64,
    #[serde(flatten)]
    pub(super) usage: Usage,
}

/// Rates are per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Usage {
    /// Billionths of a CPU.
    pub(super) cpu_nano_cores: Option<u64>,
    pub(super) working_set_bytes: Option<u64>,
    pub(super) memory_limit_bytes: Option<u64>,
    pub(super) read_bytes_per_second: Option<u64>,
    pub(super) write_bytes_per_second: Option<u64>,
    pub(super) receive_bytes_per_second: Option<u64>,
    pub(super) send_bytes_per_second: Option<u64>,
    /// Processes and threads: what a limit of processes counts.
    pub(super) pids: Option<u64>,
    pub(super) cpu_pressure: Option<Pressure>,
    pub(super) memory_pressure: Option<Pressure>,
    pub(super) io_pressure: Option<Pressure>,
}

/// Percent of the last ten seconds in which some or all tasks waited (PSI).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Pressure {
    pub(super) some: Option<f64>,
    pub(super) full: Option<f64>,
}

/// The counters of the sample before, by the ids of pods and containers.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<String, Counters>);

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cpu: Option<Counter>,
    read: Option<Counter>,
    written: Option<Counter>,
    received: Option<Counter>,
    sent: Option<Counter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counter {
    /// Nanoseconds since the epoch.
    at: i64,
    value: u64,
    /// Per second, up to this moment.
    rate: Option<u64>,
}

impl Counter {
    /// A counter that is one of before or has started again.
    fn after(before: Option<Self>, at: i64, value: u64) -> Self {
        let rate = before.and_then(|before| {
            if before.at == at {
                // The daemon has not measured since.
                return before.rate;
            }
            let passed = u128::try_from(at.checked_sub(before.at)?).ok()?;
            let more = u128::from(value.checked_sub(before.value)?);
            u64::try_from(more * 1_000_000_000 / passed).ok()
        });
        Self { at, value, rate }
    }
}

impl Rates {
    /// What is shown of the answers.
    pub(super) fn document(&mut self, answers: Answers, choice: &Choice) -> Document {
        let stats = answers.stats.into_iter();
        let mut stats: HashMap<String, v1::LinuxPodSandboxStats> = stats
            .filter_map(|one| Some((one.attributes?.id, one.linux?)))
            .collect();
        let metrics = answers.metrics.into_iter();
        let mut metrics: HashMap<String, v1::PodSandboxMetrics> =
            metrics.map(|one| (one.pod_sandbox_id.clone(), one)).collect();
        let mut containers: HashMap<String, Vec<v1::Container>> = HashMap::new();
        for container in answers.containers {
            let of_pod = containers.entry(container.pod_sandbox_id.clone()).or_default();
            of_pod.push(container);
        }
        let mut counters = HashMap::new();
        let mut pods = Vec::new();
        for pod in answers.pods {
            let state = pod.state();
            let metadata = pod.metadata.unwrap_or_default();
            let ready = state == v1::PodSandboxState::SandboxReady;
            let selected = choice
                .selection
                .has(&metadata.namespace, &metadata.name, &pod.id, &pod.labels);
            if !selected || !(ready || choice.all) {
                continue;
            }
            let stats = stats.remove(&pod.id).unwrap_or_default();
            let metrics = metrics.remove(&pod.id).unwrap_or_default();
            let mut usages = self.containers(&mut counters, stats.containers, metrics.container_metrics);
            let containers = containers.remove(&pod.id).into_iter().flatten();
            let mut containers: Vec<Container> = containers
                .map(|container| {
                    let usage = usages.remove(&container.id).unwrap_or_default();
                    of_container(container, usage)
                })
                .filter(|container| {
                    choice.all || container.row.state == v1::ContainerState::ContainerRunning.word()
                })
                .collect();
            choice
                .sort
                .apply(&mut containers, |one| (&one.row, &one.name, ""));

            let mut count = Counting::new(self, &pod.id);
            let network = stats.network.as_ref();
            let rates = [
                count.rate(|all| &mut all.received, traffic(network, |one| one.rx_bytes)),
                count.rate(|all| &mut all.sent, traffic(network, |one| one.tx_bytes)),
            ];
            let mut usage = count.usage(stats.cpu, stats.memory, stats.io, &metrics.metrics);
            [usage.receive_bytes_per_second, usage.send_bytes_per_second] = rates;
            usage.pids = stats
                .process
                .and_then(|one| one.process_count)
                .map(|count| count.value);
            counters.insert(pod.id.clone(), count.now);
            pods.push(Pod {
                id: pod.id,
                namespace: metadata.namespace,
                name: metadata.name,
                uid: metadata.uid,
                row: Row {
                    attempt: metadata.attempt,
                    state: state.word(),
                    created_at: pod.created_at,
                    usage,
                },
                containers,
            });
        }
        choice
            .sort
            .apply(&mut pods, |pod| (&pod.row, &pod.namespace, &pod.name));
        self.0 = counters;
        Document {
            time: answers.now,
            pods,
            operations: answers.operations,
            pulls: answers.pulls,
        }
    }

    /// What the containers of a pod use, by their ids. Those that do not run are not among them.
    fn containers(
        &self,
        counters: &mut HashMap<String, Counters>,
        stats: Vec<v1::ContainerStats>,
        metrics: Vec<v1::ContainerMetrics>,
    ) -> HashMap<String, Usage> {
        let metrics: HashMap<_, _> = metrics
            .into_iter()
            .map(|one| (one.container_id, one.metrics))
            .collect();
        let usages = stats.into_iter().filter_map(|stats| {
            let id = stats.attributes?.id;
            let mut count = Counting::new(self, &id);
            let metrics = metrics.get(&id).map_or(&[][..], Vec::as_slice);
            let usage = count.usage(stats.cpu, stats.memory, stats.io, metrics);
            counters.insert(id.clone(), count.now);
            Some((id, usage))
        });
        usages.collect()
    }
}

fn of_container(container: v1::Container, usage: Usage) -> Container {
    let metadata = container.metadata.clone().unwrap_or_default();
    let state = container.state().word();
    Container {
        id: container.id,
        name: metadata.name,
        row: Row {
            attempt: metadata.attempt,
            state,
            created_at: container.created_at,
            usage,
        },
    }
}

/// The counters of one pod or container: those of before, and those of now.
struct Counting {
    before: Counters,
    now: Counters,
}

impl Counting {
    fn new(rates: &Rates, id: &str) -> Self {
        Self {
            before: rates.0.get(id).copied().unwrap_or_default(),
            now: Counters::default(),
        }
    }

    fn rate(
        &mut self,
        which: fn(&mut Counters) -> &mut Option<Counter>,
        reading: Option<(i64, u64)>,
    ) -> Option<u64> {
        let (at, value) = reading?;
        let counter = Counter::after(*which(&mut self.before), at, value);
        *which(&mut self.now) = Some(counter);
        counter.rate
    }

    fn usage(
        &mut self,
        cpu: Option<v1::CpuUsage>,
        memory: Option<v1::MemoryUsage>,
        io: Option<v1::IoUsage>,
        metrics: &[v1::Metric],
    ) -> Usage {
        let cpu = cpu.unwrap_or_default();
        let memory = memory.unwrap_or_default();
        let used = cpu
            .usage_core_nano_seconds
            .map(|used| (cpu.timestamp, used.value));
        let working_set = memory.working_set_bytes.map(|bytes| bytes.value);
        Usage {
            cpu_nano_cores: self.rate(|all| &mut all.cpu, used),
            working_set_bytes: working_set,
            memory_limit_bytes: memory
                .available_bytes
                .and_then(|available| available.value.checked_add(working_set?)),
            read_bytes_per_second: self.rate(
                |all| &mut all.read,
                sum(metrics, "container_fs_reads_bytes_total"),
            ),
            write_bytes_per_second: self.rate(
                |all| &mut all.written,
                sum(metrics, "container_fs_writes_bytes_total"),
            ),
            receive_bytes_per_second: None,
            send_bytes_per_second: None,
            pids: sum(metrics, "container_threads").map(|(_, pids)| pids),
            cpu_pressure: cpu.psi.map(Into::into),
            memory_pressure: memory.psi.map(Into::into),
            io_pressure: io.and_then(|io| io.psi).map(Into::into),
        }
    }
}

/// The sum of a metric's rows (one for each device), and when it was measured; none without a row.
fn sum(metrics: &[v1::Metric], name: &str) -> Option<(i64, u64)> {
    let rows = metrics.iter().filter(|row| row.name == name);
    let values = rows.filter_map(|row| Some((row.timestamp, row.value.as_ref()?.value)));
    values.reduce(|(at, sum), (_, value)| (at, sum.saturating_add(value)))
}

/// The sum over a pod's interfaces, and when it was measured.
fn traffic(
    network: Option<&v1::NetworkUsage>,
    bytes: fn(&v1::NetworkInterfaceUsage) -> Option<v1::UInt64Value>,
) -> Option<(i64, u64)> {
    let network = network?;
    let all = network.default_interface.iter().chain(&network.interfaces);
    let values = all.filter_map(bytes).map(|bytes| bytes.value);
    Some((network.timestamp, values.reduce(u64::saturating_add)?))
}

impl From<v1::PsiStats> for Pressure {
    fn from(psi: v1::PsiStats) -> Self {
        Self {
            some: psi.some.map(|some| some.avg10),
            full: psi.full.map(|full| full.avg10),
        }
    }
}

impl Sort {
    /// Sorts, by name what is otherwise equal. What is not known comes last.
    fn apply<T>(self, all: &mut [T], parts: impl Fn(&T) -> (&Row, &str, &str)) {
        let both = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        let key = |row: &Row| {
            let usage = &row.usage;
            match self {
                Self::Cpu => usage.cpu_nano_cores,
                Self::Memory => usage.working_set_bytes,
                Self::Io => both(usage.read_bytes_per_second, usage.write_bytes_per_second),
                Self::Network => both(usage.receive_bytes_per_second, usage.send_bytes_per_second),
                Self::Pids => usage.pids,
                Self::Restarts => Some(row.attempt.into()),
                Self::Age => u64::try_from(row.created_at).ok(),
                Self::Name => None,
            }
        };
        all.sort_by(|one, other| {
            let ((one, name, more), (other, other_name, other_more)) = (parts(one), parts(other));
            let names = || (name, more).cmp(&(other_name, other_more));
            Reverse(key(one)).cmp(&Reverse(key(other))).then_with(names)
        });
    }
}

#[cfg(test)]
mod tests;
