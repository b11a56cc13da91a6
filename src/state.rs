//! Records on disk: what is remembered of pods and containers, and where everything of theirs lies.
//!
//! ```text
//!  <state>/pods/POD/            /run/pausa: gone with the machine's next start
//!    pod.json                     the pod's record
//!    monitor.sock  exits/         the monitor's
//!    hostname  hosts  resolv.conf  shm/
//!    containers/CID/container.json  bundle/config.json  bundle/rootfs/
//!  <root>/pods/POD/             /var/lib/pausa: stays
//!    pod.json                     copy of the record, a moment later
//!    containers/CID/container.json  upper/  work/
//! ```
//!
//! A record is JSON with a `version`, written beside and renamed into place: a reader sees the old one or
//! the new one. It is saved below `<state>`, which costs no disk access and survives the daemon, *before*
//! anybody is told; [`mirror`] then copies it below `<root>` with fsync, off everybody's path, so that the
//! pods of before a reboot can still be reported and cleaned up. What a power cut takes is at most the last
//! moments of news about pods that the cut has ended anyway.
//!
//! This room knows no pod and no container: it stores what serde can write, under ids. It never refuses to
//! start: a record that cannot be read is reported beside the others.

mod layout;
mod mirror;
mod record;

pub use layout::{Layout, POD_RECORD};
pub use record::{Loaded, LoadedPod, StateError, Store};

/// The kernel's id of this boot (random(4)), which tells records of before a reboot.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// Now, in nanoseconds since the epoch, as CRI counts time.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
