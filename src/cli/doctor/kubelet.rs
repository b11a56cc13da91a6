//! kubelet's configuration, as far as it has to agree with pausa and the node.
//!
//! Its files, the flags of a running kubelet, and those that kubeadm keeps for one that does not run. Flags take precedence,
//! as for kubelet itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pausa_yaml::Scalars;
use serde_json::Value;

use super::cgroups::driver_name;
use super::finding::{Check, Finding, Verdict};
use super::process::Process;
use crate::cgroups::Driver;
use crate::tool;

const DEFAULT_FILE: &str = "/var/lib/kubelet/config.yaml";
const KUBEADM_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const FILE_MAX: usize = 1 << 20;
/// Of the parsed configuration, in bytes.
const MEMORY: usize = 4 << 20;
/// kubelet asks the runtime for the cgroup driver from here on: its gate KubeletCgroupDriverFromCRI is on by default.
const ASKS_FOR_DRIVER: (u32, u32) = (1, 31);
/// CRI v1 alone.
const OLDEST: (u32, u32) = (1, 26);

/// Sysctls that kubelet sets, or with `protectKernelDefaults` demands (`pkg/kubelet/cm`, `setupKernelTunables`).
pub(super) const KERNEL_DEFAULTS: [(&str, u64); 6] = [
    ("vm.overcommit_memory", 1),
    ("vm.panic_on_oom", 0),
    ("kernel.panic", 10),
    ("kernel.panic_on_oops", 1),
    ("kernel.keys.root_maxkeys", 1_000_000),
    ("kernel.keys.root_maxbytes", 25_000_000),
];

#[derive(Debug, Default)]
pub(super) struct Kubelet {
    /// Where the settings come from; none if nothing was found.
    pub(super) source: Option<String>,
    /// Why the file cannot be used.
    pub(super) error: Option<String>,
    /// Whether all flags are known.
    pub(super) flags_known: bool,
    pub(super) settings: Settings,
    pub(super) version: Option<(u32, u32)>,
}

/// What pausa and the node have to agree with. Fields that are none have kubelet's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) cgroup_driver: Option<String>,
    /// The gate KubeletCgroupDriverFromCRI, if it is set.
    pub(super) driver_from_cri: Option<bool>,
    pub(super) runtime_endpoint: Option<String>,
    pub(super) image_endpoint: Option<String>,
    pub(super) pod_cidr: Option<String>,
    pub(super) fail_swap_on: Option<bool>,
    pub(super) cpu_manager_policy: Option<String>,
    pub(super) resolv_conf: Option<String>,
    pub(super) max_pods: Option<u64>,
    pub(super) protect_kernel_defaults: bool,
    /// Signal and threshold, such as `nodefs.available` and `10%`.
    pub(super) eviction_hard: BTreeMap<String, String>,
}

impl Settings {
    pub(super) fn resolv_conf(&self) -> &str {
        self.resolv_conf.as_deref().unwrap_or("/etc/resolv.conf")
    }
}

/// What kubelet's configuration is compared with.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// pausa's socket.
    pub(super) socket: &'a Path,
    pub(super) driver: Option<Driver>,
    pub(super) pins: bool,
    /// Devices in `/proc/swaps`.
    pub(super) swap: Vec<String>,
    /// Whether the file of `resolvConf` is there.
    pub(super) has_resolv_conf: bool,
    /// Addresses for pods, and where that is from, with the built-in bridge.
    pub(super) addresses: Option<(u64, String)>,
    /// By name, as in [`KERNEL_DEFAULTS`].
    pub(super) sysctls: BTreeMap<&'static str, u64>,
}

/// Looks for kubelet's configuration, or reads that of `given`.
pub(super) fn read(given: Option<&Path>, processes: &[Process]) -> Kubelet {
    let running = processes.iter().find(|process| process.name == "kubelet");
    let flags = match (given, running) {
        (Some(_), _) => None,
        (None, Some(process)) => Some(process.arguments.clone()),
        (None, None) => fs::read_to_string(KUBEADM_FLAGS).ok().map(|text| words(&text)),
    };
    let version = running.filter(|_| given.is_none()).and_then(|process| {
        let program = PathBuf::from(format!("/proc/{}/exe", process.pid));
        let answer = tool::output(&program, &["--version"], 4096).ok()?;
        parse_version(&String::from_utf8_lossy(&answer))
    });
    let named = flags.as_deref().and_then(|flags| flag(flags, "config"));
    let path = given.map(Path::to_owned).or_else(|| named.map(PathBuf::from));
    let required = path.is_some();
    let path = path.unwrap_or_else(|| DEFAULT_FILE.into());
    let mut kubelet = Kubelet {
        flags_known: flags.is_some(),
        version,
        ..Kubelet::default()
    };
    let mut document = Value::Null;
    match read_file(&path) {
        Ok(Some(value)) => {
            kubelet.source = Some(path.display().to_string());
            document = value;
        }
        Ok(None) if required => kubelet.error = Some(format!("{} does not exist", path.display())),
        Ok(None) => kubelet.source = flags.as_ref().map(|_| "flags".to_owned()),
        Err(error) => kubelet.error = Some(error),
    }
    let drop_ins = flags.as_deref().and_then(|flags| flag(flags, "config-dir"));
    for file in drop_ins.map(|dir| files(Path::new(&dir))).unwrap_or_default() {
        match read_file(&file) {
            Ok(value) => merge(&mut document, value.unwrap_or_default()),
            Err(error) => kubelet.error = Some(error),
        }
    }
    kubelet.settings = settings(&document, flags.as_deref().unwrap_or_default());
    kubelet
}

