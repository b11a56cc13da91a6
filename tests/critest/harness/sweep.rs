//! Removes by force what a test that failed, or was killed, left on the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::leaks::{cgroups, mounts, names, ports, processes, walk};
use super::slot::{Slot, has_slices};
use super::which;

/// Kills and removes everything that carries the slot's names.
pub(crate) fn slot(slot: &Slot) {
    let mut outside = BTreeSet::new();
    for _ in 0..100 {
        let pids = processes(slot);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            outside.extend(pids_of_pausa(pid));
            Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if has_slices() && !cgroups(slot).is_empty() {
        // With all slices and scopes in it.
        quietly("systemctl", &["stop", &slot.cgroup()]);
    }
    for cgroup in cgroups(slot) {
        let mut dirs = vec![cgroup.clone()];
        walk(&cgroup, 8, &mut |path| {
            if path.is_dir() {
                dirs.push(path.to_owned());
            }
        });
        for dir in dirs.iter().rev() {
            std::fs::remove_dir(dir).ok();
        }
    }
    for dir in outside {
        std::fs::remove_dir(dir).ok();
    }
    let bridge = slot.bridge();
    for port in ports(&bridge) {
        quietly("ip", &["link", "delete", &port]);
    }
    if Path::new("/sys/class/net").join(&bridge).exists() {
        quietly("ip", &["link", "delete", &bridge]);
        quietly("nft", &["delete", "table", "inet", &format!("pausa_{bridge}")]);
        quietly("nft", &["delete", "table", "ip", &format!("pausa_{bridge}")]);
    }
}

/// On cgroup v1, where the pids of a monitor are counted, which is outside of the slot.
fn pids_of_pausa(pid: i32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.split_once(":pids:/pausa/"))?.1;
    Some(Path::new("/sys/fs/cgroup/pids/pausa").join(path))
}

/// Unmounts everything below a directory, the last mounted first.
pub(crate) fn mounts_below(dir: &Path) {
    let below = format!("{}/", dir.display());
    for mount in mounts().iter().rev() {
        if let Some(point) = mount.split(' ').nth(4).filter(|point| point.starts_with(&below)) {
            unmount(point, UnmountFlags::DETACH).ok();
        }
    }
}

/// Removes the files of the network namespaces of pods: of those that have a directory, too, because a test may never have
/// heard of them.
pub(crate) fn namespaces(mut pods: BTreeSet<String>, dir: &Path) {
    for tree in ["s/pods", "r/pods"] {
        pods.extend(names(&dir.join(tree)));
    }
    for pod in pods {
        let file = Path::new("/run/netns").join(format!("pausa-{}", pod.get(..32).unwrap_or(&pod)));
        unmount(&file, UnmountFlags::DETACH).ok();
        std::fs::remove_file(&file).ok();
    }
}

fn quietly(program: &str, args: &[&str]) {
    if let Some(program) = which(program) {
        Command::new(program)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}
