//! The monitor of one pod. Started by the pausa daemon, never by hand: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[expect(unsafe_code, reason = "a monitor closes descriptors and clones itself")]
    // SAFETY: the process has just begun: it has one thread and has opened nothing.
    let status = unsafe { pausa_monitor::run(&pausa_monitor::Builtin) };
    status
}
