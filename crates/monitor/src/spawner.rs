//! The functions that start processes. Tests replace them by functions that need no root.

use std::os::fd::BorrowedFd;

use pausa_container_init::{ContainerFds, HookStage, HostNamespaces, PodContext, Progress, Streams};
use pausa_monitor_protocol::{ExecPlan, ExtendedPlan, Failure, HookPlan};

/// Starts a container's first process, see [`pausa_container_init::spawn_init`].
type SpawnInit =
    unsafe fn(&ExtendedPlan, &ContainerFds<'_>, &Streams<'_>, &PodContext<'_>) -> Result<Progress, Failure>;
/// Starts one more process in a container, see [`pausa_container_init::spawn_exec`].
type SpawnExec =
    unsafe fn(&ExecPlan, BorrowedFd<'_>, &ContainerFds<'_>, &Streams<'_>) -> Result<Progress, Failure>;

/// Runs hooks, see [`pausa_container_init::spawn_hooks`].
type SpawnHooks = unsafe fn(HookStage, &HookPlan, i32, &HostNamespaces<'_>) -> Result<Progress, Failure>;

/// Starts processes without waiting for their `execve`. All functions have the contract of [`pausa_sys::clone`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "see the types of the fields")]
pub struct Spawner {
    pub init: SpawnInit,
    pub exec: SpawnExec,
    pub hooks: SpawnHooks,
}

impl Spawner {
    /// Starts processes by `pausa-container-init`.
    #[expect(unsafe_code, reason = "passes a contract on to the caller")]
    pub const CONTAINER_INIT: Self = Self {
        // SAFETY: the contract of the field is that of the function.
        init: |plan, fds, streams, pod| unsafe {
            pausa_container_init::spawn_init(plan, fds, streams, pod).map(Progress::Waiting)
        },
        // SAFETY: as above.
        exec: |plan, container, fds, streams| unsafe {
            pausa_container_init::spawn_exec(plan, container, fds, streams).map(Progress::Waiting)
        },
        // SAFETY: as above.
        hooks: |stage, plan, pid, host| unsafe {
            pausa_container_init::spawn_hooks(stage, plan, pid, host).map(Progress::Waiting)
        },
    };
}
