//! Sending signals by number through a pidfd.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::syscall::check;

/// Sends a signal to the process behind a pidfd (pidfd_send_signal(2)). Unlike rustix, it also sends real-time signals,
/// which have no names.
///
/// # Errors
/// The errno of pidfd_send_signal(2): ESRCH once the process is reaped, EINVAL for an invalid signal number.
pub fn signal_by_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the arguments are integers and a null pointer, which asks for the same siginfo as kill(2) sends.
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