/// None if there is no such file.
fn read_file(path: &Path) -> Result<Option<Value>, String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
    };
    if text.len() > FILE_MAX {
        return Err(format!("{} has more than {FILE_MAX} bytes", path.display()));
    }
    let parsed = pausa_yaml::parse(&text, Scalars::Typed, MEMORY);
    parsed
        .map(Some)
        .map_err(|error| format!("{} is not YAML: {error}", path.display()))
}

/// kubelet's drop-ins, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
    files.sort();
    files
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (old, new) => *old = new,
    }
}

/// The words of `KUBELET_KUBEADM_ARGS="…"`.
fn words(text: &str) -> Vec<String> {
    let value = text.split_once('=').map_or("", |(_, value)| value);
    let words = value.trim().trim_matches('"').split_whitespace();
    words.map(str::to_owned).collect()
}

/// The value of `--name=value` or `--name value`; the last one counts.
fn flag(flags: &[String], name: &str) -> Option<String> {
    let mut found = None;
    for (at, word) in flags.iter().enumerate() {
        let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        match rest.strip_prefix(name) {
            Some("") => found = flags.get(at + 1).cloned(),
            Some(rest) if rest.starts_with('=') => found = Some(rest[1..].to_owned()),
            _ => {}
        }
    }
    found
}

/// `Kubernetes v1.34.1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, version) = text.split_once('v')?;
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next()?.parse().ok()?))
}

pub(super) fn settings(document: &Value, flags: &[String]) -> Settings {
    let text = |key: &str| {
        let value = document.get(key)?;
        let text = value.as_str().filter(|text| !text.is_empty())?;
        Some(text.to_owned())
    };
    let given = |name: &str, key: &str| flag(flags, name).or_else(|| text(key));
    let gate = |name: &str| {
        let by_flag = flag(flags, "feature-gates").and_then(|gates| {
            let gates = gates.split(',').filter_map(|gate| gate.split_once('='));
            let mut gates = gates.filter(|(gate, _)| *gate == name);
            gates.next_back()?.1.parse().ok()
        });
        by_flag.or_else(|| document.get("featureGates")?.get(name)?.as_bool())
    };
    let truth = |name: &str, key: &str| {
        let by_flag = flag(flags, name).and_then(|value| value.parse().ok());
        by_flag.or_else(|| document.get(key)?.as_bool())
    };
    let by_flag = flag(flags, "eviction-hard").map(|list| {
        let pairs = list.split(',').filter_map(|pair| pair.split_once('<'));
        pairs
            .map(|(signal, limit)| (signal.to_owned(), limit.to_owned()))
            .collect()
    });
    let by_file = || {
        let pairs = document
            .get("evictionHard")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let pairs = pairs.filter_map(|(signal, limit)| Some((signal.clone(), limit.as_str()?.to_owned())));
        pairs.collect()
    };
    Settings {
        cgroup_driver: given("cgroup-driver", "cgroupDriver"),
        driver_from_cri: gate("KubeletCgroupDriverFromCRI"),
        runtime_endpoint: given("container-runtime-endpoint", "containerRuntimeEndpoint"),
        image_endpoint: given("image-service-endpoint", "imageServiceEndpoint"),
        pod_cidr: given("pod-cidr", "podCIDR"),
        fail_swap_on: truth("fail-swap-on", "failSwapOn"),
        cpu_manager_policy: given("cpu-manager-policy", "cpuManagerPolicy"),
        resolv_conf: given("resolv-conf", "resolvConf"),
        max_pods: flag(flags, "max-pods")
            .and_then(|value| value.parse().ok())
            .or_else(|| document.get("maxPods")?.as_u64()),
        protect_kernel_defaults: truth("protect-kernel-defaults", "protectKernelDefaults").unwrap_or(false),
        eviction_hard: by_flag.unwrap_or_else(by_file),
    }
}

/// The path of a socket, whichever way it is written.
fn socket_path(endpoint: &str) -> String {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    match path.strip_prefix("/var/run/") {
        Some(rest) => format!("/run/{rest}"),
        None => path.to_owned(),
    }
}

