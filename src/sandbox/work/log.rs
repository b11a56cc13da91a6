//! A container's log file: opened here, written by the monitor.
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

use super::blocking;
use crate::container::ContainerRecord;
use crate::error::ErrorKind;
use crate::sandbox::error::PodError;
use crate::sandbox::link::Link;
use crate::sandbox::registry::CONTAINER;

/// Opens a log for appending, making it (0640) and the directories above it (0755) as needed.
pub(super) fn open_log(path: &Path) -> Result<OwnedFd, PodError> {
    open(path).map_err(|error| PodError::io(format!("open the log {}", path.display()), error))
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Errno::INVAL);
    }
    std::fs::create_dir_all(parent).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let directory = rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    open_in(&directory, name)
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

/// Begins a new file at the log's path; when this returns, the last line for the old one is in it.
pub(in crate::sandbox) async fn reopen_log(
    record: &ContainerRecord,
    monitor: Option<Arc<Link>>,
) -> Result<(), PodError> {
    let Some(path) = record.log_path.clone() else {
        return Ok(());
    };
    let gone = || PodError::Gone {
        what: CONTAINER,
        id: record.id.to_string(),
    };
    let monitor = monitor.ok_or_else(gone)?;
    let file = blocking(move || open_log(&path)).await?;
    let request = Request::ReopenLog {
        container: record.id.to_string(),
    };
    let reopened = monitor.request(request, vec![file]).await;
    reopened
        .map(drop)
        .map_err(|error| PodError::failed_as("switch to the new log file", ErrorKind::Internal, error))
}
