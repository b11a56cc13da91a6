//! execve(2) with everything prepared beforehand, so that nothing is allocated between a seccomp filter and the call.

use std::ffi::{CStr, CString, NulError};
use std::os::raw::c_char;

use rustix::io::Errno;

use crate::syscall::last_errno;

/// A null-terminated array of C strings, as `argv` and `envp` are.
#[derive(Debug)]
pub struct CStrings {
    /// Into `_strings`' heap buffers, which never move; the last one is null.
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl CStrings {
    /// Takes copies.
    ///
    /// # Errors
    /// If a string has a zero byte inside.
    pub fn new<S: AsRef<[u8]>>(strings: &[S]) -> Result<Self, NulError> {
        let strings: Vec<CString> = strings
            .iter()
            .map(|string| CString::new(string.as_ref()))
            .collect::<Result<_, _>>()?;
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect();
        Ok(Self {
            pointers,
            _strings: strings,
        })
    }
}

/// Replaces the program; returns only where that failed.
///
/// # Contract
/// The calling process has exactly one thread.
pub fn execve(path: &CStr, args: &CStrings, env: &CStrings) -> Errno {
    // SAFETY: `path` is a C string; both arrays end with null and their strings live as long as they do.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    last_errno()
}
