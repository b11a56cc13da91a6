//! What the kernel knows about its clock (adjtimex(2)).

use rustix::io::Errno;

use crate::syscall::last_errno;

/// What the kernel was told about its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Whether somebody who synchronises the clock says that it is right.
    pub synchronised: bool,
    /// The estimated error, in microseconds.
    pub error: i64,
}

/// The state of the clock. Changes nothing.
///
/// # Errors
/// The errno of adjtimex(2).
pub fn clock_state() -> Result<ClockState, Errno> {
    // SAFETY: all fields are numbers, for which zero is a value. `modes` 0 only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a timex of this function's own, which the kernel fills in.
    let clock = unsafe { libc::adjtimex(&raw mut state) };
    if clock == -1 {
        return Err(last_errno());
    }
    Ok(ClockState {
        synchronised: clock != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        error: state.esterror,
    })
}
