//! The daemon, if it runs: what it says about itself, and what the kernel says about it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use tokio::net::UnixStream;

use super::finding::{Check, Finding, Verdict};
use super::limits;
use crate::cli::client::Daemon;
use crate::cli::units;
use crate::error::chain;
use crate::proto::admin::{
    CheckNetworkRequest, CheckNetworkResponse, NetworkVerdict, Operation, OperationsRequest,
};
use crate::proto::v1;

/// For each answer of a daemon.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the networks of all pods: a plugin may take up to 30 seconds.
const NETWORK_PATIENCE: Duration = Duration::from_secs(40);
/// A step that takes longer is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// A step that waits for what is asked to end.
const GRACE: &str = "grace period";
/// What the unit allows is a million.
const FEW_FILES: u64 = 65_536;
/// Pods that are named.
const NAMED: usize = 5;

/// Mode and owner of the socket, or why it cannot be reached.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) path: PathBuf,
    /// None if there is nothing.
    pub(super) file: Option<SocketFile>,
    /// Why nobody answers.
    pub(super) refused: Option<io::Error>,
    /// Who listens; none if that is systemd.
    pub(super) pid: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketFile {
    pub(super) is_socket: bool,
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
}

/// Everything that a running daemon has said.
#[derive(Debug)]
pub(super) struct Answers {
    /// Its name and version.
    pub(super) version: (String, String),
    pub(super) conditions: Result<Vec<v1::RuntimeCondition>, String>,
    /// The verbose part of Status.
    pub(super) info: BTreeMap<String, String>,
    pub(super) operations: Result<Vec<Operation>, String>,
    pub(super) networks: Result<Vec<CheckNetworkResponse>, String>,
    pub(super) pods: Vec<v1::PodSandbox>,
    pub(super) containers: Vec<v1::Container>,
    /// Soft limit of open files.
    pub(super) open_files: Option<u64>,
    /// Nanoseconds since the epoch.
    pub(super) now: i64,
}

/// Looks at the socket and connects once.
pub(super) async fn socket(path: &Path) -> Socket {
    let file = fs::metadata(path).ok().map(|data| SocketFile {
        is_socket: data.file_type().is_socket(),
        mode: data.mode() & 0o777,
        user: data.uid(),
        group: data.gid(),
    });
    let connected = tokio::time::timeout(PATIENCE, UnixStream::connect(path)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (pid, refused) = match connected {
        Ok(stream) => (
            stream
                .peer_cred()
                .ok()
                .and_then(|peer| peer.pid())
                .filter(|pid| *pid > 1),
            None,
        ),
        Err(error) => (None, Some(error)),
    };
    Socket {
        path: path.to_owned(),
        file,
        refused,
        pid,
    }
}

/// Asks a daemon that listens, with a limit for each answer. An error if it does not even know its version.
pub(super) async fn ask(socket: &Socket) -> Result<Answers, String> {
    let connected = Daemon::connect(socket.path.clone()).await;
    let daemon = connected.map_err(|error| chain(&error))?;
    let version = in_time(daemon.runtime().version(v1::VersionRequest::default())).await?;
    let version = version.into_inner();
    let status = async {
        let request = v1::StatusRequest { verbose: true };
        Ok::<_, String>(in_time(daemon.runtime().status(request)).await?.into_inner())
    };
    let operations = async {
        let answer = in_time(daemon.admin().operations(OperationsRequest {})).await?;
        Ok(answer.into_inner().operations)
    };
    let networks = async {
        let all = async {
            let answer = daemon
                .admin()
                .check_network(CheckNetworkRequest::default())
                .await?;
            answer.into_inner().try_collect().await
        };
        match tokio::time::timeout(NETWORK_PATIENCE, all).await {
            Ok(answer) => answer.map_err(|status: tonic::Status| status.message().to_owned()),
            Err(_) => Err(format!("no answer within {} s", NETWORK_PATIENCE.as_secs())),
        }
    };
    let pods = async {
        let request = v1::ListPodSandboxRequest::default();
        let answer = in_time(daemon.runtime().list_pod_sandbox(request)).await;
        answer.map_or_else(|_| Vec::new(), |answer| answer.into_inner().items)
    };
    let containers = async {
        let request = v1::ListContainersRequest::default();
        let answer = in_time(daemon.runtime().list_containers(request)).await;
        answer.map_or_else(|_| Vec::new(), |answer| answer.into_inner().containers)
    };
    let (status, operations, networks, pods, containers) =
        tokio::join!(status, operations, networks, pods, containers);
    let limits = socket
        .pid
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default());
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (conditions, info) = match status {
        Ok(answer) => {
            let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
            (Ok(conditions), answer.info.into_iter().collect())
        }
        Err(error) => (Err(error), BTreeMap::new()),
    };
    Ok(Answers {
        version: (version.runtime_name, version.runtime_version),
        conditions,
        info,
        operations,
        networks,
        pods,
        containers,
        open_files: limits.and_then(|text| limits::open_files(&text)),
        now: i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX),
    })
}

