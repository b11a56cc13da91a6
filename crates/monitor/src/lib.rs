//! The process that owns a pod: its namespaces, containers, logs and exit records.
//!
//! One per pod, in the pod's cgroup, single-threaded, a subreaper. Started by the daemon with a socket as
//! its standard input; told what to do over it (see `pausa-monitor-protocol`) and from then on its own
//! master: the daemon may die, be replaced and come back by the socket in the pod's directory.
//!
//! ```text
//!   main ─▶ [start] ─▶ [event_loop] ─┬─ signals ─────▶ [exits]      reap, drain, record, tell
//!                                    ├─ connections ─▶ [requests] ─▶ [setup] [launches] [orders] [attach] [kill] [leave]
//!                                    ├─ starts ──────▶ [launches]   until `execve`
//!                                    ├─ streams ─────▶ [log]        read, format, append; [attach] hand on
//!                                    ├─ input ───────▶ [attach]     from clients to the container
//!                                    ├─ left execs ──▶ [left]       read and drop
//!                                    └─ deadlines ───▶ [launches] [kill] [exits] [leave]
//!                            all of them on [state]
//! ```
//!
//! Must never: block on anything but epoll once the pod is set up, leave while a process of the pod runs,
//! hold memory that it does not need, write to its own standard streams once it runs, panic.

mod attachments;
mod bootstrap;
mod cgroup;
mod clock;
mod connections;
mod container_ops;
mod containers;
mod descriptors;
mod event_loop;
mod execs;
mod exits;
mod failure;
mod kills;
mod log;
mod monitor;
mod oom;
mod pause;
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

pub use spawner::{Builtin, Launch};

/// Runs a monitor on the socket that is its standard input, until it is told to leave.
///
/// Status 64 means that it was not started as a monitor should be, 71 that the kernel refused it what it
/// needs before it could serve anyone.
///
/// # Safety
/// Called first in `main`: the process has one thread, now and until this function returns, and no value in it owns a
/// descriptor above 2.
#[expect(unsafe_code, reason = "a monitor closes descriptors and clones itself")]
pub unsafe fn run(launch: &dyn Launch) -> ExitCode {
    match bootstrap::become_monitor() {
        Ok(begun) => event_loop::run(begun, launch),
        Err(error) => {
            eprintln!("pausa-monitor: {}", error.chain());
            ExitCode::from(error.status())
        }
    }
}
