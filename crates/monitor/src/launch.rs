//! Who makes processes: the one thing of a monitor that tests put something else in place of.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;

use pausa_container_init::{ContainerFds, PodContext, Spawned, Streams};
use pausa_monitor_protocol::{ContainerPlan, ExecPlan, Failure};

/// Makes processes from plans.
pub trait Launch: Debug {
    /// As [`pausa_container_init::spawn`].
    ///
    /// # Errors
    /// As there.
    fn spawn(
        &self,
        plan: &ContainerPlan,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
        pod: &PodContext<'_>,
    ) -> Result<Spawned, Failure>;

    /// As [`pausa_container_init::exec`].
    ///
    /// # Errors
    /// As there.
    fn exec(
        &self,
        plan: &ExecPlan,
        container: BorrowedFd<'_>,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
    ) -> Result<Spawned, Failure>;
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
    ) -> Result<Spawned, Failure> {
        pausa_container_init::spawn(plan, fds, streams, pod)
    }

    fn exec(
        &self,
        plan: &ExecPlan,
        container: BorrowedFd<'_>,
        fds: &ContainerFds<'_>,
        streams: &Streams<'_>,
    ) -> Result<Spawned, Failure> {
        pausa_container_init::exec(plan, container, fds, streams)
    }
}
