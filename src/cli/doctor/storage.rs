//! Room and kind of the file systems that pausa and kubelet write to.
//!
//! Room is measured against the thresholds at which kubelet evicts pods: what it takes for too little is a problem.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags};

use super::finding::{Check, Finding, Verdict};
use crate::cli::units;
use crate::config::Config;
use crate::error::chain;
use crate::quantity;
use crate::quota::{Projects, Support};

/// Where kubelet has the logs of containers.
const LOGS: &str = "/var/log/pods";
/// So much more than the threshold, in percent of all, is a warning.
const MARGIN: u64 = 5;
/// Less than this is too little for anything, whatever the percentage says.
const LEAST: u64 = 64 << 20;
/// Entries that are looked at for their type.
const ENTRIES: usize = 64;

/// Kinds of file systems by `f_type`, and whether overlayfs takes them as upper layer.
const KINDS: [(u64, &str, bool); 16] = [
    (0xef53, "ext4", true),
    (0x5846_5342, "xfs", true),
    (0x9123_683e, "btrfs", true),
    (0xf2f5_2010, "f2fs", true),
    (0x0102_1994, "tmpfs", true),
    (0xca45_1a4e, "bcachefs", true),
    (0x2fc1_2fc1, "zfs", true),
    (0x8584_58f6, "ramfs", false),
    (0x794c_7630, "overlay", false),
    (0x6969, "nfs", false),
    (0x6573_5546, "fuse", false),
    (0x4d44, "vfat", false),
    (0x2011_bab0, "exfat", false),
    (0xff53_4d42, "cifs", false),
    (0x00c3_6400, "ceph", false),
    (0x0102_1997, "9p", false),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Root,
    State,
    Logs,
}

#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) used_for: Use,
    pub(super) path: PathBuf,
    /// The directory that was looked at: the path, or what of it exists.
    pub(super) existing: PathBuf,
    pub(super) bytes: Room,
    pub(super) inodes: Room,
    pub(super) read_only: bool,
    /// `f_type` of statfs(2).
    pub(super) kind: u64,
    /// Whether the entries of directories have types; none if there are no entries.
    pub(super) has_types: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: u64,
    /// 0 where there is no limit.
    pub(super) all: u64,
}

#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) places: Vec<Place>,
    /// Places that cannot be looked at, and why.
    pub(super) unreadable: Vec<String>,
    /// Runtime handlers whose limits cannot be enforced, and why.
    pub(super) unenforced: Vec<String>,
}

pub(super) fn read(config: &Config) -> Storage {
    let mut storage = Storage::default();
    let places = [
        (Use::Root, config.root.clone()),
        (Use::State, config.state.clone()),
        (Use::Logs, LOGS.into()),
    ];
    for (used_for, path) in places {
        match place(used_for, &path) {
            Ok(place) => storage.places.push(place),
            Err(error) => storage.unreadable.push(format!("{}: {error}", path.display())),
        }
    }
    let limited = config.handlers.iter().filter(|(_, handler)| {
        let limits = [handler.writable_layer_limit, handler.pod_writable_layer_limit];
        limits.iter().any(Option::is_some)
    });
    for (name, _) in limited {
        let existing = existing(&config.root.join("pods"));
        match Projects::open(&existing) {
            Ok(projects) if projects.support() == Support::Enforced => {}
            Ok(projects) => storage
                .unenforced
                .push(format!("[handlers.{name:?}]: {}", chain(&projects.unsupported()))),
            Err(error) => storage
                .unenforced
                .push(format!("[handlers.{name:?}]: {}", chain(&error))),
        }
    }
    storage
}

/// The path, or the part of it that exists.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.exists());
    found.unwrap_or_else(|| Path::new("/")).to_owned()
}

fn place(used_for: Use, path: &Path) -> rustix::io::Result<Place> {
    let existing = existing(path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(&existing, flags, Mode::empty())?;
    let stat = rustix::fs::fstatvfs(&dir)?;
    let kind = rustix::fs::fstatfs(&dir)?.f_type;
    let mut has_types = None;
    for entry in rustix::fs::Dir::read_from(&dir)?.take(ENTRIES).flatten() {
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            has_types = Some(has_types == Some(true) || entry.file_type() != FileType::Unknown);
        }
    }
    Ok(Place {
        used_for,
        path: path.to_owned(),
        existing,
        bytes: Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            all: stat.f_blocks.saturating_mul(stat.f_frsize),
        },
        inodes: Room {
            free: stat.f_favail,
            all: stat.f_files,
        },
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        kind: u64::try_from(kind).unwrap_or(0) & 0xffff_ffff,
        has_types,
    })
}

/// What a threshold such as `10%` or `1Gi` is of all that there is.
pub(super) fn threshold(text: &str, all: u64) -> Option<u64> {
    match text.trim().strip_suffix('%') {
        Some(percent) => {
            let thousandths = quantity::parse(&format!("{percent}k"))?.min(100_000);
            u64::try_from(u128::from(all) * u128::from(thousandths) / 100_000).ok()
        }
        None => quantity::parse(text.trim()),
    }
}

