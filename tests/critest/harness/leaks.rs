//! What is left on the node of pods and containers that were removed.
//!
//! Everything is attributed: to an id of the test, to its directory or to its slot. So tests may run side by side,
//! and a foreign daemon's other pods do not count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::slot::Slot;

/// A prefix of an id that is long enough to mean nothing else.
const SHORT: usize = 13;

/// Whatever still carries one of `ids`: mounts, files, addresses, monitors. The daemon still runs.
pub(crate) fn named(ids: &BTreeSet<String>, dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let short: Vec<&str> = ids.iter().map(|id| id.get(..SHORT).unwrap_or(id)).collect();
    let named = |text: &str| short.iter().any(|id| text.contains(id));
    left.extend(
        mounts()
            .into_iter()
            .filter(|mount| named(mount))
            .map(|mount| format!("mount {mount}")),
    );
    for place in [
        dir.join("r"),
        dir.join("s"),
        dir.join("cni"),
        "/run/netns".into(),
        "/var/run/netns".into(),
    ] {
        walk(&place, 6, &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if named(&name) {
                left.push(format!("file {}", path.display()));
            }
        });
    }
    walk(&dir.join("r/network"), 3, &mut |path| {
        // Addresses of the built-in bridge hold the pod's id.
        let owner = std::fs::read(path).unwrap_or_default();
        if named(&String::from_utf8_lossy(&owner)) {
            left.push(format!("address {}", path.display()));
        }
    });
    for root in std::iter::once("/sys/fs/cgroup".into()).chain(hierarchies()) {
        for parent in ["pausa", "pausa.slice"] {
            walk(&root.join(parent), 2, &mut |path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if path.is_dir() && named(&name) {
                    left.push(format!("cgroup {}", path.display()));
                }
            });
        }
    }
    // One that is in no cgroup of ours yet, or not any more.
    walk(Path::new("/proc"), 1, &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Ok(pid) = name.parse() {
            let command = command(pid);
            if command.starts_with("pausa-monitor ") && named(&command) {
                left.push(format!("monitor {pid} ({command})"));
            }
        }
    });
    left
}

/// Whatever still carries one of `ids`, and the slot's processes, cgroups and interfaces. The daemon still runs.
pub(crate) fn of(ids: &BTreeSet<String>, dir: &Path, slot: &Slot) -> Vec<String> {
    let mut left = named(ids, dir);
    left.extend(
        processes(slot)
            .into_iter()
            .map(|pid| format!("process {pid} ({})", command(pid))),
    );
    for pod in cgroups(slot) {
        walk(&pod, 4, &mut |path| {
            // The pod's own cgroup is kubelet's; what is in it is the runtime's.
            if path.is_dir()
                && path
                    .strip_prefix(&pod)
                    .is_ok_and(|rest| rest.components().count() > 1)
            {
                left.push(format!("cgroup {}", path.display()));
            }
        });
    }
    let bridge = slot.bridge();
    left.extend(
        ports(&bridge)
            .into_iter()
            .map(|port| format!("interface {port} on {bridge}")),
    );
    left
}

/// The interfaces that are attached to a bridge.
pub(crate) fn ports(bridge: &str) -> Vec<String> {
    names(Path::new(&format!("/sys/class/net/{bridge}/brif")))
}

/// The names in a directory, if there is one.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What a stopped daemon without pods may not leave: mounts below its directory.
pub(crate) fn of_stopped(dir: &Path) -> Vec<String> {
    let dir = format!("{}/", dir.display());
    let below = mounts().into_iter().filter(|mount| mount.contains(&dir));
    below
        .map(|mount| format!("mount after the daemon's end: {mount}"))
        .collect()
}

/// The lines of mountinfo.
pub(crate) fn mounts() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The slot's cgroup in every hierarchy that has it.
pub(crate) fn cgroups(slot: &Slot) -> Vec<PathBuf> {
    let name = slot.cgroup();
    std::iter::once("/sys/fs/cgroup".into())
        .chain(hierarchies())
        .map(|root| root.join(&name))
        .filter(|path| path.is_dir())
        .collect()
}

/// Where hierarchies of cgroup v1 are mounted, on a node that has some.
fn hierarchies() -> Vec<PathBuf> {
    let below = std::fs::read_dir("/sys/fs/cgroup");
    let below = below.into_iter().flatten().flatten();
    below
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Processes in the slot's cgroups.
pub(crate) fn processes(slot: &Slot) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    for cgroup in cgroups(slot) {
        walk(&cgroup, 6, &mut |path| {
            if path.ends_with("cgroup.procs") {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
            }
        });
    }
    pids
}

/// A process's command line, for people.
pub(crate) fn command(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Visits everything below `dir` to a depth, without following links.
pub(crate) fn walk(dir: &Path, depth: usize, visit: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        visit(&path);
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, depth - 1, visit);
        }
    }
}
