//! What the kernel offers (`docs/kernel-features.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;
use pausa_seccomp::KernelVersion;

use super::finding::{Check, Finding, Verdict};
use crate::config::NetworkMode;

const OLDEST: KernelVersion = KernelVersion::new(5, 15);
/// A configuration has some 200 KiB.
const CONFIG_MAX: u64 = 4 << 20;
const NAMESPACES: [&str; 6] = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];
/// Options without which pods do not start.
const REQUIRED: [&str; 16] = [
    "NAMESPACES",
    "PID_NS",
    "NET_NS",
    "IPC_NS",
    "UTS_NS",
    "CGROUPS",
    "CGROUP_PIDS",
    "CPUSETS",
    "MEMCG",
    "FAIR_GROUP_SCHED",
    "CFS_BANDWIDTH",
    "OVERLAY_FS",
    "SECCOMP_FILTER",
    "MEMFD_CREATE",
    "UNIX",
    "BPF_SYSCALL",
];
/// Options of the built-in bridge.
const BRIDGE: [&str; 2] = ["VETH", "BRIDGE"];
/// Options without which something is left out.
const USEFUL: [&str; 6] = [
    "USER_NS",
    "CGROUP_BPF",
    "PSI",
    "BLK_DEV_THROTTLING",
    "NET_CLS_BPF",
    "KEYS",
];

#[derive(Debug, Clone, Default)]
pub(super) struct Kernel {
    pub(super) release: String,
    /// Names in `/proc/filesystems`; none if it cannot be read.
    pub(super) filesystems: Option<BTreeSet<String>>,
    /// Whether the kernel's modules have overlayfs.
    pub(super) overlay_module: bool,
    pub(super) namespaces: BTreeSet<String>,
    pub(super) max_user_namespaces: Option<u64>,
    pub(super) seccomp: bool,
    /// None on kernels without the sysctl.
    pub(super) memfd_noexec: Option<u64>,
    /// Options that are `y` or `m`; none if there is no configuration.
    pub(super) config: Option<BTreeMap<String, char>>,
}

pub(super) fn read() -> Kernel {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let namespaces = fs::read_dir("/proc/self/ns").into_iter().flatten();
    let modules = ["modules.dep", "modules.builtin"].map(|name| {
        let list = fs::read_to_string(format!("/lib/modules/{release}/{name}"));
        list.unwrap_or_default()
    });
    Kernel {
        filesystems: fs::read_to_string("/proc/filesystems").ok().map(|text| {
            let names = text.lines().filter_map(|line| line.split_whitespace().last());
            names.map(str::to_owned).collect()
        }),
        overlay_module: modules.iter().any(|list| list.contains("/overlay.ko")),
        namespaces: namespaces
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect(),
        max_user_namespaces: super::number("/proc/sys/user/max_user_namespaces"),
        seccomp: fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap_or(false),
        memfd_noexec: super::number("/proc/sys/vm/memfd_noexec"),
        config: config_text(&release).map(|text| options(&text)),
        release,
    }
}

/// The configuration that the kernel was built with, where it or its package shows it.
pub(super) fn config_text(release: &str) -> Option<String> {
    let mut text = String::new();
    let packed = fs::File::open("/proc/config.gz").map(GzDecoder::new);
    if let Ok(packed) = packed
        && packed.take(CONFIG_MAX).read_to_string(&mut text).is_ok()
    {
        return Some(text);
    }
    let files = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ];
    files.into_iter().find_map(|file| fs::read_to_string(file).ok())
}

/// The options that are on, without `CONFIG_`.
pub(super) fn options(text: &str) -> BTreeMap<String, char> {
    let set = text.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        let value = value.chars().next().filter(|value| matches!(value, 'y' | 'm'))?;
        Some((name.to_owned(), value))
    });
    set.collect()
}

