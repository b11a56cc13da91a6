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
    if let Err(error) = exchange(path, value) {
        report(path, value, &error, consequence);
    }
}

/// Calls `act` while `path` is `value`, and sets it to what it was before. Failures are treated as by [`set`].
pub(super) fn during<T>(path: &str, value: &str, consequence: &'static str, act: impl FnOnce() -> T) -> T {
    let before = exchange(path, value);
    let outcome = act();
    let restored = before.and_then(|before| exchange(path, &before));
    if let Err(error) = restored {
        report(path, value, &error, consequence);
    }
    outcome
}

fn report(path: &str, value: &str, error: &io::Error, consequence: &'static str) {
    if error.kind() != io::ErrorKind::NotFound {
        tracing::warn!(
            sysctl = format!("net/{path}"),
            value,
            error = chain(error),
            "cannot set this sysctl; {consequence}"
        );
    }
}

/// Sets a sysctl, unless it is set so, and returns what it was before.
fn exchange(path: &str, value: &str) -> io::Result<String> {
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
    let mut before = String::new();
    open(OFlags::RDONLY)?.read_to_string(&mut before)?;
    let before = before.trim();
    if before != value {
        // A single write(2): the kernel accepts a value only as a whole.
        open(OFlags::WRONLY)?.write_all(value.as_bytes())?;
    }
    Ok(before.to_owned())
}
