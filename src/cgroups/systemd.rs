//! systemd as the cgroup driver: a scope for every cgroup, through libcgroups' D-Bus client.
//!
//! systemd makes scopes only around a process that exists. The directory is therefore made first, the process born in
//! it, and the scope announced after: systemd finds it where it would have made it. The scope is delegated, so that
//! what pausa writes there stays.

use std::path::Path;
use std::time::Duration;

use libcgroups::common::CgroupManager;
use libcgroups::systemd::manager::{Manager, SystemdManagerError};

use super::error::CgroupError;
use super::path::CgroupPath;

/// How long systemd may take to put the process there.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Announces the process's cgroup as a scope. The process is in it already.
pub(super) fn register(root: &Path, path: &CgroupPath, pid: i32) -> Result<(), CgroupError> {
    let failed = failed("start", path);
    let manager = manager(root, path).map_err(&failed)?;
    // libcgroups has its own version of nix, so the id comes out of its own list. A process that has ended since
    // needs no scope.
    let inside = manager.get_all_pids().map_err(&failed)?;
    match inside.into_iter().find(|one| one.as_raw() == pid) {
        Some(pid) => manager.add_task(pid).map_err(failed),
        None => Ok(()),
    }
}

/// Stops the scope; its directory goes with it.
pub(super) fn remove(root: &Path, path: &CgroupPath) -> Result<(), CgroupError> {
    let failed = failed("stop", path);
    let manager = manager(root, path).map_err(&failed)?;
    manager.remove().map_err(failed)
}

fn manager(root: &Path, path: &CgroupPath) -> Result<Manager, SystemdManagerError> {
    let id = path.id.clone();
    Manager::new(root.to_path_buf(), path.spec_path().into(), id, true, TIMEOUT)
}

fn failed(step: &'static str, path: &CgroupPath) -> impl Fn(SystemdManagerError) -> CgroupError {
    let unit = path.name.clone();
    move |source| CgroupError::Systemd {
        step,
        unit: unit.clone(),
        source: Box::new(source),
    }
}