/// kubelet's thresholds for the images and writable layers (`imagefs`) and for the rest (`nodefs`).
fn limits(used_for: Use, evictions: &BTreeMap<String, String>) -> (String, String) {
    let of = |signal: &str, default: &str| {
        let set = evictions.get(signal);
        set.map_or_else(|| default.to_owned(), Clone::clone)
    };
    match used_for {
        Use::Root => (of("imagefs.available", "15%"), of("imagefs.inodesFree", "5%")),
        Use::Logs => (of("nodefs.available", "10%"), of("nodefs.inodesFree", "5%")),
        // kubelet does not watch it; what is there is small.
        Use::State => ("5%".to_owned(), "5%".to_owned()),
    }
}

pub(super) fn decide(storage: &Storage, evictions: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    for place in &storage.places {
        let name = match place.used_for {
            Use::Root => "root",
            Use::State => "state",
            Use::Logs => "container logs",
        };
        let at = format!("{name} {}", place.path.display());
        let at = match place.path == place.existing {
            true => at,
            false => format!("{at} (not there yet, looked at {})", place.existing.display()),
        };
        let kind = KINDS.iter().find(|(magic, _, _)| *magic == place.kind);
        let (space, inodes) = limits(place.used_for, evictions);
        for (check, room, limit, what) in [
            (Check::DiskSpace, place.bytes, &space, "free"),
            (Check::DiskInodes, place.inodes, &inodes, "inodes free"),
        ] {
            if room.all == 0 {
                // No limit, as with inodes of btrfs.
                continue;
            }
            let limit_of_all = threshold(limit, room.all).unwrap_or(0);
            let margin = room.all / 100 * MARGIN;
            let least = match (check, place.used_for) {
                (Check::DiskSpace, Use::Root | Use::Logs) => LEAST,
                _ => 0,
            };
            let verdict = match room.free {
                free if free < limit_of_all.max(least) || free == 0 => Verdict::Problem,
                free if free < limit_of_all + margin => Verdict::Warning,
                _ => Verdict::Ok,
            };
            let shown = |value: u64| match check {
                Check::DiskSpace => units::size(value),
                _ => value.to_string(),
            };
            let percent = u128::from(room.free) * 100 / u128::from(room.all);
            let whose = match place.used_for {
                Use::State => "pausa's threshold",
                Use::Root | Use::Logs => "kubelet's threshold",
            };
            add(
                check,
                verdict,
                format!(
                    "{at}: {} of {} {what} ({percent} %), {whose} is {limit}",
                    shown(room.free),
                    shown(room.all)
                ),
            );
        }
        match place.read_only {
            true => add(
                Check::DiskWritable,
                Verdict::Problem,
                format!("{at}: mounted read-only"),
            ),
            false => add(
                Check::DiskWritable,
                Verdict::Ok,
                format!("{at}: mounted read-write"),
            ),
        }
        let shown = kind.map_or_else(
            || format!("of type {:#x}", place.kind),
            |(_, name, _)| (*name).to_owned(),
        );
        let fits = kind.map(|(_, _, fits)| *fits);
        match place.used_for {
            Use::Root => {
                let (verdict, found) = match (fits, place.has_types) {
                    (_, Some(false)) => (Verdict::Problem, "has no types in directory entries (d_type)"),
                    (Some(false), _) => (Verdict::Problem, "cannot be an upper layer of overlayfs"),
                    (Some(true), _) => (Verdict::Ok, "can be an upper layer of overlayfs"),
                    (None, _) => (Verdict::Info, "is not known to pausa"),
                };
                add(Check::DiskFilesystem, verdict, format!("{at}: {shown} {found}"));
                let verdict = match shown.as_str() {
                    "tmpfs" | "ramfs" => Verdict::Warning,
                    _ => Verdict::Ok,
                };
                add(Check::DiskPersistent, verdict, format!("{at}: {shown}"));
            }
            Use::State => {
                let verdict = match shown.as_str() {
                    "tmpfs" | "ramfs" => Verdict::Ok,
                    _ => Verdict::Warning,
                };
                add(Check::DiskState, verdict, format!("{at}: {shown}"));
            }
            Use::Logs => {}
        }
    }
    for unreadable in &storage.unreadable {
        add(Check::DiskSpace, Verdict::Unknown, unreadable.clone());
    }
    for unenforced in &storage.unenforced {
        add(Check::DiskQuota, Verdict::Problem, unenforced.clone());
    }
    findings
}

/// Why nothing is known about the file systems: one of them does not answer.
pub(super) fn hangs(config: &Config) -> Finding {
    let found = format!(
        "{}, {} or {LOGS} does not answer: statfs(2) has not returned",
        config.root.display(),
        config.state.display()
    );
    Finding::new(Check::DiskWritable, Verdict::Problem, found)
}

/// Types that `/proc/swaps` lists.
pub(super) fn swaps() -> Vec<String> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}
