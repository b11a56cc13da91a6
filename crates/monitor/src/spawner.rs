//! Who makes processes: the one thing of a monitor that tests put something else in place of.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;

use pausa_container_init::{ContainerFds, PodContext, Progress, Streams};
use pausa_monitor_protocol::{ContainerPlan, ExecPlan, Failure};

/// Makes processes from plans, without waiting until they have reached `execve`.
pub trait Launch: Debug {
    /// As [`pausa_container_init::begin_spawn`].
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

    /// As [`pausa_container_init::begin_exec`].
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
        pausa_container_init::begin_spawn(plan, fds, streams, pod).map(Progress::Waiting)
    }

    fn exec(
        &self,
        plan: &ExecPlan,
        container: BorrowedFd<'_>,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
    ) -> Result<Progress, Failure> {
        pausa_container_init::begin_exec(plan, container, fds, streams).map(Progress::Waiting)
    }
}
