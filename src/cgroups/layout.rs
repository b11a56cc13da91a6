//! How cgroups are mounted on this node. Probed once, because the mount points do not change.

use std::path::PathBuf;

use super::error::CgroupError;
use super::mountinfo::{self, MountInfo};

/// The controllers of cgroup v1 (cgroups(7)); other options of such a mount are not hierarchies.
const V1_CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "net_prio",
    "blkio",
    "perf_event",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
];

/// The node's cgroup hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// At least one controller is on cgroup v1. In hybrid mode there is a v2 hierarchy beside them, which is not used.
    V1 { hierarchies: Vec<Hierarchy> },
    /// cgroup v2 alone.
    V2 {
        mount_point: PathBuf,
        /// Its mount options that are the whole hierarchy's (`nsdelegate`, `memory_recursiveprot`): a mount without
        /// them from the node's own cgroup namespace takes them from the node (cgroup-v2.rst, "Mounting").
        flags: Vec<String>,
    },
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, or `name=…` for a hierarchy without any.
    pub controllers: Vec<String>,
    pub mount_point: PathBuf,
}

impl Layout {
    /// Probes this node.
    ///
    /// # Errors
    /// There is no cgroup mount.
    pub fn probe() -> Result<Self, CgroupError> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read(path).map_err(|source| CgroupError::System {
            call: "read",
            path: path.into(),
            source,
        })?;
        Self::from_mounts(&mountinfo::parse(&text)).ok_or(CgroupError::NotMounted)
    }

    /// The layout of these mounts. Of several mounts of a hierarchy the first one counts: later ones belong to containers
    /// and tools.
    pub(crate) fn from_mounts(mounts: &[MountInfo]) -> Option<Self> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        let mut flags = Vec::new();
        for mount in mounts {
            match mount.fstype.as_str() {
                "cgroup2" if unified.is_none() => {
                    unified = Some(mount.mount_point.clone());
                    // SELinux shows an option of its own there, and those with a value are security modules' too.
                    let foreign =
                        |option: &str| matches!(option, "rw" | "ro" | "seclabel") || option.contains('=');
                    let options = mount.super_options.iter();
                    flags = options.filter(|option| !foreign(option)).cloned().collect();
                }
                "cgroup" => {
                    let known = |option: &&String| {
                        V1_CONTROLLERS.contains(&option.as_str()) || option.starts_with("name=")
                    };
                    let controllers: Vec<String> =
                        mount.super_options.iter().filter(known).cloned().collect();
                    let seen = hierarchies.iter().any(|one| one.controllers == controllers);
                    if !controllers.is_empty() && !seen {
                        hierarchies.push(Hierarchy {
                            controllers,
                            mount_point: mount.mount_point.clone(),
                        });
                    }
                }
                _ => {}
            }
        }
        let controls = |one: &Hierarchy| one.controllers.iter().any(|name| !name.starts_with("name="));
        match (hierarchies.iter().any(controls), unified) {
            (true, _) => Some(Self::V1 { hierarchies }),
            (false, Some(mount_point)) => Some(Self::V2 { mount_point, flags }),
            (false, None) => None,
        }
    }

    pub fn is_v2(&self) -> bool {
        matches!(self, Self::V2 { .. })
    }
}

#[cfg(test)]
mod tests;
