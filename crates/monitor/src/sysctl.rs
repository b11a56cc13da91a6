//! Sysctls of the pod's namespaces.
//!
//! Names come from pod specs. Each is checked letter by letter and resolved beneath `/proc/sys` without symbolic links, so
//! that it cannot name another file.

use std::os::fd::OwnedFd;

use pausa_monitor_protocol::{Failure, FailureKind};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::failure::{failure, internal};

/// Longest name that is accepted, in bytes.
const NAME_MAX: usize = 256;

/// Writes sysctls in the caller's namespaces.
///
/// # Errors
/// Names the sysctl. An invalid name or value is a failure of kind `Start`.
pub(crate) fn write_all(sysctls: &[(String, String)]) -> Result<(), Failure> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let base = pausa_sys::own_proc("sys").map_err(internal("set sysctls: open(/proc/sys)"))?;
    for (name, value) in sysctls {
        write(&base, name, value)?;
    }
    Ok(())
}

fn write(base: &OwnedFd, name: &str, value: &str) -> Result<(), Failure> {
    let path = path(name).ok_or_else(|| {
        failure(
            FailureKind::Start,
            format!("set sysctl {name:?}: not a valid name of a sysctl"),
        )
    })?;
    if path == "kernel/domainname" {
        // Its file is the node's root's alone, whoever has the UTS namespace.
        return rustix::system::setdomainname(value.as_bytes()).map_err(|errno| Failure {
            kind: FailureKind::Start,
            step: format!("set sysctl {name}: setdomainname({value:?})"),
            errno: errno.raw_os_error(),
        });
    }
    let file = rustix::fs::openat2(
        base,
        &path,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|errno| Failure {
        kind: FailureKind::Start,
        step: format!("set sysctl {name}: openat2(/proc/sys/{path}, O_WRONLY)"),
        errno: errno.raw_os_error(),
    })?;
    // A single write(2): the kernel accepts a value only as a whole.
    rustix::io::write(&file, value.as_bytes())
        .map(drop)
        .map_err(|errno| Failure {
            kind: FailureKind::Start,
            step: format!("set sysctl {name}: write({value:?})"),
            errno: errno.raw_os_error(),
        })
}

/// The path beneath `/proc/sys`, by the rule of sysctl(8): whichever of `.` and `/` comes first is the separator, and the
/// other one is part of a name, as in `net/ipv4/conf/eth0.1/forwarding`.
fn path(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-/".contains(&byte);
    if name.len() > NAME_MAX || !name.bytes().all(allowed) {
        return None;
    }
    let path: String = match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('.') => name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let named = |part: &str| !part.is_empty() && part != "." && part != "..";
    (path.contains('/') && path.split('/').all(named)).then_some(path)
}

#[cfg(test)]
mod tests;
