//! StartContainer: a cgroup with the container's limits, its log, and the monitor does the rest.
//!
//! A start that an earlier daemon asked for goes on without it; its outcome comes as an event.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use pausa_monitor_protocol::{
    ExtendedPlan, FdRole, HookPlan, Namespace, NamespacePlan, Reply, Request, Scheduling,
};

use super::confine::ensure_profile;
use super::create_container::{ContainerParts, rebuild};
use super::log::open_log;
use super::{cgroup, classes};
use crate::blocking::blocking;
use crate::cgroups::{Cgroup, Driver};
use crate::container::{ContainerRecord, ExitInfo, RunState};
use crate::error::{ErrorKind, Failure, Kinded};
use crate::failpoint::failpoint_before;
use crate::id::Id;
use crate::network::devices;
use crate::proto::v1;
use crate::require;
use crate::sandbox::Pods;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::lifecycle::{
    Answer, Change, Container, ContainerPhase, Lifecycle, Running, StartedBy, Starting, refused,
};
use crate::sandbox::nri::{Happened, Later};
use crate::sandbox::pod::Pod;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;
use crate::telemetry::Steps;

const OPERATION: &str = "start_container";

impl Pods {
    /// Starts a created container, or joins a start under way.
    ///
    /// # Errors
    /// Why it could not be started; then it is exited, with code 128.
    pub async fn start_container(
        &self,
        request: v1::StartContainerRequest,
    ) -> Result<v1::StartContainerResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        let (id, pod) = self.registry.container(&request.container_id)?;
        pod.ask(move |pod, answer| pod.lifecycle.start_container(&id, answer))
            .await?;
        Ok(v1::StartContainerResponse {})
    }
}

/// What a start request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Start,
    /// It is under way already.
    Join,
    /// A change of its resources is under way: it starts with the new ones.
    Wait,
}

fn decide(pod: &Lifecycle, id: &Id, container: &Container) -> Result<Decision, PodError> {
    match &container.phase {
        ContainerPhase::Starting(_) => Ok(Decision::Join),
        ContainerPhase::Created { updating, .. } if *updating || !container.updates.is_empty() => {
            Ok(Decision::Wait)
        }
        ContainerPhase::Created { .. } if pod.accepts_containers() => Ok(Decision::Start),
        ContainerPhase::Created { .. } => Err(pod.not_ready("containers are only started in a ready pod")),
        ContainerPhase::Running(_) => Err(refused(id, "running", "only a created container can be started")),
        ContainerPhase::Exited => {
            let hint = "a container starts only once: make a new one with the next attempt";
            Err(refused(id, "exited", hint))
        }
        ContainerPhase::Removing => Err(refused(id, "being removed", "make a new one")),
    }
}

