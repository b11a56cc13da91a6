//! The terminal and the standard streams.
//!
//! The terminal is made on the container's own devpts, after a check that it is one. The slave is opened through the
//! master (TIOCGPTPEER), not through a path that the container could have replaced (CVE-2025-52565).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, Uid, fchown, fstat, fstatfs, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::Streams;
use crate::devices::{self, is_null};
use crate::error::{At, Error, Shown, Step};
use crate::mount_ops::{attach, clone_tree};
use crate::report::Reporter;
use crate::resolve;

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: u64 = 0x1cd1;

/// Makes a terminal on the devpts below `root`, sends its master to the parent and returns the slave.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    size: Option<(u16, u16)>,
    reporter: &Reporter,
) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master =
        resolve::open_plain(root, b"/dev/pts/ptmx", flags).at(Step::Terminal("openat2(/dev/pts/ptmx)"))?;
    let file_system = fstatfs(&master).at(Step::Terminal("fstatfs(/dev/pts/ptmx)"))?;
    if u64::try_from(file_system.f_type) != Ok(DEVPTS) {
        return Err(Error::Impostor {
            path: Shown::from(&b"/dev/pts/ptmx"[..]),
            expected: "devpts",
        });
    }
    unlockpt(&master).at(Step::Terminal("ioctl(TIOCSPTLCK)"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).at(Step::Terminal("ioctl(TIOCGPTPEER)"))?;
    if let Some((rows, columns)) = size {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).at(Step::Terminal("ioctl(TIOCSWINSZ)"))?;
    }
    reporter
        .terminal(master.as_fd())
        .at(Step::Terminal("sendmsg(master)"))?;
    Ok(slave)
}

/// Binds the terminal to `/dev/console`.
pub(crate) fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), Error> {
    let step = || Step::Terminal("bind /dev/console");
    let (dev, name) = resolve::make_parent(root, b"/dev/console").at_with(step)?;
    let flags = OFlags::CREATE | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // O_PATH ignores O_CREAT, so the file is made first and then opened without following a link.
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&dev, name, make, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(source) => return Err(Error::Call { step: step(), source }),
    }
    let target = openat(&dev, name, flags, Mode::empty()).at_with(step)?;
    let copy = clone_tree(slave).at_with(step)?;
    attach(copy.as_fd(), target.as_fd()).at_with(step)
}

/// The null device for streams that are not given: the container's if it is one. A container may have removed it. Then it
/// is the host's in a user namespace, whose users cannot change the owner or mode of the host's file, and otherwise one that
/// nothing else uses. Opening a wrong device is harmless, since the child is in the container's device cgroup.
pub(crate) fn null(root: BorrowedFd<'_>, host: Option<OwnedFd>) -> Result<OwnedFd, Error> {
    match resolve::open_plain(root, b"/dev/null", OFlags::RDWR | OFlags::NOCTTY) {
        Ok(own) if is_null(own.as_fd()) == Ok(true) => Ok(own),
        _ => match host {
            Some(host) => Ok(host),
            None => devices::new_null().at(Step::Streams("make a null device: fsmount(tmpfs), mknod(null)")),
        },
    }
}

/// Installs the streams, or the terminal, as descriptors 0 to 2.
pub(crate) fn install(
    streams: &Streams<'_>,
    terminal: Option<&OwnedFd>,
    null: BorrowedFd<'_>,
    uid: u32,
) -> Result<(), Error> {
    let dup = |fd| fcntl_dupfd_cloexec(fd, 3).at(Step::Streams("fcntl(F_DUPFD_CLOEXEC)"));
    let three = match terminal {
        Some(slave) => [slave.as_fd(); 3],
        None => [streams.stdin, streams.stdout, streams.stderr].map(|stream| stream.unwrap_or(null)),
    };
    // First copies above 2: one stream may have the descriptor number of another.
    let [stdin, stdout, stderr] = [dup(three[0])?, dup(three[1])?, dup(three[2])?];
    place(&stdin, 0, uid)?;
    place(&stdout, 1, uid)?;
    place(&stderr, 2, uid)
}

/// Starts a session, with the terminal on descriptor 0 as its controlling terminal if there is one. Returns the call that
/// failed. Allocates nothing, for bare children.
pub(crate) fn start_session(terminal: bool) -> Result<(), (Errno, &'static str)> {
    setsid().map_err(|errno| (errno, "start a session: setsid(2)"))?;
    if terminal {
        ioctl_tiocsctty(stdio::stdin()).map_err(|errno| (errno, "set up the terminal: ioctl(TIOCSCTTY)"))?;
    }
    Ok(())
}

fn place(from: &OwnedFd, to: u32, uid: u32) -> Result<(), Error> {
    if uid != 0 {
        give_to(from.as_fd(), uid);
    }
    let result = match to {
        0 => stdio::dup2_stdin(from),
        1 => stdio::dup2_stdout(from),
        _ => stdio::dup2_stderr(from),
    };
    result.at(Step::Streams("dup2(2)"))
}

/// Makes the user the owner of a pipe or terminal, so that the process can open `/dev/stdout` by name. Failures are
/// ignored, since some kinds of file have no owner.
pub(crate) fn give_to(stream: BorrowedFd<'_>, uid: u32) {
    let wanted = !is_null(stream).unwrap_or(true) && fstat(stream).is_ok_and(|stat| stat.st_uid != uid);
    if wanted {
        let _ = fchown(stream, Some(Uid::from_raw(uid)), None);
    }
}
