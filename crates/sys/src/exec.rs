//! execve(2) with its arguments prepared beforehand, so that nothing is allocated between a seccomp filter and the call.

use std::ffi::{CStr, CString, NulError};
use std::os::raw::c_char;

use rustix::io::Errno;

use crate::syscall::last_errno;

/// A null-terminated array of C strings, as `argv` and `envp` are.
#[derive(Debug)]
pub struct CStrings {
    /// Point into the heap buffers of `_strings`, which never move. The last one is null.
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl CStrings {
    /// Copies the strings.
    ///
    /// # Errors
    /// A string has a zero byte inside.
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

/// Replaces the program; returns only if that failed. The kernel ends all other threads of the process.
pub fn execve(path: &CStr, args: &CStrings, env: &CStrings) -> Errno {
    // SAFETY: `path` is a C string. Both arrays end with null, and their strings live as long as they do.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    last_errno()
}
