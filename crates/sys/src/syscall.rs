//! System calls: results of libc's `syscall`, and calls without the C library.

use rustix::io::Errno;

/// The errno of the calling thread's last failed libc call.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Turns -1 into the errno and returns any other value as it is.
pub(crate) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 {
        Err(last_errno())
    } else {
        Ok(result)
    }
}

/// A system call without the C library, whose wrappers use thread-local storage. Bare children have none.
///
/// # Safety
/// As for the system call itself.
///
/// # Errors
/// The errno of the call.
pub(crate) unsafe fn raw(number: libc::c_long, arguments: [usize; 4]) -> Result<usize, Errno> {
    let [first, second, third, fourth] = arguments;
    let number = isize::try_from(number).map_err(|_| Errno::NOSYS)?;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the registers are those of the system call ABI (syscall(2)); the kernel changes only rax, rcx and r11. What
    // the call does is the caller's contract.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the registers are those of the system call ABI (syscall(2)); the kernel changes only x0. What the call does is
    // the caller's contract.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first.cast_signed() => result,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            options(nostack),
        );
    }
    match result {
        -4095..=-1 => Err(Errno::from_raw_os_error(i32::try_from(-result).unwrap_or(0))),
        _ => Ok(result.unsigned_abs()),
    }
}
