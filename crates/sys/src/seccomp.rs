//! Loading a seccomp program (seccomp(2)).

use rustix::io::Errno;

use crate::syscall::check;

/// Why a seccomp program was not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompError {
    /// The length is zero, not a multiple of eight, or exceeds 65535 instructions.
    Malformed,
    /// The kernel refused the program.
    Kernel(Errno),
}

/// Loads a program, an array of `struct sock_filter` in the machine's byte order, for the calling thread and its children.
/// Needs PR_SET_NO_NEW_PRIVS or CAP_SYS_ADMIN.
///
/// # Errors
/// See [`SeccompError`].
pub fn load_seccomp(program: &[u8], flags: u32) -> Result<(), SeccompError> {
    let (chunks, rest) = program.as_chunks::<8>();
    let mut filters: Vec<libc::sock_filter> = chunks
        .iter()
        .map(|[c0, c1, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
            code: u16::from_ne_bytes([*c0, *c1]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
        })
        .collect();
    let len = u16::try_from(filters.len()).map_err(|_| SeccompError::Malformed)?;
    if len == 0 || !rest.is_empty() {
        return Err(SeccompError::Malformed);
    }
    let program = libc::sock_fprog {
        len,
        filter: filters.as_mut_ptr(),
    };
    // SAFETY: `program` points to `len` live filters, which the kernel copies before the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    check(result).map(drop).map_err(SeccompError::Kernel)
}
