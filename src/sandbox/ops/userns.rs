//! What the daemon has to do with a pod's user namespace, which the monitor makes.
//!
//! It needs no descriptor of it from the monitor: the pod's network namespace is bound to a path and belongs to it,
//! and the kernel tells whom a namespace belongs to (ioctl_ns(2)). So a daemon that was restarted finds it, too. A pod on the
//! host's network has an IPC namespace of its own all the same, in which its monitor is.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use pausa_monitor_protocol::IdRange;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::id::Id;
use crate::sandbox::error::PodError;
use crate::sandbox::reconcile::monitors::pod_of;
use crate::sandbox::record::PodRecord;

/// The pod's user namespace, where it has one.
pub(super) fn open(pod: &PodRecord) -> Result<Option<OwnedFd>, PodError> {
    if pod.id_range().is_none() {
        return Ok(None);
    }
    let gone = || PodError::State {
        what: "pod sandbox",
        id: pod.id.to_string(),
        state: "NOTREADY",
        hint: "its namespaces are gone; make the container in a new pod",
    };
    let (namespace, path) = if pod.host_network() {
        let path = Path::new("/proc").join(pod.monitor_pid.to_string());
        (ipc_of_monitor(&path, &pod.id)?.ok_or_else(gone)?, path)
    } else {
        let path = pod.netns.clone().ok_or_else(gone)?;
        let netns = File::open(&path);
        let doing = || format!("find the pod's user namespace: open {}", path.display());
        (netns.map_err(|error| PodError::io(doing(), error))?.into(), path)
    };
    let users = pausa_sys::owner_of(namespace.as_fd()).map_err(|errno| {
        let doing = format!(
            "find the pod's user namespace: ioctl(NS_GET_USERNS) of {}",
            path.display()
        );
        PodError::io(doing, errno)
    })?;
    Ok(Some(users))
}

/// The IPC namespace of a pod's monitor, whose directory in `/proc` that is; none if it is another process by now.
fn ipc_of_monitor(process: &Path, pod: &Id) -> Result<Option<OwnedFd>, PodError> {
    let doing = |call: &str| format!("find the pod's user namespace: {call} in {}", process.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(process, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.map_err(|errno| PodError::io(doing("open"), errno))?,
    };
    // By the directory, which stays that of the same process.
    let read = |name: &str| openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let found = || -> std::io::Result<Option<OwnedFd>> {
        let mut command = Vec::new();
        File::from(read("cmdline")?)
            .take(4096)
            .read_to_end(&mut command)?;
        if pod_of(&command).as_ref() != Some(pod) {
            return Ok(None);
        }
        Ok(Some(read("ns/ipc")?))
    };
    match found() {
        // It has ended meanwhile.
        Err(error)
            if [Errno::NOENT, Errno::SRCH]
                .map(Errno::raw_os_error)
                .contains(&error.raw_os_error().unwrap_or(0)) =>
        {
            Ok(None)
        }
        found => found.map_err(|error| PodError::io(doing("read cmdline and ns/ipc"), error)),
    }
}

/// Gives a file or directory to the root of a pod's user namespace, where it has one.
pub(super) fn chown(path: &Path, range: Option<IdRange>) -> Result<(), PodError> {
    let Some(IdRange { first, .. }) = range else {
        return Ok(());
    };
    std::os::unix::fs::chown(path, Some(first), Some(first))
        .map_err(|error| PodError::io(format!("chown {} to {first}", path.display()), error))
}
