//! Exit records: one file per exited container, in the pod's directory.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use pausa_monitor_protocol::ExitRecord;
use pausa_sys::Durability;
use rustix::fs::AtFlags;
use rustix::io::Errno;

/// Writes a record, whole or not at all. Failures are ignored: the pod's directory may be gone or its disk full. The
/// exit event carries the same data, and so does the reply to Hello as long as the monitor lives.
pub(crate) fn write(exits: &OwnedFd, record: &ExitRecord) {
    if let Ok(text) = serde_json::to_vec(record) {
        let name = name(&record.container);
        pausa_sys::replace_file(exits.as_fd(), Path::new(&name), &text, Durability::Process).ok();
    }
}

/// Deletes a container's record, if there is one.
///
/// # Errors
/// The errno of unlinkat(2).
pub(crate) fn delete(exits: &OwnedFd, container: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(exits, name(container), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn name(container: &str) -> String {
    format!("{container}.json")
}
