//! ReopenContainerLog, and a container's log file: opened here, written by the monitor.
//!
//! The directory is kubelet's and may be reached through links of the administrator's; from there on nothing
//! is followed: what a pod could plant in its log directory must not lead to another pod's files.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::sync::Arc;

use pausa_monitor_protocol::Request;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::blocking::blocking;
use crate::container::ContainerRecord;
use crate::error::Failure;
use crate::id::Id;
use crate::monitor::Monitor;
use crate::proto::v1;
use crate::require;
use crate::sandbox::Pods;
use crate::sandbox::error::PodError;
use crate::sandbox::lifecycle::{Answer, ContainerPhase, refused};
use crate::sandbox::pod::Pod;
use crate::sandbox::record::PodRecord;
use crate::telemetry::metrics;

impl Pods {
    /// Begins a new log file for a running container, at the path of the old one, which kubelet has moved away. When this
    /// returns, the last line for the old file is in it.
    ///
    /// # Errors
    /// It is not running, or the file cannot be opened.
    pub async fn reopen_container_log(
        &self,
        request: v1::ReopenContainerLogRequest,
    ) -> Result<v1::ReopenContainerLogResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        let (id, pod) = self.registry.container(&request.container_id)?;
        pod.ask(move |pod, answer| pod.reopen_log(&id, answer)).await?;
        Ok(v1::ReopenContainerLogResponse {})
    }
}

impl Pod {
    fn reopen_log(&mut self, id: &Id, answer: Answer<()>) {
        let container = match self.lifecycle.container(id) {
            Ok(container) => container,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let ContainerPhase::Running(_) = container.phase else {
            let hint = "only the log of a running container can be reopened";
            return drop(answer.send(Err(refused(id, "not running", hint))));
        };
        let (record, pod) = (container.record.clone(), self.lifecycle.record.clone());
        let monitor = self.handle.monitor();
        let work = async move { reopen(&pod, &record, monitor).await };
        let work = metrics::operation("ReopenContainerLog", work);
        self.begin("reopen the container's log", work, |_, outcome| {
            answer.send(outcome.flatten()).ok();
        });
    }
}

async fn reopen(
    pod: &PodRecord,
    record: &ContainerRecord,
    monitor: Option<Arc<Monitor>>,
) -> Result<(), PodError> {
    let Some(path) = record.log_path.clone() else {
        return Ok(());
    };
    let monitor = monitor.ok_or_else(|| PodError::MonitorLost {
        container: record.id.short().to_owned(),
    })?;
    let directory = pod.config.log_directory.clone();
    let file = blocking(move || open_log(Path::new(&directory), &path)).await?;
    let container = record.id.to_string();
    let reopened = monitor
        .request(Request::ReopenLog { container }, vec![file])
        .await;
    reopened
        .map(drop)
        .map_err(|error| PodError::failed("switch to the new log file", error))
}

/// Opens a log for appending, making it (0640) and the directories above it (0755) as needed. Below the pod's log directory
/// no symbolic link is followed: pods that may write to logs must not choose where the daemon writes.
pub(super) fn open_log(directory: &Path, path: &Path) -> Result<OwnedFd, PodError> {
    open(directory, path).map_err(|error| {
        let link = match error {
            Errno::LOOP | Errno::NOTDIR => "; a directory or the file is a symbolic link or something else",
            _ => "",
        };
        PodError::io(format!("open the log {}{link}", path.display()), error)
    })
}

fn open(directory: &Path, path: &Path) -> Result<OwnedFd, Errno> {
    let below = path.strip_prefix(directory).map_err(|_| Errno::INVAL)?;
    let mut names = Vec::new();
    for part in below.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(Errno::INVAL),
        }
    }
    let name = names.pop().ok_or(Errno::INVAL)?;
    std::fs::create_dir_all(directory).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = rustix::fs::open(directory, flags, Mode::empty())?;
    for name in names {
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        parent = rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    open_in(&parent, name)
}

fn open_in(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file = rustix::fs::openat(directory, name, flags, mode)?;
    // A fifo or a device would block or worse; only files are logs.
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        Ok(file)
    } else {
        Err(Errno::INVAL)
    }
}
