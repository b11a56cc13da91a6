//! A container's record, as saved and as published.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pausa_monitor_protocol::ExitStatus;
use serde::{Deserialize, Serialize};

use crate::cgroups::blockio::BlockIo;
use crate::cgroups::cpus::Pinning;
use crate::id::Id;
use crate::oci::OtherNamespace;
use crate::proto::v1;

/// Everything that is remembered of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Form of this record.
    pub version: u32,
    pub id: Id,
    pub pod: Id,
    /// What was asked for, unchanged.
    pub config: v1::ContainerConfig,
    /// What it was made from.
    pub image: ImageIdentity,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Where it is in its life.
    pub run: RunState,
    /// Host path of its log; none: no log.
    pub log_path: Option<PathBuf>,
    /// Its cgroup, in the form that the cgroup driver gave it.
    pub cgroup: String,
    /// The images of its image volumes, by the index of their mount in the configuration: their ids.
    #[serde(default)]
    pub volumes: BTreeMap<usize, String>,
    /// User and groups of its first process.
    pub user: v1::LinuxContainerUser,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// Resources in force: those of the configuration, then every update.
    pub resources: v1::LinuxContainerResources,
    /// Its CPUs of its own, which it has until it exits.
    #[serde(default)]
    pub pinning: Option<Pinning>,
    /// How many processes and threads it may have, by the configuration of its runtime handler.
    #[serde(default)]
    pub pids_limit: Option<u32>,
    /// What it may use above its CFS quota, in percent of the quota, by the same configuration.
    #[serde(default)]
    pub cpu_burst: Option<u32>,
    /// Its block I/O class.
    #[serde(default)]
    pub block_io: Option<BlockIo>,
    /// Its RDT class.
    #[serde(default)]
    pub rdt_class: Option<String>,
    /// Namespaces in place of those that CRI asks for, by their kind, as NRI plugins want.
    #[serde(default)]
    pub namespaces: BTreeMap<String, OtherNamespace>,
}

impl ContainerRecord {
    /// The form that this version writes.
    pub const VERSION: u32 = 1;

    /// The score that the kernel's OOM killer goes by. It is in range since it was accepted.
    pub fn oom_score_adj(&self) -> Option<i32> {
        i32::try_from(self.resources.oom_score_adj).ok()
    }

    /// The state in CRI's words.
    pub fn state(&self) -> v1::ContainerState {
        match self.run {
            RunState::Created => v1::ContainerState::ContainerCreated,
            RunState::Running { .. } => v1::ContainerState::ContainerRunning,
            RunState::Exited(_) => v1::ContainerState::ContainerExited,
        }
    }

    /// Name and attempt, by which kubelet means a container.
    pub fn name(&self) -> (String, u32) {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        (metadata.name, metadata.attempt)
    }
}

/// The image of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// Its id, `sha256:…`.
    pub id: String,
    /// A repository digest of it, or its id if it has none: CRI's `image_ref`.
    pub reference: String,
    /// Its first tag, or what was asked for.
    pub name: String,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Made, not started.
    Created,
    Running {
        /// That process, in the host's PID namespace.
        pid: i32,
        /// Nanoseconds since the epoch.
        started_at: i64,
    },
    /// It has ended, or could not be started.
    Exited(ExitInfo),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitInfo {
    /// Nanoseconds since the epoch; of a container that could not be started, the attempt.
    pub started_at: i64,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// What it returned, or 128 + signal.
    pub code: i32,
    /// One word for it.
    pub reason: Reason,
    /// A sentence for it, where there is one.
    pub message: String,
}

/// Why a container is no longer running, in the words that users of the peers grep for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It returned 0.
    Completed,
    /// It returned something else, or a signal ended it.
    Error,
    /// The kernel's OOM killer ended it.
    #[serde(rename = "OOMKilled")]
    OomKilled,
    /// It could not be started.
    StartError,
    /// It was lost: its monitor is gone, or the machine was restarted under it.
    Unknown,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "Unknown",
        }
    }
}

impl ExitInfo {
    /// The end of a process that the monitor saw.
    pub fn of(started_at: i64, exit: &ExitStatus) -> Self {
        let reason = match exit {
            ExitStatus { oom_killed: true, .. } => Reason::OomKilled,
            ExitStatus { code: 0, .. } => Reason::Completed,
            _ => Reason::Error,
        };
        Self {
            started_at,
            finished_at: exit.at,
            code: exit.code,
            reason,
            message: String::new(),
        }
    }

    /// Whether its monitor had brought the container to an end, hooks included.
    pub fn was_reported(&self) -> bool {
        self.message.is_empty() || self.reason == Reason::StartError
    }

    /// A start that failed.
    pub fn start_error(at: i64, message: String) -> Self {
        Self {
            started_at: at,
            finished_at: at,
            code: 128,
            reason: Reason::StartError,
            message,
        }
    }

    /// An end by SIGKILL that the monitor did not report.
    pub fn killed(started_at: i64, noticed_at: i64, message: &str) -> Self {
        Self {
            code: 137,
            reason: Reason::Error,
            ..Self::lost(started_at, noticed_at, message)
        }
    }

    /// An end that nobody saw.
    pub fn lost(started_at: i64, noticed_at: i64, message: &str) -> Self {
        Self {
            started_at,
            finished_at: noticed_at,
            code: 255,
            reason: Reason::Unknown,
            message: message.to_owned(),
        }
    }
}
