//! ExecSync: a command in a running container, its output and its exit code.
//!
//! Output beyond the limit is read and dropped, so that the command goes on. When it ends while a child of
//! it keeps the output open, that child is waited for a moment only. When nobody waits any more, or time is
//! up, the command and all that came of it are killed.

mod output;

use std::sync::Arc;
use std::time::Duration;

use pausa_monitor_protocol::{ExecPlan, ExitStatus, FdRole, ProcessPlan, Request};

use tokio::time::Instant;

use self::output::Stream;
use super::container_parts::read_spec;
use crate::container::{ContainerRecord, RunState};
use crate::id::Id;
use crate::oci;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::link::Link;
use crate::sandbox::registry::CONTAINER;
use crate::sandbox::services::Services;

/// How long a killed command may take to be reaped.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What came of a command.
#[derive(Debug)]
pub(in crate::sandbox) struct ExecOutput {
    pub(in crate::sandbox) stdout: Vec<u8>,
    pub(in crate::sandbox) stderr: Vec<u8>,
    pub(in crate::sandbox) exit_code: i32,
}

/// Runs a command and waits for it.
pub(in crate::sandbox) async fn exec_sync(
    services: &Services,
    handle: &Arc<PodHandle>,
    record: &ContainerRecord,
    command: Vec<String>,
    timeout: Duration,
) -> Result<ExecOutput, PodError> {
    let monitor = monitor_of(handle, record)?;
    let process = process(services, handle, record, command)?;
    let exec = Id::random().to_string();
    let ended = handle.execs().ends.expect(exec.clone());
    let running = Running {
        handle: Arc::clone(handle),
        monitor,
        exec,
        over: false,
    };
    running
        .run(record, process, ended, timeout, services.settings.exec_drain)
        .await
}

/// The monitor of a container, if it runs.
pub(super) fn monitor_of(handle: &PodHandle, record: &ContainerRecord) -> Result<Arc<Link>, PodError> {
    let not_running = || PodError::State {
        what: CONTAINER,
        id: record.id.to_string(),
        state: "not running",
        hint: "this needs a running container",
    };
    handle
        .monitor()
        .filter(|_| matches!(record.run, RunState::Running { .. }))
        .ok_or_else(not_running)
}

/// The container's own process with other arguments.
pub(super) fn process(
    services: &Services,
    handle: &PodHandle,
    record: &ContainerRecord,
    command: Vec<String>,
) -> Result<ProcessPlan, PodError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(PodError::Invalid {
            field: "cmd",
            problem: "is empty: say which command to run".into(),
        });
    }
    if command.iter().any(|argument| argument.contains('\0')) {
        return Err(PodError::Invalid {
            field: "cmd",
            problem: "has a NUL byte, which no argument can hold".into(),
        });
    }
    let first = match handle.execs().process(&record.id) {
        Some(known) => known,
        None => {
            // A daemon before this one has started the container.
            let spec = read_spec(services, record)?;
            let plan = oci::exec_process(&spec, &command, false, &services.seccomp);
            let plan = plan.map_err(|error| PodError::failed("plan the command", error))?;
            let plan = Arc::new(plan);
            handle
                .execs()
                .set_process(record.id.clone(), Some(Arc::clone(&plan)));
            plan
        }
    };
    let mut process = ProcessPlan::clone(&first);
    process.args = command.into_iter().map(String::into_bytes).collect();
    process.terminal = false;
    process.terminal_size = None;
    Ok(process)
}

/// A command under way; dropping it kills the command, unless it is over.
struct Running {
    handle: Arc<PodHandle>,
    monitor: Arc<Link>,
    exec: String,
    over: bool,
}

impl Running {
    async fn run(
        mut self,
        record: &ContainerRecord,
        process: ProcessPlan,
        ended: tokio::sync::oneshot::Receiver<ExitStatus>,
        timeout: Duration,
        drain: Duration,
    ) -> Result<ExecOutput, PodError> {
        let (stdout, out) = Stream::open()?;
        let (stderr, err) = Stream::open()?;
        let plan = ExecPlan {
            id: self.exec.clone(),
            container: record.id.to_string(),
            fds: vec![FdRole::Stdout, FdRole::Stderr],
            process,
        };
        let limit = Some(timeout).filter(|timeout| !timeout.is_zero());
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let monitor = Arc::clone(&self.monitor);
        // It may hang before the command runs, too: in a working directory on a dead volume, say.
        let started = monitor.request(Request::Exec(Box::new(plan)), vec![out, err]);
        match within(until, started).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.over = true;
                return Err(PodError::failed("run the command", error));
            }
            None => return Err(self.kill(record, timeout).await),
        }
        let lost = |_| PodError::Gone {
            what: CONTAINER,
            id: record.id.to_string(),
        };
        let exit = match within(until, ended).await {
            Some(exit) => exit.map_err(lost)?,
            None => return Err(self.kill(record, timeout).await),
        };
        self.over = true;
        let (mut stdout, mut stderr) = tokio::join!(stdout.finish(drain), stderr.finish(drain));
        let dropped = output::fit(&mut stdout, &mut stderr);
        if dropped > 0 {
            tracing::warn!(
                container = record.id.short(),
                dropped,
                "the output of a command is more than an answer can hold: its end was left out"
            );
        }
        Ok(ExecOutput {
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            exit_code: exit.code,
        })
    }

    async fn kill(&mut self, record: &ContainerRecord, timeout: Duration) -> PodError {
        let request = Request::KillExec {
            exec: self.exec.clone(),
        };
        self.over = matches!(
            tokio::time::timeout(KILL_PATIENCE, self.monitor.request(request, Vec::new())).await,
            Ok(Ok(_))
        );
        PodError::TimedOut {
            what: format!("the command in container {}", record.id.short()),
            seconds: timeout.as_secs(),
            detail: "it and all processes it started were killed".into(),
        }
    }
}

/// What comes until then; without an end, whenever it comes.
async fn within<T>(until: Option<Instant>, what: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, what).await.ok(),
        None => Some(what.await),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.execs().ends.forget(&self.exec);
        if self.over {
            return;
        }
        let (monitor, exec) = (Arc::clone(&self.monitor), self.exec.clone());
        tokio::spawn(async move { drop(monitor.request(Request::KillExec { exec }, Vec::new()).await) });
    }
}
