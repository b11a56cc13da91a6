//! Limits of the whole node that containers use up together, and the clock.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use super::finding::{Check, Finding, Verdict};
use super::kubelet::KERNEL_DEFAULTS;

/// From so many percent of a limit on it is a warning.
const CROWDED: u64 = 80;
/// From so many on it is a problem.
const FULL: u64 = 97;
/// Instances of inotify that the kernel allows a user by default.
const FEW_INSTANCES: u64 = 128;
/// Descriptors that are looked at.
const DESCRIPTORS: usize = 100_000;
/// 2026-01-01: this program is not older.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Instances of inotify of root.
    pub(super) inotify: Option<u64>,
    pub(super) inotify_instances: Option<u64>,
    pub(super) inotify_watches: Option<u64>,
    pub(super) open_files: Option<(u64, u64)>,
    pub(super) tasks: Option<u64>,
    pub(super) pid_max: Option<u64>,
    pub(super) threads_max: Option<u64>,
    /// Keys of root, and how many it may have.
    pub(super) keys: Option<(u64, u64)>,
    pub(super) mounts: u64,
    pub(super) mount_max: Option<u64>,
    pub(super) clock: Option<bool>,
    pub(super) now: Option<SystemTime>,
}

pub(super) fn read() -> Limits {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let files = text("/proc/sys/fs/file-nr");
    let files: Vec<u64> = files
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    Limits {
        inotify: inotify_instances(),
        inotify_instances: super::number("/proc/sys/fs/inotify/max_user_instances"),
        inotify_watches: super::number("/proc/sys/fs/inotify/max_user_watches"),
        open_files: match files[..] {
            [open, _, most] => Some((open, most)),
            _ => None,
        },
        tasks: tasks(&text("/proc/loadavg")),
        pid_max: super::number("/proc/sys/kernel/pid_max"),
        threads_max: super::number("/proc/sys/kernel/threads-max"),
        keys: keys(&text("/proc/key-users")),
        mounts: u64::try_from(text("/proc/self/mountinfo").lines().count()).unwrap_or(u64::MAX),
        mount_max: super::number("/proc/sys/fs/mount-max"),
        clock: pausa_sys::clock_state().ok().map(|state| state.synchronised),
        now: Some(SystemTime::now()),
    }
}

/// `0.10 0.20 0.30 1/234 5678`: 234 processes and threads.
pub(super) fn tasks(loadavg: &str) -> Option<u64> {
    let counts = loadavg.split_whitespace().nth(3)?;
    counts.split_once('/')?.1.parse().ok()
}

/// The keys of user 0: `    0:    12 11/11 9/1000000 178/25000000`.
pub(super) fn keys(text: &str) -> Option<(u64, u64)> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("0:"))?;
    let (used, most) = line.split_whitespace().nth(2)?.split_once('/')?;
    Some((used.parse().ok()?, most.parse().ok()?))
}

/// How many instances of inotify root has; none if that is too much to count.
fn inotify_instances() -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut found, mut looked) = (0, 0);
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name();
        if !pid.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        if process.metadata().is_ok_and(|data| data.uid() != 0) {
            continue;
        }
        for descriptor in fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            looked += 1;
            if looked > DESCRIPTORS {
                return None;
            }
            let target = fs::read_link(descriptor.path());
            found += u64::from(target.is_ok_and(|target| target.as_os_str() == "anon_inode:inotify"));
        }
    }
    Some(found)
}

/// The soft limit of open files in `/proc/PID/limits`.
pub(super) fn open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The sysctls that kubelet has an opinion about.
pub(super) fn kernel_defaults() -> BTreeMap<&'static str, u64> {
    let names = KERNEL_DEFAULTS.iter().map(|(name, _)| *name);
    names
        .filter_map(|name| {
            Some((
                name,
                super::number(&format!("/proc/sys/{}", name.replace('.', "/")))?,
            ))
        })
        .collect()
}

fn level(used: u64, most: u64) -> Verdict {
    let percent = u128::from(used) * 100 / u128::from(most.max(1));
    match percent {
        percent if percent >= u128::from(FULL) => Verdict::Problem,
        percent if percent >= u128::from(CROWDED) => Verdict::Warning,
        _ => Verdict::Ok,
    }
}

pub(super) fn decide(limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    if let (Some(instances), Some(watches)) = (limits.inotify_instances, limits.inotify_watches) {
        let used = limits
            .inotify
            .map_or_else(|| "an unknown number".to_owned(), |used| used.to_string());
        let verdict = match limits.inotify.map_or(Verdict::Ok, |used| level(used, instances)) {
            Verdict::Ok if instances <= FEW_INSTANCES => Verdict::Info,
            verdict => verdict,
        };
        add(
            Check::LimitsInotify,
            verdict,
            format!("root has {used} of {instances} instances of inotify, with {watches} watches at most"),
        );
    }
    if let Some((open, most)) = limits.open_files {
        add(
            Check::LimitsOpenFiles,
            level(open, most),
            format!("{open} of {most} files are open"),
        );
    }
    if let (Some(tasks), Some(pids), Some(threads)) = (limits.tasks, limits.pid_max, limits.threads_max) {
        add(
            Check::LimitsProcesses,
            level(tasks, pids.min(threads)),
            format!(
                "{tasks} processes and threads run, kernel.pid_max is {pids}, kernel.threads-max {threads}"
            ),
        );
    }
    if let Some((keys, most)) = limits.keys {
        add(
            Check::LimitsKeys,
            level(keys, most),
            format!("root has {keys} of {most} keys"),
        );
    }
    if let Some(most) = limits.mount_max {
        let mounts = limits.mounts;
        add(
            Check::LimitsMounts,
            level(mounts, most),
            format!("{mounts} mounts, fs.mount-max is {most}"),
        );
    }
    match limits.clock {
        Some(true) => add(
            Check::TimeSynchronised,
            Verdict::Ok,
            "the kernel's clock is synchronised".to_owned(),
        ),
        Some(false) => add(
            Check::TimeSynchronised,
            Verdict::Warning,
            "nobody has told the kernel that its clock is right (STA_UNSYNC)".to_owned(),
        ),
        None => add(
            Check::TimeSynchronised,
            Verdict::Unknown,
            "adjtimex(2) failed".to_owned(),
        ),
    }
    if let Some(now) = limits.now {
        let earliest = SystemTime::UNIX_EPOCH + EARLIEST;
        let shown =
            jiff::Timestamp::try_from(now).map_or_else(|_| "unknown".to_owned(), |now| now.to_string());
        match now >= earliest {
            true => add(Check::TimePlausible, Verdict::Ok, format!("it is {shown}")),
            false => add(
                Check::TimePlausible,
                Verdict::Problem,
                format!("the clock says {shown}, when this program did not exist"),
            ),
        }
    }
    findings
}
