//! Session keyrings (session-keyring(7)).

use rustix::io::Errno;

use crate::syscall::check;

/// Gives the process an empty anonymous session keyring, so that it no longer sees the keys of its parent.
///
/// # Errors
/// The errno of keyctl(2): ENOSYS where the kernel has no keyrings.
pub fn new_session_keyring() -> Result<(), Errno> {
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name is allowed and asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) }).map(drop)
}
