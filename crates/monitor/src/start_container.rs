//! The requests Start and Exec: check the plan, make pipes, spawn the process and hand it to `starts`.

use std::os::fd::{AsFd, OwnedFd};

use pausa_container_init::{ContainerFds, PodContext, Progress};
use pausa_monitor_protocol::{ExecPlan, ExtendedPlan, Failure, FailureKind, Namespace};

use crate::connections::ReplyTo;
use crate::failure::failure;
use crate::monitor::Monitor;
use crate::oom::OomWatch;
use crate::plan_fds::{Pipes, PlanFds, duplicate};
use crate::process;
use crate::starts::StartTarget;
use crate::sysctl;
use crate::userns::UserNamespace;

/// Longest id, in bytes.
const ID_MAX: usize = 128;

/// Begins to start a container, which exists from now on. The request is answered when the container runs or its start
/// has failed.
///
/// # Errors
/// Nothing is left behind then.
pub(crate) fn start_container(
    monitor: &mut Monitor,
    reply_to: ReplyTo,
    extended: ExtendedPlan,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    monitor.check_not_shutting_down()?;
    let pod = monitor.setup.pod()?;
    let plan = &extended.container;
    check_id(&plan.id)?;
    if monitor.containers.get(&plan.id).is_ok() {
        return Err(failure(
            FailureKind::State,
            format!("container {} has already been started", plan.id),
        ));
    }
    let mut fds = PlanFds::new(&plan.fds, fds)?;
    sysctl::write_all(&extended.sysctls)?;
    let pipes = Pipes::new(plan)?;
    let target = match &plan.namespaces.pid {
        Namespace::Container(id) => Some(duplicate(monitor.containers.running(id)?.pidfd())?),
        _ => None,
    };
    let parent_oom_events = fds.cgroup.parent_oom_events();
    let oom_events = fds.oom_events.take();
    let oom = oom_events.map(|own| OomWatch::new(own, parent_oom_events));
    let context = PodContext {
        host: monitor.host.borrow(),
        base_mounts: pod.base_mounts.as_fd(),
        pause: pod.pause.as_ref().map(|pause| pause.pidfd.as_fd()),
        target: target.as_ref().map(OwnedFd::as_fd),
    };
    let container_fds = ContainerFds {
        userns: pod.userns.as_ref().map(UserNamespace::borrow),
        ..fds.as_container_fds()
    };
    #[expect(unsafe_code, reason = "spawning clones the process")]
    // SAFETY: the monitor has no other threads but file writers, see `run`.
    let progress =
        unsafe { (monitor.spawner.init)(&extended, &container_fds, &pipes.for_child(), &context) }?;
    let added =
        process_of(&progress).and_then(|process| monitor.containers.add(&extended, process, fds, pipes, oom));
    if let Err(failure) = added {
        // The process is reaped like an orphan of the pod.
        match progress {
            Progress::Waiting(pending) => drop(pending.cancel()),
            Progress::Running(spawned) => process::kill(&spawned.pidfd),
            Progress::Failed(_) => {}
        }
        return Err(failure);
    }
    let target = StartTarget::Container {
        id: extended.container.id,
        reply_to,
    };
    if let Some(outcome) = monitor.starts.begin(target, progress) {
        monitor.settle_start(outcome);
    }
    Ok(())
}

/// Begins to start one more process in a container. The request is answered when the process runs or its start has failed.
///
/// # Errors
/// Nothing is left behind then.
pub(crate) fn start_exec(
    monitor: &mut Monitor,
    reply_to: ReplyTo,
    plan: ExecPlan,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    monitor.check_not_shutting_down()?;
    check_id(&plan.id)?;
    if monitor.execs.get(&plan.id).is_some() || monitor.starts.contains_exec(&plan.id) {
        return Err(failure(
            FailureKind::State,
            format!("exec {} already runs", plan.id),
        ));
    }
    let fds = PlanFds::new(&plan.fds, fds)?;
    let userns = monitor.setup.pod()?.userns.as_ref();
    let live = monitor.containers.running(&plan.container)?;
    let container_fds = ContainerFds {
        birth: fds.birth.as_ref().map(OwnedFd::as_fd),
        userns: userns.map(UserNamespace::borrow),
        ..live.cgroup().as_container_fds()
    };
    let container = live.pidfd().as_fd();
    #[expect(unsafe_code, reason = "spawning clones the process")]
    // SAFETY: the monitor has no other threads but file writers, see `run`.
    let progress = unsafe { (monitor.spawner.exec)(&plan, container, &container_fds, &fds.as_streams()) }?;
    let target = StartTarget::Exec {
        id: plan.id,
        container: plan.container,
        reply_to,
        outputs: fds.output_readers,
        hung_up: false,
    };
    if let Some(outcome) = monitor.starts.begin(target, progress) {
        monitor.settle_start(outcome);
    }
    Ok(())
}

/// Refuses invalid ids. Ids become file names.
pub(crate) fn check_id(id: &str) -> Result<(), Failure> {
    match is_id(id) {
        true => Ok(()),
        false => Err(failure(FailureKind::Protocol, format!("invalid id {id:?}"))),
    }
}

fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !id.is_empty() && id.len() <= ID_MAX && !id.starts_with('.') && id.bytes().all(allowed)
}

/// The process of a start, with a duplicate of its pidfd.
fn process_of(progress: &Progress) -> Result<(i32, OwnedFd), Failure> {
    match progress {
        Progress::Waiting(pending) => Ok((pending.pid(), duplicate(pending.pidfd())?)),
        Progress::Running(spawned) => Ok((spawned.pid, duplicate(&spawned.pidfd)?)),
        Progress::Failed(failed) => Err(failed.failure.clone()),
    }
}

#[cfg(test)]
mod tests;
