//! Signal dispositions as a new program expects them, and waiting for signals.

use rustix::io::Errno;
use rustix::process::Signal;

use crate::syscall::{check, raw};

/// Size of the kernel's sigset_t on every architecture but MIPS.
const SIGSET_BYTES: usize = 8;

/// Sets all signals to their default action and unblocks them, including the two that the C library reserves for threads:
/// only for a process with one thread that is about to execute another program. `execve` resets handled signals, but
/// keeps ignored and blocked ones, and Rust programs ignore SIGPIPE.
///
/// # Errors
/// The errno of rt_sigprocmask(2).
pub fn reset_signals() -> Result<(), Errno> {
    // All zeros mean SIG_DFL, no flags and no mask. The kernel's struct has at most 32 bytes.
    let default = [0_u64; 4];
    let none: *mut u64 = std::ptr::null_mut();
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: `default` is alive and no shorter than the kernel's sigaction, and the null pointer asks for no old
        // action. The raw system call is needed because libc refuses the two signals that it reserves.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                none,
                SIGSET_BYTES,
            )
        };
        check(result)?;
    }
    let empty = 0_u64;
    // SAFETY: `empty` is a live set of SIGSET_BYTES bytes, and the null pointer asks for no old set.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            none,
            SIGSET_BYTES,
        )
    };
    check(result).map(drop)
}

/// Waits for one of some blocked signals (rt_sigtimedwait(2)) and returns its number. Bare children may call it.
///
/// # Errors
/// EINTR: another signal's handler has run, or the process was traced.
pub fn wait_for_signal(awaited: &[Signal]) -> Result<i32, Errno> {
    let set = awaited
        .iter()
        .fold(0_u64, |set, signal| set | 1 << (signal.as_raw() - 1));
    // SAFETY: `set` is a live set of SIGSET_BYTES bytes. The null pointers ask for no information and no timeout.
    let signal = unsafe {
        raw(
            libc::SYS_rt_sigtimedwait,
            [(&raw const set).expose_provenance(), 0, 0, SIGSET_BYTES],
        )
    }?;
    i32::try_from(signal).map_err(|_| Errno::INVAL)
}
