//! The OOM score of a running container's processes (`oom_score_adj`, proc_pid_oom_score_adj(5)).
//!
//! It is inherited by fork and belongs to each process. kubelet changes it together with a request for memory, from which
//! it computes it (KEP-1287). A process that has another score than the container had has chosen it, and keeps it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use crate::cgroups::Cgroup;
use crate::sandbox::error::PodError;

/// How often the processes are listed: one that has the old score may fork while it is changed.
const ROUNDS: usize = 16;

/// What has become of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Changed,
    /// It has chosen another score, or has ended.
    LeftAlone,
    /// Only CAP_SYS_RESOURCE lowers a score.
    NotPermitted,
}

/// Gives all processes in the cgroup that have the score `old` the score `new`. As at a container's start, a score that may
/// not be lowered stays.
///
/// # Errors
/// The processes cannot be listed, or one cannot be changed.
pub(super) fn change(cgroup: &Cgroup, old: i64, new: i64) -> Result<(), PodError> {
    const DOING: &str = "change the OOM score of the container's processes";
    if old == new {
        return Ok(());
    }
    let list = || cgroup.pids().map_err(|error| PodError::failed(DOING, error));
    let mut kept = BTreeSet::new();
    for _ in 0..ROUNDS {
        let processes: Vec<(i32, OwnedFd)> = list()?
            .into_iter()
            .filter_map(|pid| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Some((pid, open(format!("/proc/{pid}"), flags, Mode::empty()).ok()?))
            })
            .collect();
        // A number may have gone to another process before it was opened; then the container does not have it.
        let still: BTreeSet<i32> = list()?.into_iter().collect();
        let mut changed = false;
        for (pid, process) in processes.iter().filter(|(pid, _)| still.contains(pid)) {
            match change_one(process, old, new) {
                Ok(Outcome::Changed) => changed = true,
                Ok(Outcome::NotPermitted) => drop(kept.insert(*pid)),
                Ok(Outcome::LeftAlone) => {}
                Err(errno) => {
                    return Err(PodError::io(
                        format!("{DOING}: write(/proc/{pid}/oom_score_adj, {new})"),
                        errno,
                    ));
                }
            }
        }
        if !changed {
            break;
        }
    }
    if !kept.is_empty() {
        tracing::warn!(
            processes = ?kept,
            old,
            new,
            "cannot lower the OOM score of processes, because pausa has no CAP_SYS_RESOURCE: they keep the old one, and the kernel may kill them sooner"
        );
    }
    Ok(())
}

fn change_one(process: &OwnedFd, old: i64, new: i64) -> Result<Outcome, Errno> {
    let changed = || -> Result<Outcome, Errno> {
        let file = openat(
            process,
            "oom_score_adj",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut text = [0; 16];
        let length = rustix::io::read(&file, &mut text)?;
        let score = std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| text.trim().parse().ok());
        if score != Some(old) {
            return Ok(Outcome::LeftAlone);
        }
        rustix::io::write(&file, new.to_string().as_bytes())?;
        Ok(Outcome::Changed)
    };
    match changed() {
        Err(Errno::NOENT | Errno::SRCH) => Ok(Outcome::LeftAlone),
        Err(Errno::ACCESS | Errno::PERM) => Ok(Outcome::NotPermitted),
        other => other,
    }
}
