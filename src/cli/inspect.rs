//! `pausa inspect`: everything that a runtime says of pods and containers.
//!
//! A table for people; as JSON and YAML the same facts, and under `info` what the runtime adds for tools: with pausa the process id, the
//! configuration from the client and the OCI spec.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use serde::Serialize;
use serde_json::Value;

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::list::ips;
use super::objects::{Object, Objects, container_details, container_name, pod_details};
use super::output::{Page, print_json, print_yaml};
use super::{screen, units};
use crate::proto::json;
use crate::proto::v1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum InspectFormat {
    /// For people; it may change with any version.
    #[default]
    Table,
    /// For programs: one document, which only ever gains fields.
    Json,
    /// The same document as YAML.
    Yaml,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    client: ClientFlags,
    /// Format: `table` for people, `json` and `yaml` for programs.
    #[arg(
        id = "output",
        long = "output",
        short = 'o',
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    format: InspectFormat,
    /// Pods (NAMESPACE/POD, POD) and containers (NAMESPACE/POD/CONTAINER or the end of it), by names or beginnings of ids.
    #[arg(required = true, value_name = "TARGET", add = ArgValueCompleter::new(complete::objects))]
    targets: Vec<String>,
}

/// What `-o json` prints (`docs/operations.md`).
#[derive(Debug, Default, Serialize)]
struct Document {
    pods: Vec<Pod>,
    containers: Vec<Container>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    id: String,
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
    state: &'static str,
    #[serde(serialize_with = "json::time")]
    created_at: i64,
    handler: String,
    ips: Vec<String>,
    /// `pod`, `container`, `node` or `target`.
    network_namespace: &'static str,
    pid_namespace: &'static str,
    ipc_namespace: &'static str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Names and ids.
    containers: BTreeMap<String, String>,
    info: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    id: String,
    name: String,
    attempt: u32,
    namespace: String,
    pod: String,
    pod_id: String,
    state: &'static str,
    #[serde(serialize_with = "json::time")]
    created_at: i64,
    #[serde(serialize_with = "json::optional_time")]
    started_at: Option<i64>,
    #[serde(serialize_with = "json::optional_time")]
    finished_at: Option<i64>,
    /// Of a container that has exited.
    exit_code: Option<i32>,
    reason: String,
    message: String,
    image: String,
    image_id: String,
    image_ref: String,
    uid: Option<i64>,
    gid: Option<i64>,
    groups: Vec<i64>,
    resources: Option<Resources>,
    mounts: Vec<Mount>,
    log_path: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    info: Value,
}

/// What holds now. What is not limited is absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    cpu_shares: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_period: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    memory_limit_bytes: Option<i64>,
    oom_score_adj: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    container_path: String,
    host_path: String,
    image: String,
    readonly: bool,
}

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let mut document = Document::default();
        for given in &args.targets {
            match objects.either(given)? {
                Object::Pod(pod) => document.pods.push(inspect_pod(&daemon, &objects, pod).await?),
                Object::Container(container) => {
                    document
                        .containers
                        .push(inspect_container(&daemon, &objects, container).await?);
                }
            }
        }
        match args.format {
            InspectFormat::Json => print_json(&document),
            InspectFormat::Yaml => print_yaml(&document),
            InspectFormat::Table => {
                let pods = document.pods.iter().map(describe_pod);
                let texts = pods.chain(document.containers.iter().map(describe_container));
                screen::page(&texts.collect::<Vec<_>>().join("\n")).await
            }
        }
    })
}

async fn inspect_pod(daemon: &Daemon, objects: &Objects, listed: &v1::PodSandbox) -> anyhow::Result<Pod> {
    let (status, info) = pod_details(daemon, &listed.id).await?;
    let metadata = status.metadata.unwrap_or_default();
    let options = status
        .linux
        .and_then(|linux| linux.namespaces?.options)
        .unwrap_or_default();
    let inside = objects
        .containers
        .iter()
        .filter(|one| one.pod_sandbox_id == listed.id)
        .rev();
    Ok(Pod {
        id: status.id,
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        attempt: metadata.attempt,
        state: listed.state().word(),
        created_at: status.created_at,
        handler: status.runtime_handler,
        ips: ips(status.network.unwrap_or_default()),
        network_namespace: namespace(options.network()),
        pid_namespace: namespace(options.pid()),
        ipc_namespace: namespace(options.ipc()),
        labels: status.labels,
        annotations: status.annotations,
        // The youngest of a name comes last.
        containers: inside
            .map(|one| (container_name(one).to_owned(), one.id.clone()))
            .collect(),
        info,
    })
}

