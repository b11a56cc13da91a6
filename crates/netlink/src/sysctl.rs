//! Sysctls of the calling thread's network namespace.
//!
//! Names of interfaces are part of the path: it is resolved beneath `/proc/sys/net`, without symbolic links.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// The value of a sysctl, such as `ipv4/ip_forward`, without the end of its line.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if there is none: the kernel lacks the protocol, or the interface is gone.
pub fn read(path: &str) -> io::Result<String> {
    let mut value = String::new();
    open(path, OFlags::RDONLY)?.read_to_string(&mut value)?;
    value.truncate(value.trim_end().len());
    Ok(value)
}

/// Sets a sysctl, also one that cannot be read or that has the value: `conf/all` sets the value of every interface.
///
/// # Errors
/// As [`read`], and what the kernel says to the value.
pub fn write(path: &str, value: &str) -> io::Result<()> {
    // A single write(2): the kernel accepts a value only as a whole.
    open(path, OFlags::WRONLY)?.write_all(value.as_bytes())
}

/// Sets a sysctl, unless it has that value, and returns the value before.
///
/// # Errors
/// As [`read`], and what the kernel says to the value.
pub fn exchange(path: &str, value: &str) -> io::Result<String> {
    let before = read(path)?;
    if before != value {
        write(path, value)?;
    }
    Ok(before)
}

fn open(path: &str, flags: OFlags) -> io::Result<File> {
    let base = openat(
        CWD,
        "/proc/sys/net",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = openat2(&base, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    Ok(File::from(file))
}
