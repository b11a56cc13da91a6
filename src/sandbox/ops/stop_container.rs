//! StopContainer: the container's stop signal now, SIGKILL to everything in it when the grace period ends.
//!
//! It is over when the monitor reports the exit. If the monitor does not answer, the daemon kills the container itself. A
//! removal, or a stop of the pod, is a stop without grace period. A start that is still under way is cancelled.

use std::time::{Duration, Instant};

use pausa_monitor_protocol::{ExitRecord, Request};

use super::cgroup;
use super::remove_container::read_exit_record;
use crate::container::{ContainerRecord, ExitInfo, RunState};
use crate::error::{ErrorKind, Failure, Kinded, chain};
use crate::failpoint::failpoint_before;
use crate::id::Id;
use crate::oci::Signal;
use crate::proto::v1;
use crate::require;
use crate::sandbox::error::PodError;
use crate::sandbox::lifecycle::{
    Answer, CANCEL_INTERVAL, Change, Container, ContainerPhase, Desired, KILL_PATIENCE, Lifecycle,
    MONITOR_PATIENCE, Running, Starting, Stop, StopStage, Waiters,
};
use crate::sandbox::pod::Pod;
use crate::sandbox::{Pods, absent_is_done, gone_is_done};

const OPERATION: &str = "stop_container";

/// How long after a kill by the daemon the monitor may take to report the end.
const EVENT_PATIENCE: Duration = Duration::from_secs(1);

impl Pods {
    /// Stops a container; a `timeout` of zero or less kills it at once. An unknown container, or one that does not run,
    /// counts as stopped.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop_container(
        &self,
        request: v1::StopContainerRequest,
    ) -> Result<v1::StopContainerResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        match self.registry.container(&request.container_id) {
            Ok((id, pod)) => {
                let stopped = pod.ask(move |pod, answer| {
                    pod.lifecycle.stop_container(&id, Instant::now(), grace, answer);
                });
                gone_is_done(stopped.await)?;
            }
            Err(error) => absent_is_done(error)?,
        }
        Ok(v1::StopContainerResponse {})
    }
}

/// What a stop under way has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum StopStep {
    Nothing,
    Signal,
    /// Send the stop signal, so that a start under way ends; there may be no process yet.
    CancelStart,
    /// Send SIGKILL to everything in the container.
    Kill,
    /// The monitor has not reported the end in time: send SIGKILL without it.
    KillDirectly,
    /// The container did not end for so long after SIGKILL: report that, and send SIGKILL again.
    ReportStuck(Duration),
}

/// Decides what a container's stop has to do now.
pub(in crate::sandbox) fn next_step(container: &Container, now: Instant) -> StopStep {
    match &container.phase {
        ContainerPhase::Starting(Starting { stop: Some(stop), .. }) => match stop.stage {
            StopStage::Cancelled(at) if now < at + CANCEL_INTERVAL => StopStep::Nothing,
            _ => StopStep::CancelStart,
        },
        ContainerPhase::Running(Running { stop: Some(stop), .. }) => match stop.stage {
            StopStage::Killed(at) if now >= at + MONITOR_PATIENCE => StopStep::KillDirectly,
            StopStage::KilledDirectly(at) if now >= at + KILL_PATIENCE => StopStep::ReportStuck(now - at),
            StopStage::Killed(_) | StopStage::KilledDirectly(_) => StopStep::Nothing,
            _ if now >= stop.deadline => StopStep::Kill,
            StopStage::Signalled => StopStep::Nothing,
            StopStage::Requested | StopStage::Cancelled(_) => StopStep::Signal,
        },
        _ => StopStep::Nothing,
    }
}

impl Container {
    /// Wants the container to end within `grace`; a shorter grace period than before shortens the wait.
    fn request_stop(&mut self, now: Instant, grace: Duration) -> Option<&mut Stop> {
        let deadline = now + grace;
        let stop = self.stop_mut()?.get_or_insert_with(|| Stop {
            deadline,
            stage: StopStage::Requested,
            steps: None,
            waiters: Waiters::default(),
        });
        stop.deadline = stop.deadline.min(deadline);
        Some(stop)
    }
}

impl Lifecycle {
    pub(in crate::sandbox) fn stop_container(
        &mut self,
        id: &Id,
        now: Instant,
        grace: Duration,
        answer: Answer<()>,
    ) {
        let stop = self
            .containers
            .get_mut(id)
            .and_then(|container| container.request_stop(now, grace));
        match stop {
            Some(stop) => stop.waiters.push(answer),
            // Not started, ended, or gone: there is nothing to stop.
            None => drop(answer.send(Ok(()))),
        }
    }

    /// What the container's stop has to do now. What is returned counts as done.
    pub(in crate::sandbox) fn advance_stop(&mut self, id: &Id, now: Instant) -> StopStep {
        let pod_ends = self.desired != Desired::Running;
        let Some(container) = self.containers.get_mut(id) else {
            return StopStep::Nothing;
        };
        if pod_ends || !container.removal.is_empty() {
            container.request_stop(now, Duration::ZERO);
        }
        let step = next_step(container, now);
        if let Some(Some(stop)) = container.stop_mut() {
            stop.stage = match (step, stop.stage) {
                (StopStep::Nothing, stage) => stage,
                (StopStep::Signal, _) => StopStage::Signalled,
                (StopStep::CancelStart, _) => StopStage::Cancelled(now),
                (StopStep::KillDirectly, StopStage::Killed(at)) => StopStage::KilledDirectly(at),
                (StopStep::Kill | StopStep::KillDirectly | StopStep::ReportStuck(_), _) => {
                    StopStage::Killed(now)
                }
            };
        }
        step
    }