impl Lifecycle {
    pub(in crate::sandbox) fn start_container(&mut self, id: &Id, answer: Answer<()>) {
        match self.container(id) {
            Ok(container) => container.start.push(answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// What a start that begins now needs; nothing where none begins.
    #[expect(
        clippy::option_option,
        reason = "whether a start begins, and whether its parts are there"
    )]
    pub(in crate::sandbox) fn advance_start(&mut self, id: &Id) -> Option<Option<Box<ContainerParts>>> {
        let container = self.containers.get(id)?;
        if container.start.is_empty() {
            return None;
        }
        let decision = decide(self, id, container);
        let container = self.containers.get_mut(id)?;
        match (decision, &mut container.phase) {
            (Ok(Decision::Wait), _) => None,
            (Ok(Decision::Start), ContainerPhase::Created { parts, .. }) => {
                let parts = parts.take();
                container.phase = ContainerPhase::Starting(Starting {
                    by: StartedBy::ThisDaemon,
                    waiters: container.start.take(),
                    early_exit: None,
                    stop: None,
                });
                Some(parts)
            }
            (Ok(_), ContainerPhase::Starting(starting)) => {
                starting.waiters.append(container.start.take());
                None
            }
            (outcome, _) => {
                container.start.take().answer(&outcome.map(drop));
                None
            }
        }
    }

    /// A start has ended: the container runs, has ended already, or could not be started.
    pub(in crate::sandbox) fn started(
        &mut self,
        id: &Id,
        outcome: Result<Started, PodError>,
        now: i64,
    ) -> Change {
        let Some(container) = self.containers.get_mut(id) else {
            return Change::default();
        };
        let ContainerPhase::Starting(starting) = &mut container.phase else {
            return Change::default();
        };
        match outcome {
            Ok(Started { at, .. }) if let Some(exit) = starting.early_exit => {
                self.ended(id, ExitInfo::of(at, &exit))
            }
            Ok(Started { pid, at }) => {
                let (waiters, stop) = (starting.waiters.take(), starting.stop.take());
                container.phase = ContainerPhase::Running(Running {
                    stop,
                    updating: false,
                });
                container.record_mut().run = RunState::Running { pid, started_at: at };
                Change::container(id).answer(waiters, Ok(()))
            }
            Err(error) => {
                let waiters = starting.waiters.take();
                let change = self.ended(id, ExitInfo::start_error(now, error.text()));
                change.answer(waiters, Err(error))
            }
        }
    }
}

impl Pod {
    /// Begins the start of a container that is asked for, once nothing else is done with it.
    pub(in crate::sandbox) fn advance_start(&mut self, id: &Id) {
        let Some(parts) = self.lifecycle.advance_start(id) else {
            return;
        };
        let Some((services, pod, record)) = self.context(id) else {
            return;
        };
        let (handle, id) = (self.handle.clone(), id.clone());
        let steps = self.handle.begin("StartContainer", Some((&*record).into()));
        let work = steps.run(Kinded::kind, async move |steps| {
            start(&services, &pod, &record, parts, &handle, steps).await
        });
        self.begin_told("start the container", work, move |pod, outcome| {
            let (outcome, later) = match outcome.flatten() {
                Ok((started, later)) => (Ok(started), later),
                Err(error) => (Err(error), None),
            };
            pod.settle_start(&id, outcome);
            pod.tell_later(&id, Happened::Started, later);
        });
    }

    pub(in crate::sandbox) fn settle_start(&mut self, id: &Id, outcome: Result<Started, PodError>) {
        let change = self.lifecycle.started(id, outcome, crate::state::now());
        let ended = self
            .lifecycle
            .containers
            .get(id)
            .is_some_and(|container| !container.is_active());
        self.commit(OPERATION, change);
        if ended {
            self.clean_up_after(id);
        }
    }
}

/// The first process of a container that runs: its id on the node, and its start in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) struct Started {
    pub(in crate::sandbox) pid: i32,
    pub(in crate::sandbox) at: i64,
}

/// Starts a container. When it fails, its cgroup is gone again and the monitor knows nothing of it.
async fn start(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    parts: Option<Box<ContainerParts>>,
    handle: &PodHandle,
    steps: &Steps,
) -> Result<(Started, Option<Later>), PodError> {
    steps.enter("parts");
    let mut parts = match parts {
        Some(parts) => *parts,
        None => rebuild(services, pod, record).await?,
    };
    let devices = std::mem::take(&mut parts.devices);
    ensure_profile(services, &parts.plan.container.process).await?;
    move_net_devices(pod, std::mem::take(&mut parts.net_devices)).await?;
    failpoint_before(OPERATION, "cgroup");
    steps.enter("cgroup");
    let cgroup = cgroup::create(services, pod, record, devices).await?;
    steps.enter("log and plugins");
    let shown = parts.shown.take();
    // Plugins find the container's cgroup.
    let told = services
        .nri
        .start_container(services, pod, record, shown.as_deref());
    let (told, ready) = tokio::join!(told, ready(services, pod, record, parts, &cgroup));
    steps.enter("process");
    let started = match told.and(ready) {
        Ok(ready) => start_process(record, ready, handle).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(started) => {
            if services.cgroups.driver() == Driver::Systemd
                && let Err(error) = cgroup::register(services, cgroup, record, started.pid).await
            {
                tracing::warn!(
                    container = record.id.short(),
                    error = error.text(),
                    "cannot register a container's scope with systemd; it runs with its limits, but systemctl does not list it"
                );
            }
            let later = services.nri.later(&record.id, shown).await;
            Ok((started, later))
        }
        Err(error) => {
            handle.execs().forget(&record.id);
            // If the monitor has died, it may have started the process before.
            cgroup::kill_cgroup(services, pod, &record.id).await;
            Err(error)
        }
    }
}

