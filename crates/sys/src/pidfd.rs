//! Signals by number to a process held by its pidfd.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::syscall::check;

/// Sends a signal, real-time ones included (rustix knows only those with a name), to the process of this
/// pidfd (pidfd_send_signal(2)).
///
/// # Errors
/// The errno of pidfd_send_signal(2): ESRCH once the process is reaped, EINVAL for a number that is no signal.
pub fn signal_by_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: takes integers, and a null pointer for "as kill(2) would say who sent it".
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    check(result).map(drop)
}
