//! Starting a container: cgroup, log, and the monitor does the rest.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pausa_monitor_protocol::{ContainerPlan, FdRole, Reply, Request};

use super::container_parts::{ContainerParts, rebuild};
use super::log::open_log;
use super::{blocking, cgroup};
use crate::cgroups::{Cgroup, Driver};
use crate::container::{ContainerRecord, RunState};
use crate::error::ErrorKind;
use crate::oci::Signal;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::record::PodRecord;
use crate::sandbox::registry::POD;
use crate::sandbox::services::Services;
use crate::telemetry::Steps;

/// A container that runs.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) struct Started {
    pub(in crate::sandbox) pid: i32,
    pub(in crate::sandbox) at: i64,
}

/// Starts a container. When it fails, its cgroup is gone again and the monitor knows nothing of it.
pub(in crate::sandbox) async fn start_container(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    parts: Option<ContainerParts>,
    handle: &PodHandle,
    steps: &Steps,
) -> Result<Started, PodError> {
    steps.enter("parts");
    let parts = match parts {
        Some(parts) => parts,
        None => rebuild(services, pod, record).await?,
    };
    let ContainerParts {
        root,
        volumes,
        plan,
        devices,
    } = parts;
    steps.enter("cgroup");
    let cgroup = cgroup::create(services, pod, record, devices).await?;
    steps.enter("log and process");
    let started = start_in(record, root, volumes, plan, &cgroup, handle).await;
    match started {
        Ok(started) => {
            if services.cgroups.driver() == Driver::Systemd
                && let Err(error) = cgroup::register(cgroup, record.resources.clone(), started.pid).await
            {
                // It runs, in the right cgroup and with its limits: systemd merely does not list it.
                tracing::warn!(
                    container = record.id.short(),
                    error = error.text(),
                    "systemd has no scope of a container"
                );
            }
            Ok(started)
        }
        Err(error) => {
            handle.execs().set_process(record.id.clone(), None);
            cgroup::remove_cgroup(services, pod, &record.id).await;
            Err(error)
        }
    }
}

async fn start_in(
    record: &ContainerRecord,
    root: OwnedFd,
    volumes: Vec<OwnedFd>,
    mut plan: ContainerPlan,
    cgroup: &Cgroup,
    handle: &PodHandle,
) -> Result<Started, PodError> {
    let mut fds: Vec<OwnedFd> = vec![root];
    plan.fds = vec![FdRole::Root];
    plan.fds
        .extend((0..).zip(&volumes).map(|(number, _)| FdRole::Mount(number)));
    fds.extend(volumes);
    if let Some(path) = record.log_path.clone() {
        fds.push(blocking(move || open_log(&path)).await?);
        plan.fds.push(FdRole::Log);
    }
    let failed = |error: crate::cgroups::CgroupError| PodError::failed("open the container's cgroup", error);
    for (role, fd) in cgroup.join_fds().map_err(failed)? {
        plan.fds.push(role);
        fds.push(fd);
    }
    if let Some(events) = cgroup.oom_events() {
        plan.fds.push(FdRole::OomEvents);
        fds.push(events);
    }
    let gone = || PodError::State {
        what: POD,
        id: record.pod.to_string(),
        state: "without a monitor",
        hint: "stop and remove it",
    };
    let monitor = handle.monitor().ok_or_else(gone)?;
    handle
        .execs()
        .set_process(record.id.clone(), Some(Arc::new(plan.process.clone())));
    match monitor.request(Request::Start(Box::new(plan)), fds).await {
        Ok(Reply::Started { pid, at }) => Ok(Started { pid, at }),
        Ok(other) => {
            let odd = std::io::Error::other(format!("unexpected answer {other:?}"));
            Err(PodError::failed_as(
                "start the container",
                ErrorKind::Internal,
                odd,
            ))
        }
        Err(error) => Err(PodError::failed("start the container", error)),
    }
}

/// The number of a stop signal as CRI has it; what cannot be one is SIGTERM.
pub(in crate::sandbox) fn signal_number(cri: i32) -> i32 {
    Signal::from_cri(cri).unwrap_or(Signal::TERM).number()
}

/// Why a container does not die: what its first process waits for in the kernel.
pub(in crate::sandbox) fn undying(record: &ContainerRecord, after: Duration) -> PodError {
    let pid = match record.run {
        RunState::Running { pid, .. } => pid,
        RunState::Created | RunState::Exited(_) => 0,
    };
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let state = read("stat")
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next())
        .unwrap_or('?');
    let detail = format!(
        "process {pid} is in state {state}, waiting in the kernel at {:?}; it was sent KILL and will end when that does",
        read("wchan")
    );
    PodError::TimedOut {
        what: format!("container {}", record.id.short()),
        seconds: after.as_secs(),
        detail,
    }
}