async fn move_net_devices(pod: &PodRecord, moved: Vec<(String, String)>) -> Result<(), PodError> {
    const DOING: &str = "give the container its network devices";
    if moved.is_empty() {
        return Ok(());
    }
    let Some(netns) = pod.netns.clone() else {
        let on_host = std::io::Error::other("the pod is on the node's network, where they are");
        return Err(PodError::failed_as(DOING, ErrorKind::FailedPrecondition, on_host));
    };
    blocking(move || devices::move_all(&netns, &moved))
        .await
        .map_err(|error| PodError::failed(DOING, error))
}

/// A plan, and the descriptors that it refers to.
type Ready = (Box<ExtendedPlan>, Vec<OwnedFd>);

/// All that the monitor needs.
async fn ready(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
    parts: ContainerParts,
    cgroup: &Cgroup,
) -> Result<Ready, PodError> {
    let ContainerParts {
        root,
        volumes,
        plan: mut extended,
        ..
    } = parts;
    let plan = &mut extended.container;
    plan.process.oom_score_adj = record.oom_score_adj();
    let mut fds: Vec<OwnedFd> = vec![root];
    plan.fds = vec![FdRole::Root];
    plan.fds
        .extend((0..).zip(&volumes).map(|(number, _)| FdRole::Mount(number)));
    fds.extend(volumes);
    if let Some(path) = record.log_path.clone() {
        let directory = PathBuf::from(&pod.config.log_directory);
        fds.push(blocking(move || open_log(&directory, &path)).await?);
        plan.fds.push(FdRole::Log);
    }
    let failed = |error: crate::cgroups::CgroupError| PodError::failed("open the container's cgroup", error);
    for (role, fd) in cgroup.join_fds().map_err(failed)? {
        plan.fds.push(role);
        fds.push(fd);
    }
    if let Some(class) = &record.rdt_class {
        // A process joins it as it joins a cgroup of v1. The monitor looks for processes in the first of these.
        fds.push(classes::rdt_tasks(services, class)?);
        plan.fds.push(FdRole::CgroupTasks);
    }
    if let Some(events) = cgroup.oom_events() {
        plan.fds.push(FdRole::OomEvents);
        fds.push(events);
    }
    Ok((Box::new(extended), fds))
}

async fn start_process(
    record: &ContainerRecord,
    (extended, fds): Ready,
    handle: &PodHandle,
) -> Result<Started, PodError> {
    let monitor = handle.reachable_monitor("start the container")?;
    let process = Arc::new(extended.container.process.clone());
    handle.execs().remember(record.id.clone(), process);
    failpoint_before(OPERATION, "process");
    let request = match is_plain(&extended) {
        // As every monitor knows it.
        true => Request::Start(Box::new(extended.container)),
        false => Request::StartExtended(extended),
    };
    match monitor.request(request, fds).await {
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

/// Whether a container needs nothing that not every monitor can do.
fn is_plain(plan: &ExtendedPlan) -> bool {
    let ExtendedPlan {
        container,
        hooks,
        sysctls,
        scheduling,
    } = plan;
    let NamespacePlan {
        pid,
        ipc,
        network,
        uts,
        cgroup,
    } = &container.namespaces;
    let joins_files = [pid, ipc, network, uts, cgroup]
        .iter()
        .any(|namespace| matches!(namespace, Namespace::File(_)));
    !joins_files
        && *hooks == HookPlan::default()
        && sysctls.is_empty()
        && *scheduling == Scheduling::default()
}