pub(super) fn decide(kernel: &Kernel, mode: NetworkMode) -> Vec<Finding> {
    use Verdict::{Info, Ok, Problem, Unknown, Warning};
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));

    let release = &kernel.release;
    match release.parse::<KernelVersion>() {
        Result::Ok(version) if version >= OLDEST => add(Check::KernelVersion, Ok, format!("Linux {release}")),
        Result::Ok(_) => add(
            Check::KernelVersion,
            Problem,
            format!("Linux {release}, older than 5.15"),
        ),
        Err(_) => add(
            Check::KernelVersion,
            Unknown,
            format!("the kernel's release is {release:?}, which does not begin with two numbers"),
        ),
    }
    let overlay = kernel.filesystems.as_ref().map(|names| names.contains("overlay"));
    match overlay {
        Some(true) => add(Check::KernelOverlay, Ok, "the kernel has overlayfs".to_owned()),
        Some(false) if kernel.overlay_module => add(
            Check::KernelOverlay,
            Info,
            "overlayfs is a module that is not loaded; the unit loads it".to_owned(),
        ),
        Some(false) => add(
            Check::KernelOverlay,
            Problem,
            "/proc/filesystems does not have overlay, and there is no module of it".to_owned(),
        ),
        None => add(
            Check::KernelOverlay,
            Unknown,
            "/proc/filesystems cannot be read".to_owned(),
        ),
    }
    let missing: Vec<&str> = NAMESPACES
        .into_iter()
        .filter(|name| !kernel.namespaces.contains(*name))
        .collect();
    match missing.is_empty() {
        true => add(Check::KernelNamespaces, Ok, NAMESPACES.join(", ")),
        false => add(
            Check::KernelNamespaces,
            Problem,
            format!("/proc/self/ns lacks {}", missing.join(", ")),
        ),
    }
    match kernel.max_user_namespaces {
        Some(most @ 1..) if kernel.namespaces.contains("user") => {
            add(
                Check::KernelUserNamespaces,
                Ok,
                format!("user.max_user_namespaces is {most}"),
            );
        }
        Some(0) => add(
            Check::KernelUserNamespaces,
            Warning,
            "user.max_user_namespaces is 0".to_owned(),
        ),
        _ => add(
            Check::KernelUserNamespaces,
            Warning,
            "the kernel has no user namespaces".to_owned(),
        ),
    }
    match kernel.seccomp {
        true => add(
            Check::KernelSeccomp,
            Ok,
            "the kernel has seccomp filters".to_owned(),
        ),
        false => add(
            Check::KernelSeccomp,
            Problem,
            "the kernel has no seccomp filters".to_owned(),
        ),
    }
    match kernel.memfd_noexec {
        Some(2) => add(Check::KernelMemfd, Problem, "vm.memfd_noexec is 2".to_owned()),
        Some(value) => add(Check::KernelMemfd, Ok, format!("vm.memfd_noexec is {value}")),
        None => add(
            Check::KernelMemfd,
            Ok,
            "the kernel has no vm.memfd_noexec".to_owned(),
        ),
    }
    match &kernel.config {
        None => add(
            Check::KernelConfig,
            Info,
            format!("neither /proc/config.gz nor /boot/config-{release} can be read"),
        ),
        Some(config) => {
            let lacks = |names: &[&str]| -> Vec<String> {
                let off = names.iter().filter(|name| !config.contains_key(**name));
                off.map(|name| format!("CONFIG_{name}")).collect()
            };
            let mut required = lacks(&REQUIRED);
            if mode == NetworkMode::Bridge {
                required.extend(lacks(&BRIDGE));
            }
            let useful = lacks(&USEFUL);
            let verdict = match (required.is_empty(), useful.is_empty()) {
                (true, true) => Ok,
                (true, false) => Info,
                (false, _) => Problem,
            };
            let found = match verdict {
                Ok => "all options that pausa uses are on".to_owned(),
                Info => format!("off, and not required: {}", useful.join(", ")),
                _ => format!("off: {}", required.join(", ")),
            };
            add(Check::KernelConfig, verdict, found);
        }
    }
    findings
}
