//! The monitor of one pod. The pausa daemon starts it: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[expect(
        unsafe_code,
        reason = "a monitor closes inherited descriptors and clones itself"
    )]
    // SAFETY: the process has just started: it has one thread and has opened nothing.
    let status = unsafe { pausa_monitor::run(pausa_monitor::Spawner::CONTAINER_INIT) };
    status
}
