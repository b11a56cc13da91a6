//! Closing inherited descriptors by number, whatever value owns them.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::io::Errno;

use crate::syscall::{check, raw};

/// Closes every descriptor from `first` on (close_range(2)). Bare children may call it.
///
/// # Safety
/// No value that owns or borrows a closed descriptor is used or dropped afterwards.
///
/// # Errors
/// The errno of close_range(2).
pub unsafe fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    unsafe { close_range(first, u32::MAX) }
}

/// # Safety
/// As [`close_from`], for the descriptors from `first` to `last`.
unsafe fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: close_range(2) takes integers and touches no memory. Owners of the closed descriptors are the caller's
    // contract.
    unsafe { raw(libc::SYS_close_range, [first as usize, last as usize, 0, 0]) }.map(drop)
}

/// Closes every descriptor from 3 on that is not in `kept`.
///
/// # Safety
/// As [`close_from`].
///
/// # Errors
/// The errno of close_range(2).
pub unsafe fn close_others(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            // SAFETY: the caller's contract; no descriptor of `kept` is in this range.
            unsafe { close_range(first, fd - 1) }?;
        }
        first = first.max(fd + 1);
    }
    // SAFETY: the caller's contract; every descriptor of `kept` is below `first`.
    unsafe { close_from(first) }
}

/// Makes `kept` descriptor 3, close-on-exec, and closes every one after it.
///
/// # Safety
/// As [`close_from`], for every descriptor from 3 on but `kept`: what descriptor 3 was before is closed, too.
///
/// # Errors
/// The errno of dup3(2) or close_range(2).
pub unsafe fn close_all_but(kept: OwnedFd) -> Result<OwnedFd, Errno> {
    let from = kept.into_raw_fd();
    if from != 3 {
        // SAFETY: dup3(2) takes integers and touches no memory. A former owner of 3 is the caller's contract.
        check(unsafe { libc::dup3(from, 3, libc::O_CLOEXEC) }.into())?;
    }
    // SAFETY: descriptor 3 is either `kept`, which has given up its number, or the copy just made of it.
    let kept = unsafe { OwnedFd::from_raw_fd(3) };
    // SAFETY: the caller's contract; `kept` is 3 now.
    unsafe { close_from(4) }?;
    Ok(kept)
}
