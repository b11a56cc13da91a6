//! A number no other running test has, on the whole machine: a locked file, freed by the kernel with the process.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;

use rustix::fs::{FlockOperation, flock};

/// More tests than this never run at once.
const SLOTS: u8 = 200;

/// Whether kubelet's cgroups are slices here: `PAUSA_CRITEST_CGROUP_DRIVER=systemd`, on machines with systemd and cgroup
/// v2. Otherwise they are directories.
pub(crate) fn has_slices() -> bool {
    std::env::var("PAUSA_CRITEST_CGROUP_DRIVER").is_ok_and(|driver| driver == "systemd")
}

/// A slot and the names that derive from it.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u8,
    _lock: File,
}

impl Slot {
    /// Takes the first free slot.
    pub(crate) fn take() -> Self {
        let dir = std::env::temp_dir().join("pausa-critest");
        std::fs::create_dir_all(&dir).expect("a directory for the slots");
        for number in 0..SLOTS {
            let path = dir.join(format!("slot-{number}"));
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .expect("a slot's lock file");
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("all {SLOTS} slots in {} are taken", dir.display());
    }

    /// The bridge of this slot's daemon.
    pub(crate) fn bridge(&self) -> String {
        format!("pct{}", self.number)
    }

    /// The pods' network, a /24.
    pub(crate) fn subnet(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 201, self.number, 0)
    }

    /// Where the cgroups of this slot's pods are.
    pub(crate) fn cgroup(&self) -> String {
        if has_slices() {
            format!("pausacritest{}.slice", self.number)
        } else {
            format!("pausa-critest-{}", self.number)
        }
    }

    /// The cgroup of one of them, as kubelet would write it.
    pub(crate) fn pod_cgroup(&self, uid: &str) -> String {
        if has_slices() {
            format!("pausacritest{}-pod{}.slice", self.number, uid.replace('-', "_"))
        } else {
            format!("/{}/pod{uid}", self.cgroup())
        }
    }

    /// Ports on the host that this slot may map: ten from here on.
    pub(crate) fn host_port(&self) -> u16 {
        21_000 + u16::from(self.number) * 10
    }
}
