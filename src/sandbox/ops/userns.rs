//! What the daemon has to do with a pod's user namespace, which the monitor makes.
//!
//! It needs no descriptor of it from the monitor: the pod's network namespace is bound to a path and belongs to it,
//! and the kernel tells whom a namespace belongs to (ioctl_ns(2)). So a daemon that was restarted finds it, too.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use pausa_monitor_protocol::IdRange;

use crate::sandbox::error::PodError;
use crate::sandbox::record::PodRecord;

/// The pod's user namespace, where it has one.
pub(super) fn open(pod: &PodRecord) -> Result<Option<OwnedFd>, PodError> {
    if pod.id_range().is_none() {
        return Ok(None);
    }
    let Some(netns) = &pod.netns else {
        return Err(PodError::State {
            what: "pod sandbox",
            id: pod.id.to_string(),
            state: "NOTREADY",
            hint: "its namespaces are gone; make the container in a new pod",
        });
    };
    let doing = |call: &str| format!("find the pod's user namespace: {call} {}", netns.display());
    let netns = File::open(netns).map_err(|error| PodError::io(doing("open"), error))?;
    let users = pausa_sys::owner_of(netns.as_fd())
        .map_err(|errno| PodError::io(doing("ioctl(NS_GET_USERNS) of"), errno))?;
    Ok(Some(users))
}

/// Gives a file or directory to the root of a pod's user namespace, where it has one.
pub(super) fn chown(path: &Path, range: Option<IdRange>) -> Result<(), PodError> {
    let Some(IdRange { first, .. }) = range else {
        return Ok(());
    };
    std::os::unix::fs::chown(path, Some(first), Some(first))
        .map_err(|error| PodError::io(format!("chown {} to {first}", path.display()), error))
}
