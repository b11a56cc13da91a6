//! User namespaces (user_namespaces(7)): making one with an id map, and finding the one that another namespace
//! belongs to.
//!
//! A process has to be in a user namespace for its maps to be written. That is a child here, which waits and
//! does nothing else, so that the caller stays where it is and may have threads.

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
    /// errno.
    #[source]
    pub errno: Errno,
}

fn at(call: &'static str) -> impl FnOnce(std::io::Error) -> UserNamespaceError {
    move |error| UserNamespaceError {
        call,
        errno: error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
    }
}

/// Makes a user namespace in which users and groups 0 to `length` - 1 are `first` and the following outside. It
/// lives as long as the descriptor, or what was made in it.
///
/// # Errors
/// The call that failed; ENOSPC of clone3(2) means that `user.max_user_namespaces` is reached.
pub fn user_namespace(first: u32, length: u32) -> Result<OwnedFd, UserNamespaceError> {
    let (wait, release) = std::io::pipe().map_err(at("pipe2(O_CLOEXEC)"))?;
    let cloned = clone_raw(CLONE_NEWUSER, None).map_err(|errno| at("clone3(CLONE_NEWUSER)")(errno.into()))?;
    let Some(child) = cloned else {
        until_released(&wait, &release);
    };
    let made = map(&child, first, length);
    drop(release);
    // It ends by itself; this is for one that was stopped meanwhile.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    made
}

/// The child's life: system calls only.
fn until_released(wait: &PipeReader, release: &PipeWriter) -> ! {
    until_closed(wait, release);
    exit_now(0)
}

/// Waits until the parent has closed its end.
fn until_closed(wait: &PipeReader, release: &PipeWriter) {
    let mut byte = 0_u8;
    // SAFETY: the descriptor is open, and this process uses its copy nowhere else and ends below without running
    // the owner's destructor. The buffer is one live byte.
    unsafe {
        libc::close(release.as_raw_fd());
        libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
    }
}

fn map(child: &Child, first: u32, length: u32) -> Result<OwnedFd, UserNamespaceError> {
    let line = format!("0 {first} {length}\n");
    let write = |file: &str| -> std::io::Result<()> {
        let path = format!("/proc/{}/{file}", child.pid);
        // One write(2): the kernel takes a map whole, and once.
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

/// Tries to mount proc and sysfs in a user namespace. The kernel allows it only where the caller's own are to be seen
/// as a whole: not inside a container that hides parts of them.
///
/// # Errors
/// The call that failed.
pub fn check_mounts_inside() -> Result<(), UserNamespaceError> {
    let (wait, release) = std::io::pipe().map_err(at("pipe2(O_CLOEXEC)"))?;
    let (mut news, tell) = std::io::pipe().map_err(at("pipe2(O_CLOEXEC)"))?;
    let flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET;
    let cloned =
        clone_raw(flags, None).map_err(|errno| at("clone3(CLONE_NEWUSER and others)")(errno.into()))?;
    let Some(child) = cloned else {
        try_mounts(&wait, &release, &tell);
    };
    drop(tell);
    // Any ids will do.
    let mapped = map(&child, 65_536, 65_536);
    drop(release);
    let mut told = [0; 2];
    let heard = news
        .read_exact(&mut told)
        .map_err(at("read(child in a user namespace)"));
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    mapped?;
    heard?;
    match told {
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

/// The child's life: system calls only. The mounts are attached nowhere.
fn try_mounts(wait: &PipeReader, release: &PipeWriter, tell: &PipeWriter) -> ! {
    until_closed(wait, release);
    let mut told = [0, 0];
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
            told = [step, u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX)];
            break;
        }
    }
    // The parent is told by the end of the pipe where this fails.
    let _ = rustix::io::write(tell, &told);
    exit_now(0)
}

/// The user namespace that another namespace belongs to.
///
/// # Errors
/// The errno of ioctl_ns(2): EPERM where it is none of the caller's or below.
pub fn owner_of(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: NS_GET_USERNS takes no argument; on other files it is ENOTTY.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    let fd = i32::try_from(check(result.into())?).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: a new descriptor, which nobody else knows. The kernel sets close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