fn namespace(mode: v1::NamespaceMode) -> &'static str {
    match mode {
        v1::NamespaceMode::Pod => "pod",
        v1::NamespaceMode::Container => "container",
        v1::NamespaceMode::Node => "node",
        v1::NamespaceMode::Target => "target",
    }
}

async fn inspect_container(
    daemon: &Daemon,
    objects: &Objects,
    listed: &v1::Container,
) -> anyhow::Result<Container> {
    let (status, info) = container_details(daemon, &listed.id).await?;
    let pod = objects
        .pod_with(listed)
        .and_then(|pod| pod.metadata.clone())
        .unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    let has_exited = status.state() == v1::ContainerState::ContainerExited;
    let user = status.user.and_then(|user| user.linux);
    let at = |time: i64| (time > 0).then_some(time);
    Ok(Container {
        id: status.id,
        name: metadata.name,
        attempt: metadata.attempt,
        namespace: pod.namespace,
        pod: pod.name,
        pod_id: listed.pod_sandbox_id.clone(),
        state: listed.state().word(),
        created_at: status.created_at,
        started_at: at(status.started_at),
        finished_at: at(status.finished_at),
        exit_code: has_exited.then_some(status.exit_code),
        reason: status.reason,
        message: status.message,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_id: status.image_id,
        image_ref: status.image_ref,
        uid: user.as_ref().map(|user| user.uid),
        gid: user.as_ref().map(|user| user.gid),
        groups: user.map(|user| user.supplemental_groups).unwrap_or_default(),
        resources: status
            .resources
            .and_then(|resources| resources.linux)
            .map(resources),
        mounts: status.mounts.into_iter().map(mount).collect(),
        log_path: status.log_path,
        labels: status.labels,
        annotations: status.annotations,
        info,
    })
}

fn resources(given: v1::LinuxContainerResources) -> Resources {
    let number = |value: i64| (value != 0).then_some(value);
    let text = |value: String| (!value.is_empty()).then_some(value);
    Resources {
        cpu_shares: number(given.cpu_shares),
        cpu_quota: number(given.cpu_quota),
        cpu_period: number(given.cpu_period),
        cpuset_cpus: text(given.cpuset_cpus),
        cpuset_mems: text(given.cpuset_mems),
        memory_limit_bytes: number(given.memory_limit_in_bytes),
        oom_score_adj: given.oom_score_adj,
    }
}

fn mount(given: v1::Mount) -> Mount {
    Mount {
        container_path: given.container_path,
        host_path: given.host_path,
        image: given.image.map(|image| image.image).unwrap_or_default(),
        readonly: given.readonly,
    }
}

/// Of the keys, with the gap.
const WIDTH: usize = 17;

fn describe_pod(pod: &Pod) -> String {
    let mut page = Page::new(WIDTH);
    page.line("Pod", &format!("{}/{}", pod.namespace, pod.name));
    page.line("Id", &pod.id);
    page.line("Uid", &pod.uid);
    page.line("State", pod.state);
    page.line("Attempt", &pod.attempt.to_string());
    page.line("Created", &time(pod.created_at));
    page.line("Handler", &pod.handler);
    page.line("Addresses", &pod.ips.join(", "));
    let (network, pid, ipc) = (pod.network_namespace, pod.pid_namespace, pod.ipc_namespace);
    page.line(
        "Namespaces",
        &format!("network: {network}, processes: {pid}, IPC: {ipc}"),
    );
    page.line("Monitor", &number(&pod.info["pid"]));
    page.line("Netns", text(&pod.info["netns"]));
    page.line("QoS class", text(&pod.info["qosClass"]));
    let containers = pod.containers.iter();
    let containers: Vec<_> = containers
        .map(|(name, id)| format!("{name} ({})", units::id(id, false)))
        .collect();
    page.lines("Containers", &containers);
    page.lines("Labels", &pairs(&pod.labels));
    page.lines("Annotations", &pairs(&pod.annotations));
    page.text
}

