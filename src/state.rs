//! Records of pods and containers on disk, and the layout of their files.
//!
//! ```text
//!  <state>/pods/POD/            /run/pausa: emptied by a reboot
//!    pod.json                     the pod's record
//!    monitor.sock  exits/         written by the monitor
//!    hostname  hosts  resolv.conf  shm/
//!    containers/CID/container.json  bundle/config.json  bundle/rootfs/
//!  <root>/pods/POD/             /var/lib/pausa: persistent
//!    pod.json                     copy of the record, a moment later
//!    containers/CID/container.json  upper/  work/
//! ```
//!
//! A record is JSON with a `version`, replaced atomically. It is saved below `<state>`, which costs no disk access and
//! survives the daemon, *before* a change is announced. `mirror` then copies it below `<root>` with fsync, in the
//! background, so that pods from before a reboot can be reported and cleaned up. A power cut loses at most the last
//! changes to pods that the cut has ended anyway.
//!
//! Must never: depend on the content of a record, which is whatever serde can write; refuse to start because of a record
//! that cannot be read, which is reported beside the others.

mod layout;
mod mirror;
mod record;

pub use layout::{CONTAINER_RECORD, CONTAINERS, Layout, POD_RECORD};
pub use record::{Loaded, LoadedPod, StateError, Store};

/// The kernel's id of this boot (random(4)), which distinguishes records from before a reboot.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// The current time in nanoseconds since the epoch, as in CRI.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