    /// The daemon has killed a container that its monitor did not kill in time. Nothing of it is left.
    pub(in crate::sandbox) fn killed_directly(
        &mut self,
        id: &Id,
        exit: Option<&ExitRecord>,
        now: i64,
    ) -> Change {
        self.ended_unreported(id, exit, |started_at| {
            let how = "killed without the pod's monitor, which did not answer";
            ExitInfo::killed(started_at, now, how)
        })
    }

    /// Answers everybody who waits for the end of a container that does not end. They may ask again.
    pub(in crate::sandbox) fn report_stuck(&mut self, id: &Id, error: &PodError) {
        let failed = Err(error.clone());
        if let Some(container) = self.containers.get_mut(id) {
            container.removal.take().answer(&failed);
            if let Some(Some(stop)) = container.stop_mut() {
                stop.waiters.take().answer(&failed);
            }
        }
        self.stop_waiters.take().answer(&failed);
        self.remove_waiters.take().answer(&failed);
    }
}

impl Pod {
    pub(in crate::sandbox) fn advance_stop(&mut self, id: &Id, now: Instant) {
        let step = self.lifecycle.advance_stop(id, now);
        let Some(container) = self.lifecycle.containers.get_mut(id) else {
            return;
        };
        let subject = (&*container.record).into();
        if let Some(Some(stop)) = container.stop_mut()
            && step != StopStep::Nothing
        {
            let begin = || self.handle.begin("StopContainer", Some(subject));
            let steps = stop.steps.get_or_insert_with(begin);
            match step {
                StopStep::Nothing => {}
                StopStep::Signal => steps.enter_unhurried("grace period"),
                StopStep::CancelStart => steps.enter("cancel the start"),
                StopStep::Kill | StopStep::ReportStuck(_) => steps.enter("kill"),
                StopStep::KillDirectly => steps.enter("kill without the monitor"),
            }
        }
        let name = id.to_string();
        match step {
            StopStep::Nothing => {}
            StopStep::Signal | StopStep::CancelStart => {
                failpoint_before(OPERATION, "signal");
                let signal = signal_number(container.record.stop_signal);
                self.send(
                    id,
                    Request::Signal {
                        container: name,
                        signal,
                    },
                );
            }
            StopStep::Kill => {
                failpoint_before(OPERATION, "kill");
                self.send(id, Request::KillAll { container: name });
            }
            StopStep::KillDirectly => self.kill_directly(id),
            StopStep::ReportStuck(after) => {
                let error = stuck(&container.record, after);
                self.lifecycle.report_stuck(id, &error);
                self.send(id, Request::KillAll { container: name });
            }
        }
    }

    /// Kills a container without its monitor. If nothing of it is left then, it has ended, whether its monitor says so or
    /// not.
    fn kill_directly(&mut self, id: &Id) {
        let (services, record, killed) = (self.services.clone(), self.lifecycle.record.clone(), id.clone());
        let id = id.clone();
        let work = async move {
            let empty = cgroup::kill_and_wait(&services, &record, &killed).await?;
            // The monitor knows more about the end than is known here.
            tokio::time::sleep(EVENT_PATIENCE).await;
            Ok(empty)
        };
        self.begin("kill the container", work, move |pod, outcome| {
            pod.settle_direct_kill(&id, outcome.flatten());
        });
    }

    fn settle_direct_kill(&mut self, id: &Id, outcome: Result<bool, PodError>) {
        match outcome {
            // Something of it hangs in the kernel.
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                return tracing::warn!(
                    container = id.short(),
                    error = error.text(),
                    "cannot kill a container whose monitor does not do it; its processes may still run"
                );
            }
        }
        let directory = self.services.store.layout().pod(self.id());
        let exit = read_exit_record(&directory, id);
        let change = self
            .lifecycle
            .killed_directly(id, exit.as_ref(), crate::state::now());
        if change.containers.is_empty() {
            return;
        }
        tracing::warn!(
            container = id.short(),
            pid = self.lifecycle.record.monitor_pid,
            "killed a container without its monitor, which does not answer"
        );
        self.commit(OPERATION, change);
        self.clean_up_after(id);
    }

    /// Asks the monitor for something that a stop needs, without waiting.
    fn send(&mut self, id: &Id, request: Request) {
        let (monitor, id) = (self.handle.monitor(), id.clone());
        self.begin_unattended(async move {
            if let Some(monitor) = monitor
                && let Err(error) = monitor.request(request, Vec::new()).await
                // The monitor does not know the container yet, or not any more.
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(
                    container = id.short(),
                    error = chain(&error),
                    "cannot signal a container that is to stop; it is killed when its grace period ends"
                );
            }
        });
    }
}

/// The number of a stop signal of CRI; SIGTERM for what is none.
fn signal_number(cri: i32) -> i32 {
    Signal::from_cri(cri).unwrap_or(Signal::TERM).number()
}

/// Why a container does not end: what its first process waits for in the kernel.
fn stuck(record: &ContainerRecord, after: Duration) -> PodError {
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
