//! Loading a seccomp program (seccomp(2)).

use rustix::io::Errno;

use crate::syscall::raw;

/// `AUDIT_ARCH_*` of this program's system calls: `seccomp_data.arch` as a filter sees it.
pub const AUDIT_ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else {
    0xc000_003e
};

/// Why a seccomp program was not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompError {
    /// The length is zero, not a multiple of eight, or exceeds 65535 instructions.
    Malformed,
    /// The kernel refused the program.
    Kernel(Errno),
}

/// Loads a program, an array of `struct sock_filter` in the machine's byte order, for the calling thread and its children.
/// Needs PR_SET_NO_NEW_PRIVS or CAP_SYS_ADMIN. Bare children may call it.
///
/// # Errors
/// See [`SeccompError`].
pub fn load_seccomp(program: &[u8], flags: u32) -> Result<(), SeccompError> {
    let (instructions, rest) = program.as_chunks::<8>();
    let len = u16::try_from(instructions.len()).map_err(|_| SeccompError::Malformed)?;
    if len == 0 || !rest.is_empty() {
        return Err(SeccompError::Malformed);
    }
    let program = libc::sock_fprog {
        len,
        filter: instructions.as_ptr().cast_mut().cast(),
    };
    let arguments = [
        libc::SECCOMP_SET_MODE_FILTER as usize,
        flags as usize,
        (&raw const program).expose_provenance(),
        0,
    ];
    // SAFETY: `program` points to `len` instructions, from which the kernel only reads, byte by byte, before the call returns.
    let loaded = unsafe { raw(libc::SYS_seccomp, arguments) };
    loaded.map(drop).map_err(SeccompError::Kernel)
}