fn describe_container(container: &Container) -> String {
    let mut page = Page::new(WIDTH);
    let one = container;
    page.line(
        "Container",
        &format!("{}/{}/{}", one.namespace, one.pod, one.name),
    );
    page.line("Id", &one.id);
    page.line("Pod id", &one.pod_id);
    let state = match (one.exit_code, one.reason.as_str()) {
        (Some(code), "") => format!("exited with {code}"),
        (Some(code), reason) => format!("exited with {code} ({reason})"),
        (None, _) => one.state.to_owned(),
    };
    page.line("State", &state);
    page.line("Message", &one.message);
    page.line("Attempt", &one.attempt.to_string());
    page.line("Created", &time(one.created_at));
    page.line("Started", &one.started_at.map(time).unwrap_or_default());
    page.line("Ended", &one.finished_at.map(time).unwrap_or_default());
    page.line("Image", &one.image);
    page.line("Image id", &one.image_id);
    if let Some(pid) = one.info["pid"].as_i64().filter(|pid| *pid > 0) {
        page.line("Process id", &pid.to_string());
    }
    let spec = &one.info["runtimeSpec"]["process"];
    let words = spec["args"].as_array().map(|_| spec["args"].to_string());
    page.line("Command", &words.unwrap_or_default());
    page.line("Directory", text(&spec["cwd"]));
    if let (Some(uid), Some(gid)) = (one.uid, one.gid) {
        let groups: Vec<_> = one.groups.iter().map(i64::to_string).collect();
        page.line("User", &format!("{uid}:{gid}, groups {}", groups.join(", ")));
    }
    if let Some(resources) = &one.resources {
        describe_resources(&mut page, resources);
    }
    page.line("Cgroup", text(&one.info["cgroup"]));
    page.line("Bundle", text(&one.info["bundle"]));
    page.line("Log", &one.log_path);
    let mounts = one.mounts.iter().map(|mount| {
        let source = [&mount.host_path, &mount.image]
            .into_iter()
            .find(|source| !source.is_empty());
        let readonly = if mount.readonly { ", read-only" } else { "" };
        format!(
            "{} from {}{readonly}",
            mount.container_path,
            source.map_or("nothing", String::as_str)
        )
    });
    page.lines("Mounts", &mounts.collect::<Vec<_>>());
    page.lines("Labels", &pairs(&one.labels));
    page.lines("Annotations", &pairs(&one.annotations));
    page.text
}

fn describe_resources(page: &mut Page, resources: &Resources) {
    let mut cpu = Vec::new();
    if let (Some(quota @ 1..), Some(period @ 1..)) = (resources.cpu_quota, resources.cpu_period) {
        // Milli-CPUs, rounded.
        let milli = (i128::from(quota) * 1000 + i128::from(period) / 2) / i128::from(period);
        cpu.push(format!("limit {}.{:03} CPUs", milli / 1000, milli % 1000));
    }
    cpu.extend(resources.cpu_shares.map(|shares| format!("shares {shares}")));
    cpu.extend(
        resources
            .cpuset_cpus
            .as_ref()
            .map(|cpus| format!("on CPUs {cpus}")),
    );
    page.line("CPU", &cpu.join(", "));
    let memory = resources
        .memory_limit_bytes
        .and_then(|bytes| u64::try_from(bytes).ok());
    page.line("Memory limit", &memory.map(units::size).unwrap_or_default());
    page.line("OOM score", &resources.oom_score_adj.to_string());
}

/// When, and how long ago.
fn time(nanoseconds: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default();
    let passed = u64::try_from(crate::state::now().saturating_sub(nanoseconds)).unwrap_or(0);
    let ago = units::duration(Duration::from_nanos(passed));
    format!("{} ({ago} ago)", time.strftime("%Y-%m-%d %H:%M:%S UTC"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> String {
    value
        .as_i64()
        .map(|number| number.to_string())
        .unwrap_or_default()
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<String> {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect()
}
