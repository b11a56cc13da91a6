//! Device rules on cgroup v2: a program attached to the cgroup's directory.
//!
//! It is attached beside programs of others, and stays attached when the daemon ends. New rules replace old ones
//! atomically. Our programs are recognised by their name, which `bpftool cgroup tree` shows.

use std::os::fd::{AsFd, OwnedFd};

use pausa_sys as sys;
use rustix::io::Errno;

use super::program::compile;
use super::rule::{DENY_ALL, Rule};
use crate::cgroups::dir::Dir;
use crate::cgroups::error::CgroupError;

/// At most 15 characters.
const NAME: &str = "pausa_devices";

/// Checks that this daemon may load such programs; the first container would get the same error.
pub(in crate::cgroups) fn probe(dir: &Dir) -> Result<(), CgroupError> {
    load(dir, &[DENY_ALL]).map(drop)
}

/// Enforces the rules. Rules that deny nothing need no program.
pub(super) fn apply(dir: &Dir, rules: &[Rule]) -> Result<(), CgroupError> {
    let program = load(dir, rules)?;
    let mut before = ours(dir)?.into_iter();
    if let Some(program) = program {
        let replaced = before.next();
        sys::attach_device_program(
            dir.as_fd(),
            program.as_fd(),
            replaced.as_ref().map(OwnedFd::as_fd),
        )
        .map_err(|errno| failed(dir, "bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)", errno))?;
    }
    for outdated in before {
        sys::detach_device_program(dir.as_fd(), outdated.as_fd())
            .map_err(|errno| failed(dir, "bpf(BPF_PROG_DETACH, BPF_CGROUP_DEVICE)", errno))?;
    }
    Ok(())
}

fn load(dir: &Dir, rules: &[Rule]) -> Result<Option<OwnedFd>, CgroupError> {
    compile(rules)
        .map(|program| sys::load_device_program(NAME, &program))
        .transpose()
        .map_err(|errno| failed(dir, "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE)", errno))
}

/// Our programs that are attached to the directory.
fn ours(dir: &Dir) -> Result<Vec<OwnedFd>, CgroupError> {
    let ids = sys::device_programs(dir.as_fd())
        .map_err(|errno| failed(dir, "bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)", errno))?;
    let mut ours = Vec::new();
    for id in ids {
        let program = match sys::open_program(id) {
            Ok(program) => program,
            // Another program, which was detached meanwhile.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(failed(dir, "bpf(BPF_PROG_GET_FD_BY_ID)", errno)),
        };
        let name = sys::program_name(program.as_fd())
            .map_err(|errno| failed(dir, "bpf(BPF_OBJ_GET_INFO_BY_FD)", errno))?;
        if name == NAME {
            ours.push(program);
        }
    }
    Ok(ours)
}

fn failed(dir: &Dir, call: &'static str, errno: Errno) -> CgroupError {
    CgroupError::Devices {
        call,
        path: dir.path().to_path_buf(),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests;
