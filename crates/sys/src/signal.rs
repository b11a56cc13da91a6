//! Signals as a new program expects to find them.

use rustix::io::Errno;

use crate::syscall::check;

/// Size of the kernel's sigset_t, on every architecture but MIPS.
const SIGSET_BYTES: usize = 8;

/// Sets every signal to its default action and unblocks all. `execve` resets handled signals but keeps
/// ignored and blocked ones, and Rust programs ignore SIGPIPE.
///
/// # Errors
/// The errno of rt_sigprocmask(2).
pub fn reset_signals() -> Result<(), Errno> {
    // Zeros are SIG_DFL, no flags, no mask; the kernel's struct is at most 32 bytes.
    let default = [0_u64; 4];
    let none: *mut u64 = std::ptr::null_mut();
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: `default` is live and no shorter than the kernel's sigaction; no old action is asked
        // for. The system call is raw because libc refuses the two signals it keeps for itself, which
        // matter to threads only, and this process is on its way to another program.
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
    // SAFETY: `empty` is a live set of SIGSET_BYTES; no old set is asked for.
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
