//! What other runtimes have left on the node, or still do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pausa_cni::ResultCache;
use pausa_yaml::Scalars;
use serde_json::Value;

use super::finding::{Check, Finding, Verdict};
use super::process::Process;
use crate::config::Config;

const CRICTL: &str = "/etc/crictl.yaml";
/// Programs of other runtimes.
const PROGRAMS: [&str; 9] = [
    "containerd",
    "dockerd",
    "crio",
    "cri-o",
    "cri-dockerd",
    "conmon",
    "conmonrs",
    "containerd-shim",
    "podman",
];
/// Their units.
pub(super) const UNITS: [&str; 5] = ["containerd", "docker", "crio", "cri-o", "cri-docker"];
const SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/cri-dockerd.sock",
];

#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Programs, each once, with how many there are.
    pub(super) programs: Vec<(String, usize)>,
    pub(super) sockets: Vec<String>,
    /// Enabled units; none where systemd does not run.
    pub(super) units: Option<Vec<String>>,
    /// `runtime-endpoint` and `image-endpoint` of crictl, or why its file cannot be used.
    pub(super) crictl: Option<Result<Vec<String>, String>>,
    /// Attachments in the CNI cache whose network namespace is gone.
    pub(super) attachments: Vec<String>,
}

pub(super) fn read(config: &Config, processes: &[Process], units: Option<Vec<String>>) -> Leftovers {
    let names: BTreeSet<&str> = processes
        .iter()
        .filter_map(|process| foreign(&process.name))
        .collect();
    let count = |name: &str| {
        processes
            .iter()
            .filter(|process| foreign(&process.name) == Some(name))
            .count()
    };
    // pausa itself may answer cAdvisor there.
    let own = config.cadvisor.listen.as_path();
    Leftovers {
        programs: names
            .into_iter()
            .map(|name| (name.to_owned(), count(name)))
            .collect(),
        sockets: SOCKETS
            .into_iter()
            .filter(|path| Path::new(path) != own && std::os::unix::net::UnixStream::connect(path).is_ok())
            .map(str::to_owned)
            .collect(),
        units,
        crictl: fs::read_to_string(CRICTL).ok().map(|text| crictl(&text)),
        attachments: attachments(&config.cni.cache_dir),
    }
}

fn foreign(name: &str) -> Option<&'static str> {
    let is = |program: &&str| {
        name == *program || (*program == "containerd-shim" && name.starts_with("containerd-shim-"))
    };
    PROGRAMS.into_iter().find(|program| is(program))
}

/// The endpoints that crictl's configuration names.
pub(super) fn crictl(text: &str) -> Result<Vec<String>, String> {
    let document = pausa_yaml::parse(text, Scalars::Text, 1 << 20).map_err(|error| error.to_string())?;
    let keys = ["runtime-endpoint", "image-endpoint"];
    let values = keys
        .into_iter()
        .filter_map(|key| document.get(key).and_then(Value::as_str));
    Ok(values
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect())
}

fn attachments(cache: &Path) -> Vec<String> {
    let entries = ResultCache::new(cache).entries().unwrap_or_default();
    let gone = entries
        .iter()
        .filter(|entry| !entry.netns.is_empty() && !Path::new(&entry.netns).exists());
    gone.map(|entry| format!("{} in {}", entry.container_id, entry.network_name))
        .collect()
}

pub(super) fn decide(left: &Leftovers, socket: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    let programs = left
        .programs
        .iter()
        .map(|(name, count)| format!("{name} ({count})"));
    let sockets = left.sockets.iter().map(|path| format!("{path} answers"));
    let others: Vec<String> = programs.chain(sockets).collect();
    match others.is_empty() {
        true => add(
            Check::LeftoversRuntimes,
            Verdict::Ok,
            "no other runtime runs".to_owned(),
        ),
        false => add(
            Check::LeftoversRuntimes,
            Verdict::Warning,
            format!("other runtimes run: {}", others.join(", ")),
        ),
    }
    match &left.units {
        None => {}
        Some(units) if units.is_empty() => {
            add(
                Check::LeftoversUnits,
                Verdict::Ok,
                "no unit of another runtime is enabled".to_owned(),
            );
        }
        Some(units) => add(
            Check::LeftoversUnits,
            Verdict::Warning,
            format!("enabled: {}", units.join(", ")),
        ),
    }
    let ours = format!("unix://{}", socket.display());
    match &left.crictl {
        None => add(
            Check::LeftoversCrictl,
            Verdict::Ok,
            format!("{CRICTL} does not exist"),
        ),
        Some(Err(error)) => add(
            Check::LeftoversCrictl,
            Verdict::Warning,
            format!("{CRICTL} is not YAML: {error}"),
        ),
        Some(Ok(endpoints)) => {
            let path = |text: &str| {
                text.strip_prefix("unix://")
                    .unwrap_or(text)
                    .replacen("/var/run/", "/run/", 1)
            };
            let others: Vec<&String> = endpoints
                .iter()
                .filter(|endpoint| path(endpoint) != path(&ours))
                .collect();
            match others.first() {
                None => add(
                    Check::LeftoversCrictl,
                    Verdict::Ok,
                    format!("{CRICTL} names {ours}"),
                ),
                Some(other) => add(
                    Check::LeftoversCrictl,
                    Verdict::Warning,
                    format!("{CRICTL} names {other}, pausa listens on {ours}"),
                ),
            }
        }
    }
    match left.attachments.split_first() {
        None => add(
            Check::LeftoversCni,
            Verdict::Ok,
            "the CNI cache has no attachments without a network namespace".to_owned(),
        ),
        Some((first, rest)) => add(
            Check::LeftoversCni,
            Verdict::Warning,
            format!(
                "{} attachments in the CNI cache have lost their network namespace, such as {first}",
                rest.len() + 1
            ),
        ),
    }
    findings
}