async fn in_time<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Whether somebody can be asked, and by whom.
pub(super) fn decide_socket(socket: &Socket) -> Vec<Finding> {
    use Verdict::{Ok, Problem, Unknown, Warning};
    let path = socket.path.display();
    let mut findings = Vec::new();
    let running = |verdict, found| Finding::new(Check::DaemonRunning, verdict, found);
    match (&socket.refused, socket.file) {
        (None, _) => {
            let pid = socket
                .pid
                .map_or_else(String::new, |pid| format!(", process {pid}"));
            findings.push(running(Ok, format!("somebody listens on {path}{pid}")));
        }
        (Some(_), None) => findings.push(running(Problem, format!("nobody listens: {path} does not exist"))),
        (Some(error), Some(_)) if error.kind() == io::ErrorKind::PermissionDenied => {
            findings.push(
                running(Unknown, format!("this user may not connect to {path}"))
                    .remedy("run `pausa doctor` as root: the socket is for root and its group"),
            );
        }
        (Some(_), Some(file)) if !file.is_socket => {
            let finding = running(Problem, format!("{path} is not a socket"));
            findings
                .push(finding.remedy("move the file away, or set another `listen`, and start the daemon"));
        }
        (Some(error), Some(_)) => findings.push(running(
            Problem,
            format!("nobody listens on {path}, which a daemon that is gone has left: {error}"),
        )),
    }
    if let Some(file) = socket.file.filter(|file| file.is_socket) {
        let found = format!(
            "{path} has mode {:04o} and is of user {}, group {}",
            file.mode, file.user, file.group
        );
        let verdict = match (file.mode & 0o007, file.mode & 0o600 == 0o600, file.user) {
            // Whoever can write to it can connect.
            (others, _, _) if others & 0o002 != 0 => Warning,
            (_, false, _) => Warning,
            (_, _, 0) => Ok,
            _ => Warning,
        };
        findings.push(Finding::new(Check::DaemonSocket, verdict, found));
    }
    findings
}

pub(super) fn decide(answers: &Answers, own_version: &str) -> Vec<Finding> {
    use Verdict::{Ok, Problem, Unknown, Warning};
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    let (name, version) = &answers.version;
    match version == own_version {
        true => add(
            Check::DaemonVersion,
            Ok,
            format!("{name} {version}, as this program"),
        ),
        false => add(
            Check::DaemonVersion,
            Warning,
            format!("the daemon is {name} {version}, this program is {own_version}"),
        ),
    }
    match &answers.conditions {
        Err(error) => add(
            Check::DaemonCri,
            Problem,
            format!("it does not answer Status: {error}"),
        ),
        Result::Ok(conditions) => {
            for condition in conditions {
                let name = &condition.r#type;
                match condition.status {
                    true => add(Check::DaemonCri, Ok, format!("{name} is true")),
                    false => add(
                        Check::DaemonCri,
                        Problem,
                        format!("{name} is false: {} {}", condition.reason, condition.message),
                    ),
                }
            }
        }
    }
    match &answers.operations {
        Err(error) => add(
            Check::DaemonOperations,
            Unknown,
            format!("it does not list operations: {error}"),
        ),
        Result::Ok(operations) => {
            let stuck: Vec<String> = operations
                .iter()
                .filter_map(|one| stuck(one, answers.now))
                .collect();
            match stuck.is_empty() {
                true => add(
                    Check::DaemonOperations,
                    Ok,
                    format!("{} operations in flight, none of them is stuck", operations.len()),
                ),
                false => stuck
                    .into_iter()
                    .take(NAMED)
                    .for_each(|text| add(Check::DaemonOperations, Warning, text)),
            }
        }
    }
    match answers.open_files {
        Some(most) if most < FEW_FILES => add(
            Check::DaemonOpenFiles,
            Warning,
            format!("the daemon may have {most} files open"),
        ),
        Some(most) => add(
            Check::DaemonOpenFiles,
            Ok,
            format!("the daemon may have {most} files open"),
        ),
        // Whoever listens is not the daemon: systemd, with socket activation.
        None => {}
    }
    match &answers.networks {
        Err(error) => add(Check::NetworkPods, Unknown, error.clone()),
        Result::Ok(pods) => {
            let with = |wanted: &[NetworkVerdict]| -> Vec<String> {
                let has = |pod: &&CheckNetworkResponse| {
                    let mut verdicts = pod.findings.iter().map(|finding| finding.verdict());
                    verdicts.any(|verdict| wanted.contains(&verdict))
                };
                let pods = pods.iter().filter(has);
                pods.map(|pod| format!("{}/{}", pod.namespace, pod.pod)).collect()
            };
            let wrong = with(&[NetworkVerdict::Problem]);
            let unknown = with(&[NetworkVerdict::Unknown, NetworkVerdict::Unspecified]);
            let (verdict, found) = match (wrong.len(), unknown.len()) {
                (0, 0) => (
                    Ok,
                    format!("nothing is wrong with the networks of {} pods", pods.len()),
                ),
                (0, count) => (
                    Unknown,
                    format!("{count} of {} pods: {}", pods.len(), named(&unknown)),
                ),
                (count, _) => (
                    Problem,
                    format!("{count} of {} pods: {}", pods.len(), named(&wrong)),
                ),
            };
            add(Check::NetworkPods, verdict, found);
        }
    }
    findings
}

fn named(pods: &[String]) -> String {
    let shown = pods.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match pods.len() {
        count if count > NAMED => format!("{shown}, …"),
        _ => shown,
    }
}

/// What an operation is stuck in, if it is.
fn stuck(operation: &Operation, now: i64) -> Option<String> {
    let since = operation.step_since.unwrap_or(operation.started);
    let passed = Duration::from_nanos(u64::try_from(now.saturating_sub(since)).ok()?);
    let step = operation.step.as_deref().unwrap_or("its first step");
    if passed < STUCK || step == GRACE {
        return None;
    }
    let container = operation.container.as_ref();
    let object = container.map_or_else(String::new, |name| format!("/{name}"));
    Some(format!(
        "{} of {}/{}{object} has been in step {step} for {}",
        operation.operation,
        operation.namespace,
        operation.pod,
        units::duration(passed)
    ))
}

#[cfg(test)]
mod tests;
