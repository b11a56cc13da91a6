//! Sysctls of the calling thread's network namespace.
//!
//! Names of interfaces are part of the path: it is resolved beneath `/proc/sys/net`, without symbolic links.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Of a value that is exchanged, only so many bytes are looked at.
const LONGEST: usize = 256;

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
    let file = match open(path, OFlags::RDWR) {
        // It may have the value all the same.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            let before = read(path)?;
            return if before == value { Ok(before) } else { Err(error) };
        }
        file => file?,
    };
    let mut content = [0; LONGEST];
    let length = file.read_at(&mut content, 0)?;
    let before = String::from_utf8_lossy(content.get(..length).unwrap_or_default());
    let before = before.trim_end().to_owned();
    if before != value {
        // A single pwrite(2): the kernel accepts a value only as a whole.
        file.write_all_at(value.as_bytes(), 0)?;
    }
    Ok(before)
}

/// Where a thread looks up sysctls.
enum Procfs {
    /// `/proc`, as everybody.
    Shared,
    /// In one of its own, which is not made yet.
    Wanted,
    /// `sys/net` of its own.
    Own(OwnedFd),
}

thread_local! {
    static PROCFS: RefCell<Procfs> = const { RefCell::new(Procfs::Shared) };
}

/// Makes this thread, which is in another network namespace than the others, look sysctls up in a procfs of its own
/// ([`pausa_sys::own_proc`]).
pub(crate) fn use_own_procfs() {
    PROCFS.set(Procfs::Wanted);
}

/// `/proc/sys/net`
fn with_base<T>(act: impl FnOnce(&OwnedFd) -> Result<T, Errno>) -> Result<T, Errno> {
    PROCFS.with_borrow_mut(|procfs| {
        if matches!(procfs, Procfs::Wanted) {
            *procfs = Procfs::Own(pausa_sys::own_proc("sys/net")?);
        }
        match procfs {
            Procfs::Own(base) => act(base),
            Procfs::Shared | Procfs::Wanted => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                act(&openat(CWD, "/proc/sys/net", flags, Mode::empty())?)
            }
        }
    })
}

fn open(path: &str, flags: OFlags) -> io::Result<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = with_base(|base| openat2(base, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve));
    Ok(File::from(file?))
}
