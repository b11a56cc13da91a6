//! The process that owns a pod: its namespaces, containers, logs and exit records.
//!
//! One per pod, in the pod's cgroup, a subreaper. It has one thread, and one more for each log that is written to. The
//! daemon starts it with a socket as its standard input and sends requests over it (see `pausa-monitor-protocol`). The
//! monitor does not depend on the daemon afterwards: a new daemon connects to the socket in the pod's directory.
//!
//! ```text
//!   main ─▶ bootstrap ─▶ event_loop ─▶ requests ─▶ start_container
//!                             │            │             │
//!                             └────────────┴─────────────┴─▶ monitor: routes between
//!
//!     starts      processes until `execve`      containers   from start to exit record; output ─▶ log, attachments
//!     execs       and their orphaned output     kills        repeated until no process is left
//!     pod         namespaces, pause, socket     shutdown     a state machine
//!     connections replies and events            poll         epoll
//! ```
//!
//! The parts do not call each other: what happens in one and matters to another passes through `monitor`. Imports have no
//! circles.
//!
//! The monitor must never block on anything but epoll once the pod is set up, exit while a process of the pod runs, hold
//! memory that it does not need, write to its own standard streams, or panic.

mod attachments;
mod bootstrap;
mod cgroup;
mod clock;
mod connections;
mod containers;
mod event_loop;
mod execs;
mod exit_record;
mod failure;
mod kills;
mod log;
mod monitor;
mod oom;
mod pause;
mod plan_fds;
mod pod;
mod poll;
mod process;
mod requests;
mod shutdown;
mod spawner;
mod start_container;
mod starts;
mod sysctl;
mod userns;

use std::process::ExitCode;

pub use spawner::Spawner;

/// Runs a monitor on the socket that is its standard input, until it has shut down.
///
/// Exit status 64 means that standard input is not such a socket, 71 that a system call failed before the monitor could
/// serve.
///
/// # Safety
/// Called first in `main`: the process has one thread, and no value in it owns a descriptor above 2. Until this function
/// returns, nothing else starts a thread. The monitor itself starts only file writers, which hold no locks and allocate
/// nothing (see [`pausa_sys::FileWriter`]).
#[expect(
    unsafe_code,
    reason = "a monitor closes inherited descriptors and clones itself"
)]
pub unsafe fn run(spawner: Spawner) -> ExitCode {
    match bootstrap::bootstrap() {
        Ok(bootstrap) => event_loop::run(bootstrap, spawner),
        Err(error) => {
            eprintln!("pausa-monitor: {}", error.chain());
            ExitCode::from(error.status())
        }
    }
}
