//! Closing what must not reach another program.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::io::Errno;

use crate::syscall::check;

/// Closes every descriptor from `first` on (close_range(2)).
///
/// # Contract
/// For the child of a fork on its way to `execve` or [`crate::exit_now`]: owners of the closed
/// descriptors must never be used nor dropped again.
///
/// # Errors
/// The errno of close_range(2).
pub fn close_from(first: u32) -> Result<(), Errno> {
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved. By the callers' contract no owner of a closed descriptor is used again;
    // one that were would meet EBADF or a descriptor of this same child, never foreign memory.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) }).map(drop)
}

/// Closes every descriptor from 3 on that is not in `kept`.
///
/// # Contract
/// As [`close_from`].
///
/// # Errors
/// The errno of close_range(2).
pub fn close_others(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_from(first)
}

/// Makes `kept` descriptor 3, close-on-exec, and closes every one after it.
///
/// # Contract
/// As [`close_from`]; the former owner of descriptor 3 counts as closed, too.
///
/// # Errors
/// The errno of dup3(2) or close_range(2).
pub fn close_all_but(kept: OwnedFd) -> Result<OwnedFd, Errno> {
    let from = kept.into_raw_fd();
    if from != 3 {
        // SAFETY: no memory is involved; see the contract for the former owner of 3.
        check(unsafe { libc::dup3(from, 3, libc::O_CLOEXEC) }.into())?;
    }
    // SAFETY: descriptor 3 is `kept`, which has given up its number, or the copy just made of it.
    let kept = unsafe { OwnedFd::from_raw_fd(3) };
    debug_assert_eq!(kept.as_raw_fd(), 3);
    close_from(4)?;
    Ok(kept)
}
