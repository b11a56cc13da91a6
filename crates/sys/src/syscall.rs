//! From the return value of libc's `syscall` to a result.

use rustix::io::Errno;

/// The errno the calling thread's last failing libc call left behind.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// -1 becomes the errno, anything else stays.
pub(crate) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 {
        Err(last_errno())
    } else {
        Ok(result)
    }
}
