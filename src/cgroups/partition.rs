//! cpuset partitions of cgroup v2: CPUs on which nothing else of the node runs, not even what pausa does not know.
//!
//! A container's cgroup is deep below the root, and no cgroup above is a partition. Such a *remote* partition needs its CPUs
//! in `cpuset.cpus.exclusive` of every cgroup above (Linux 6.7). That limits nobody by itself: it says who may make a
//! partition of them.
//!
//! A partition that has one CPU is `isolated`: without load balancing the kernel does less there. With more CPUs the threads
//! of a program that does not place them itself would all stay on one of them, so it is a `root` with a balance of its own.
//!
//! Reference: "Cpuset Interface Files" in `Documentation/admin-guide/cgroup-v2.rst`.

use std::io;

use super::cpus::CpuSet;
use super::dir::Dir;
use super::error::CgroupError;
use super::{Cgroup, CgroupPath, Cgroups};

const EXCLUSIVE: &str = "cpuset.cpus.exclusive";
const PARTITION: &str = "cpuset.cpus.partition";
const MEMBER: &str = "member";

/// The kinds of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    Root,
    Isolated,
}

impl Partition {
    /// The kernel's word.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Isolated => "isolated",
        }
    }
}

impl Cgroups {
    /// Lets cgroups below `path`, and only those, have partitions with these CPUs. A cgroup that is gone is left out.
    pub(super) fn set_exclusive(&self, path: &CgroupPath, cpus: &CpuSet) -> Result<(), CgroupError> {
        match self.cpuset(path)? {
            Some(dir) => write(&dir, EXCLUSIVE, &cpus.to_string()),
            None => Ok(()),
        }
    }

    /// The partition that a cgroup is. None if it is not there, or no partition, or one whose CPUs are not its own now.
    pub(super) fn partition(&self, path: &CgroupPath) -> Result<Option<Partition>, CgroupError> {
        let dir = self.cpuset(path)?;
        let said = dir.map(|dir| dir.read(PARTITION)).transpose()?.flatten();
        let kinds = [Partition::Root, Partition::Isolated];
        Ok(kinds
            .into_iter()
            .find(|kind| said.as_deref() == Some(kind.kind())))
    }
}

impl Cgroup {
    /// Makes it a partition with the CPUs of its cpuset.
    ///
    /// # Errors
    /// The kernel cannot; then it is as before.
    pub(super) fn isolate(&self, cpus: &CpuSet) -> Result<(), CgroupError> {
        let Some(dir) = self.directory_of_v2() else {
            return Err(lacking());
        };
        write(dir, EXCLUSIVE, &cpus.to_string())?;
        let kind = match cpus.len() {
            1 => Partition::Isolated,
            _ => Partition::Root,
        };
        let kind = kind.kind();
        write(dir, PARTITION, kind)?;
        let said = dir.read(PARTITION)?.unwrap_or_default();
        if said == kind {
            return Ok(());
        }
        self.end_isolation()?;
        Err(CgroupError::NoPartition {
            path: dir.path().join(PARTITION),
            said,
        })
    }

    /// Lets others run on its CPUs again. Does nothing where it is no partition.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn end_isolation(&self) -> Result<(), CgroupError> {
        let Some(dir) = self.directory_of_v2() else {
            return Ok(());
        };
        if dir.read(PARTITION)?.is_none_or(|said| said == MEMBER) {
            return Ok(());
        }
        write(dir, PARTITION, MEMBER)?;
        write(dir, EXCLUSIVE, "")
    }
}

fn write(dir: &Dir, file: &str, value: &str) -> Result<(), CgroupError> {
    // An empty write changes nothing; a line without numbers is the empty list.
    let text = if value.is_empty() { "\n" } else { value };
    dir.write(file, text).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => lacking(),
        _ => CgroupError::System {
            call: "write",
            path: dir.path().join(file),
            source,
        },
    })
}

fn lacking() -> CgroupError {
    CgroupError::HostLacks {
        field: "cpu.isolation = \"partition\"".to_owned(),
        reason: "it needs cgroup v2 with the cpuset controller, and Linux 6.7",
    }
}
