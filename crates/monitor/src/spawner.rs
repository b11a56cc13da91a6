//! Who makes processes: the one thing of a monitor that tests put something else in place of.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;

use pausa_container_init::{ContainerFds, PodContext, Progress, Streams};
use pausa_monitor_protocol::{ContainerPlan, ExecPlan, Failure};

/// Makes processes from plans, without waiting until they have reached `execve`.
pub trait Launch: Debug {
    /// As [`pausa_container_init::spawn_init`].
    ///
    /// # Errors
    /// As there.
    fn spawn(
        &self,
        plan: &ContainerPlan,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
        pod: &PodContext<'_>,
    ) -> Result<Progress, Failure>;

    /// As [`pausa_container_init::spawn_exec`].
    ///
    /// # Errors
    /// As there.
    fn exec(
        &self,
        plan: &ExecPlan,
        container: BorrowedFd<'_>,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
    ) -> Result<Progress, Failure>;
}

/// The built-in container init.
#[derive(Debug, Clone, Copy)]
pub struct Builtin;

impl Launch for Builtin {
    fn spawn(
        &self,
        plan: &ContainerPlan,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
        pod: &PodContext<'_>,
    ) -> Result<Progress, Failure> {
        #[expect(unsafe_code, reason = "cloning needs a process with one thread")]
        // SAFETY: the monitor has one thread, see `run`.
        let pending = unsafe { pausa_container_init::spawn_init(plan, fds, streams, pod) };
        pending.map(Progress::Waiting)
    }

    fn exec(
        &self,
        plan: &ExecPlan,
        container: BorrowedFd<'_>,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
    ) -> Result<Progress, Failure> {
        #[expect(unsafe_code, reason = "cloning needs a process with one thread")]
        // SAFETY: the monitor has one thread, see `run`.
        let pending = unsafe { pausa_container_init::spawn_exec(plan, container, fds, streams) };
        pending.map(Progress::Waiting)
    }
}
