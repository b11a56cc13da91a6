//! User namespaces (user_namespaces(7)): making one with an id map, and finding the owner of another namespace.
//!
//! The maps of a user namespace can only be written while a process is in it. Here that process is a child that only
//! waits, so that the caller stays in its own namespace and may have other threads.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::clone::{Child, clone_raw};
use crate::exit_now;
use crate::syscall::check;

const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
/// `NS_GET_USERNS`: `_IO(0xb7, 0x1)`, ioctl_ns(2).
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Which call of [`user_namespace`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{call}")]
pub struct UserNamespaceError {
    /// The call with its arguments.
    pub call: &'static str,
    /// Why the kernel refused it.
    #[source]
    pub errno: Errno,
}

fn at(call: &'static str) -> impl FnOnce(std::io::Error) -> UserNamespaceError {
    move |error| UserNamespaceError {
        call,
        errno: error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
    }
}

/// Makes a user namespace that maps its users and groups 0 to `length` - 1 to `first` and the following ones outside. It
/// lives as long as the descriptor or anything that belongs to it.
///
/// # Errors
/// The call that failed. ENOSPC of clone3(2) means that `user.max_user_namespaces` is reached.
pub fn user_namespace(first: u32, length: u32) -> Result<OwnedFd, UserNamespaceError> {
    let (wait, release) = std::io::pipe().map_err(at("pipe2(O_CLOEXEC)"))?;
    // SAFETY: the child only closes, reads and exits, which are system calls.
    let cloned = unsafe { clone_raw(CLONE_NEWUSER, None) };
    let Some(child) = cloned.map_err(|errno| at("clone3(CLONE_NEWUSER)")(errno.into()))? else {
        until_closed(&wait, &release);
        exit_now(0);
    };
    let made = map(&child, first, length);
    drop(release);
    // The child ends by itself unless something has stopped it.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    made
}

/// Runs in the child: waits until the parent has closed its end.
fn until_closed(wait: &PipeReader, release: &PipeWriter) {
    let mut byte = 0_u8;
    // SAFETY: both descriptors are open. The child uses its copy of `release` nowhere else and ends by exit_now, which
    // does not run the owner's destructor. The buffer is one live byte.
    unsafe {
        libc::close(release.as_raw_fd());
        libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
    }
}

fn map(child: &Child, first: u32, length: u32) -> Result<OwnedFd, UserNamespaceError> {
    let line = format!("0 {first} {length}\n");
    let write = |file: &str| -> std::io::Result<()> {
        let path = format!("/proc/{}/{file}", child.pid);
        // A single write(2): the kernel accepts a map only once and as a whole.
        OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(line.as_bytes())
    };
    write("uid_map").map_err(at("write(/proc/PID/uid_map)"))?;
    write("gid_map").map_err(at("write(/proc/PID/gid_map)"))?;
    let namespace =
        File::open(format!("/proc/{}/ns/user", child.pid)).map_err(at("open(/proc/PID/ns/user)"))?;
    Ok(namespace.into())
}

/// Checks that proc and sysfs can be mounted in a user namespace. The kernel refuses that if parts of the caller's own
/// proc or sysfs are hidden, as inside of many containers.
///
/// # Errors
/// The call that failed.
pub fn check_mounts_inside() -> Result<(), UserNamespaceError> {
    let (wait, release) = std::io::pipe().map_err(at("pipe2(O_CLOEXEC)"))?;
    let (mut result, report) = std::io::pipe().map_err(at("pipe2(O_CLOEXEC)"))?;
    let flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET;
    // SAFETY: the child only makes system calls, see `try_mounts`.
    let cloned = unsafe { clone_raw(flags, None) };
    let Some(child) = cloned.map_err(|errno| at("clone3(CLONE_NEWUSER and others)")(errno.into()))? else {
        try_mounts(&wait, &release, &report);
    };
    drop(report);
    // Any valid range serves.
    let mapped = map(&child, 65_536, 65_536);
    drop(release);
    let mut bytes = [0; 2];
    let read = result
        .read_exact(&mut bytes)
        .map_err(at("read(child in a user namespace)"));
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    mapped?;
    read?;
    match bytes {
        [0, _] => Ok(()),
        [step, errno] => Err(UserNamespaceError {
            call: if step == 1 {
                "fsmount(proc) in a user namespace"
            } else {
                "fsmount(sysfs) in a user namespace"
            },
            errno: Errno::from_raw_os_error(errno.into()),
        }),
    }
}

/// Runs in the child, which only makes system calls. Writes the number of the failed step and its errno, or zeros. The
/// mounts are attached nowhere.
fn try_mounts(wait: &PipeReader, release: &PipeWriter, report: &PipeWriter) -> ! {
    until_closed(wait, release);
    let mut bytes = [0, 0];
    for (step, fstype, attributes) in [
        (1, c"proc", MountAttrFlags::empty()),
        (2, c"sysfs", MountAttrFlags::MOUNT_ATTR_RDONLY),
    ] {
        let strict = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mounted = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
            fsconfig_create(&context)?;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes | strict)
        });
        if let Err(errno) = mounted {
            bytes = [step, u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX)];
            break;
        }
    }
    // If this fails, the parent reads the end of the pipe.
    let _ = rustix::io::write(report, &bytes);
    exit_now(0)
}

/// The user namespace that owns another namespace.
///
/// # Errors
/// The errno of ioctl_ns(2): EPERM if the owner is neither the caller's user namespace nor below it.
pub fn owner_of(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: NS_GET_USERNS takes no argument; on files of other kinds it fails with ENOTTY.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    let fd = i32::try_from(check(result.into())?).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor, with close-on-exec, and this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
