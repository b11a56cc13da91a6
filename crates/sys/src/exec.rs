//! execve(2) with its arguments prepared beforehand, so that nothing is allocated between a seccomp filter and the call.

use std::ffi::{CStr, CString};
use std::ptr::null;

use rustix::io::Errno;

use crate::bare_child::ChildMemory;
use crate::syscall::raw;

/// A null-terminated array of C strings, as `argv` and `envp` are, in the memory of a future child.
#[derive(Debug, Clone, Copy)]
pub struct ArgumentVector<'a> {
    /// The last one is null, the other ones point to C strings that live for `'a`.
    pointers: &'a [*const u8],
}

impl<'a> ArgumentVector<'a> {
    /// Copies the strings.
    ///
    /// # Errors
    /// EINVAL: a string has a zero byte inside. E2BIG: the memory is full.
    pub fn new<S: AsRef<[u8]>>(strings: &[S], memory: &'a ChildMemory) -> Result<Self, Errno> {
        let mut pointers = Vec::with_capacity(strings.len() + 1);
        for string in strings {
            let string = CString::new(string.as_ref()).map_err(|_| Errno::INVAL)?;
            pointers.push(memory.copy_c_str(&string)?.as_ptr().cast());
        }
        pointers.push(null());
        let pointers = memory.copy(&pointers)?;
        Ok(Self { pointers })
    }
}

/// Replaces the program; returns only if that failed. The kernel ends all other threads of the process. Does not use the C
/// library, so that bare children may call it.
pub fn execve(path: &CStr, arguments: ArgumentVector<'_>, environment: ArgumentVector<'_>) -> Errno {
    let arguments = [
        path.as_ptr().expose_provenance(),
        arguments.pointers.as_ptr().expose_provenance(),
        environment.pointers.as_ptr().expose_provenance(),
        0,
    ];
    // SAFETY: `path` is a C string. Both arrays end with null, and their strings live as long as they do.
    match unsafe { raw(libc::SYS_execve, arguments) } {
        Err(errno) => errno,
        // It does not return otherwise.
        Ok(_) => Errno::IO,
    }
}
