//! Sysctls of network interfaces, in the calling thread's network namespace.
//!
//! Names of interfaces are part of the path: it is resolved beneath `/proc/sys/net`, without symbolic links.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::error::chain;

/// Sets `path` beneath `/proc/sys/net` to `value`, unless it is. A failure is logged, with what it leads to. A sysctl that
/// does not exist is none: the kernel lacks the protocol, or the interface is gone.
pub(super) fn set(path: &str, value: &str, consequence: &'static str) {
    match try_set(path, value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!(
            sysctl = format!("net/{path}"),
            value,
            error = chain(&error),
            "cannot set this sysctl; {consequence}"
        ),
        _ => {}
    }
}

fn try_set(path: &str, value: &str) -> io::Result<()> {
    let base = openat(
        CWD,
        "/proc/sys/net",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let open = |flags: OFlags| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&base, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).map(File::from)
    };
    let mut present = String::new();
    open(OFlags::RDONLY)?.read_to_string(&mut present)?;
    if present.trim() == value {
        return Ok(());
    }
    // A single write(2): the kernel accepts a value only as a whole.
    open(OFlags::WRONLY)?.write_all(value.as_bytes())
}