pub(super) fn decide(kubelet: &Kubelet, around: &Surroundings<'_>) -> Vec<Finding> {
    use Verdict::{Info, Ok, Problem, Warning};
    let settings = &kubelet.settings;
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));

    match (&kubelet.error, &kubelet.source) {
        (Some(error), _) => {
            let finding = Finding::new(Check::KubeletConfig, Problem, error);
            return vec![
                finding.remedy("correct kubelet's configuration: kubelet does not start with it either"),
            ];
        }
        (None, None) => {
            add(
                Check::KubeletConfig,
                Info,
                format!("no kubelet runs, and {DEFAULT_FILE} does not exist"),
            );
            return findings;
        }
        (None, Some(source)) => add(Check::KubeletConfig, Ok, format!("read from {source}")),
    }
    if let Some((major, minor)) = kubelet.version {
        let verdict = match (major, minor) >= OLDEST {
            true => Ok,
            false => Problem,
        };
        add(
            Check::KubeletVersion,
            verdict,
            format!("kubelet {major}.{minor} runs"),
        );
    }
    let ours = socket_path(&around.socket.to_string_lossy());
    match &settings.runtime_endpoint {
        Some(endpoint) if socket_path(endpoint) == ours => {
            add(Check::KubeletEndpoint, Ok, format!("kubelet uses {endpoint}"));
        }
        Some(endpoint) => add(
            Check::KubeletEndpoint,
            Problem,
            format!("kubelet uses {endpoint}, pausa listens on unix://{ours}"),
        ),
        None if kubelet.flags_known => add(
            Check::KubeletEndpoint,
            Problem,
            format!(
                "kubelet's configuration names no runtime; its default is containerd's socket, pausa listens on unix://{ours}"
            ),
        ),
        None => add(
            Check::KubeletEndpoint,
            Info,
            "the file has no containerRuntimeEndpoint, and kubelet's flags are not known".to_owned(),
        ),
    }
    if let Some(endpoint) = &settings.image_endpoint {
        match socket_path(endpoint) == ours {
            true => add(
                Check::KubeletImageEndpoint,
                Ok,
                format!("kubelet pulls through {endpoint}"),
            ),
            false => add(
                Check::KubeletImageEndpoint,
                Problem,
                format!("kubelet pulls through {endpoint}, pausa listens on unix://{ours}"),
            ),
        }
    }
    if let Some(driver) = around.driver {
        let own = driver_name(driver);
        let theirs = settings.cgroup_driver.as_deref().unwrap_or("cgroupfs");
        let asks = settings
            .driver_from_cri
            .unwrap_or_else(|| kubelet.version >= Some(ASKS_FOR_DRIVER));
        let (verdict, found) = match (theirs == own, asks) {
            (true, _) => (Ok, format!("both use {own}")),
            (false, true) => (
                Info,
                format!(
                    "kubelet's configuration has {theirs}, but this kubelet asks the runtime and uses {own}"
                ),
            ),
            (false, false) => (
                Problem,
                format!(
                    "kubelet's cgroupDriver is {theirs}, pausa's is {own}; only kubelet 1.31 and later, or with the gate KubeletCgroupDriverFromCRI, asks the runtime"
                ),
            ),
        };
        add(Check::KubeletCgroupDriver, verdict, found);
    }
    let fails = settings.fail_swap_on.unwrap_or(true);
    match (around.swap.is_empty(), fails) {
        (true, _) => add(Check::KubeletSwap, Ok, "the node has no swap".to_owned()),
        (false, true) => add(
            Check::KubeletSwap,
            Problem,
            format!(
                "failSwapOn is true, and the node swaps to {}",
                around.swap.join(", ")
            ),
        ),
        (false, false) => add(Check::KubeletSwap, Ok, "failSwapOn is false".to_owned()),
    }
    let policy = settings.cpu_manager_policy.as_deref().unwrap_or("none");
    if around.pins {
        match policy {
            "static" => add(
                Check::KubeletCpuManager,
                Warning,
                "cpuManagerPolicy is static, and pausa's [cpu] pinning is static, too".to_owned(),
            ),
            policy => add(
                Check::KubeletCpuManager,
                Ok,
                format!("cpuManagerPolicy is {policy}"),
            ),
        }
    }
    let file = settings.resolv_conf();
    match around.has_resolv_conf {
        true => add(Check::KubeletResolvConf, Ok, format!("{file} exists")),
        false => add(
            Check::KubeletResolvConf,
            Problem,
            format!("resolvConf is {file}, which does not exist"),
        ),
    }
    if let Some((addresses, of)) = &around.addresses {
        let most = settings.max_pods.unwrap_or(110);
        let verdict = match most <= *addresses {
            true => Ok,
            false => Warning,
        };
        add(
            Check::KubeletMaxPods,
            verdict,
            format!("maxPods is {most}, {of} has {addresses} addresses for pods"),
        );
    }
    let differ: Vec<String> = KERNEL_DEFAULTS
        .iter()
        .filter_map(|(name, wanted)| {
            let value = around.sysctls.get(name).filter(|value| *value != wanted)?;
            Some(format!("{name} is {value}, kubelet wants {wanted}"))
        })
        .collect();
    if settings.protect_kernel_defaults {
        match differ.is_empty() {
            true => add(
                Check::KubeletKernelDefaults,
                Ok,
                "the sysctls are as kubelet wants them".to_owned(),
            ),
            false => add(Check::KubeletKernelDefaults, Problem, differ.join("; ")),
        }
    }
    findings
}
