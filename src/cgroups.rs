//! Control groups: where a container's resources are limited and counted.
//!
//! ```text
//!   Cgroups::new ─▶ container_path ─▶ create ─▶ Cgroup ─┬─▶ join_fds, oom_events   for the monitor
//!   (probes once)                  └▶ open  ─▶ (again)  ├─▶ update, stats, pids
//!                                                       └─▶ kill_all ─▶ remove
//! ```
//!
//! Everything on a container's way is plain writes beneath directories opened once; mount tables are read once,
//! at start. Why no library does it: `docs/design/0002-cgroups.md`.
//!
//! Must never: touch anything outside the parent it was given, except to make the controllers of cgroup v2
//! available there; remove a parent that is kubelet's; answer from memory what the kernel knows.
//!
//! All calls block, most for microseconds; [`Cgroup::remove`], [`Cgroup::kill_all`] and everything with the systemd
//! driver may take longer. References: cgroups(7), `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/`.

mod apply;
mod create;
mod devices;
mod dir;
mod error;
mod group;
mod layout;
pub mod mountinfo;
mod path;
mod settings;
mod stats;
mod systemd;

pub use error::CgroupError;
pub use group::Cgroup;
#[cfg(test)]
pub(crate) use layout::Hierarchy;
pub use layout::Layout;
pub use path::CgroupPath;
pub use stats::{CpuStats, MemoryStats, PidStats, Pressure, Pressures, Stalls, Stats};

use oci_spec::runtime::LinuxDeviceCgroup;

use self::dir::Dir;
use crate::error::chain;
use crate::proto::v1;

/// Who makes cgroups here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// pausa itself.
    Cgroupfs,
    /// systemd, told over D-Bus.
    Systemd,
}

/// Who shall make cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// systemd where it runs and cgroup v2 is there, else pausa.
    #[default]
    Auto,
    /// pausa.
    Cgroupfs,
    /// systemd.
    Systemd,
}

/// What a new cgroup is limited to.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// CRI's resource fields.
    pub cri: &'a v1::LinuxContainerResources,
    /// The device rules of the spec, in order. Empty: as the parent's.
    pub devices: &'a [LinuxDeviceCgroup],
    /// Largest number of processes and threads.
    pub pids: Option<u64>,
}

/// The cgroups of this node.
#[derive(Debug)]
pub struct Cgroups {
    driver: Driver,
    layout: Layout,
    roots: Vec<Root>,
}

/// One hierarchy.
#[derive(Debug)]
struct Root {
    /// Its controllers; empty for v2, which has all there are.
    controllers: Vec<String>,
    dir: Dir,
}

impl Cgroups {
    /// Looks at this node's cgroups and decides about the driver.
    ///
    /// # Errors
    /// No cgroups are mounted, or systemd's driver is asked for where it cannot be.
    pub fn new(choice: DriverChoice) -> Result<Self, CgroupError> {
        let layout = Layout::probe()?;
        let booted = systemd::booted();
        let lacks = |reason| CgroupError::HostLacks {
            field: "cgroup_driver = \"systemd\"".to_owned(),
            reason,
        };
        let driver = match choice {
            DriverChoice::Cgroupfs => Driver::Cgroupfs,
            DriverChoice::Auto if booted && layout.is_v2() => Driver::Systemd,
            DriverChoice::Auto => Driver::Cgroupfs,
            DriverChoice::Systemd if !booted => return Err(lacks("systemd does not run on this node")),
            DriverChoice::Systemd if !layout.is_v2() => {
                return Err(lacks("it needs cgroup v2; use cgroupfs on this node"));
            }
            DriverChoice::Systemd => Driver::Systemd,
        };
        Self::with(driver, layout)
    }

    /// These cgroups with this driver.
    pub(crate) fn with(driver: Driver, layout: Layout) -> Result<Self, CgroupError> {
        let roots = match &layout {
            Layout::V1 { hierarchies, .. } => hierarchies
                .iter()
                .map(|one| {
                    Ok(Root {
                        controllers: one.controllers.clone(),
                        dir: Dir::root(&one.mount_point)?,
                    })
                })
                .collect::<Result<_, CgroupError>>()?,
            Layout::V2 { mount_point, .. } => {
                let dir = Dir::root(mount_point)?;
                if let Err(error) = devices::probe(&dir) {
                    let error = chain(&error);
                    tracing::error!(error, "no container but privileged ones can start");
                }
                vec![Root {
                    controllers: Vec::new(),
                    dir,
                }]
            }
        };
        Ok(Self {
            driver,
            layout,
            roots,
        })
    }

    /// The driver in use: what RuntimeConfig must say.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// How cgroups are mounted.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where a container's cgroup is. Nothing is made.
    ///
    /// # Errors
    /// A parent of the other driver's form, or one that leads elsewhere than down.
    pub fn container_path(&self, cgroup_parent: &str, id: &str) -> Result<CgroupPath, CgroupError> {
        CgroupPath::new(self.driver, cgroup_parent, id)
    }

    /// Where the cgroup of a pod's monitor is: in the pod's, so that its cost is the pod's.
    ///
    /// # Errors
    /// As [`Self::container_path`].
    pub fn monitor_path(&self, cgroup_parent: &str, pod_id: &str) -> Result<CgroupPath, CgroupError> {
        let short = pod_id.get(..13).unwrap_or(pod_id);
        let name = match self.driver {
            Driver::Cgroupfs => format!("pausa-monitor-{short}"),
            // The prefix is the scope's.
            Driver::Systemd => format!("monitor-{short}"),
        };
        CgroupPath::new(self.driver, cgroup_parent, &name)
    }

    /// Makes a cgroup with its limits. One that is there already gets the limits.
    ///
    /// # Errors
    /// A value that is wrong or that the kernel refuses. Then what was made is removed again.
    pub fn create(&self, path: &CgroupPath, limits: &Limits<'_>) -> Result<Cgroup, CgroupError> {
        create::create(self, path, limits)
    }

    /// Makes a cgroup without limits of its own, as a pod's monitor has.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_unlimited(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        let limits = Limits {
            cri: &v1::LinuxContainerResources::default(),
            devices: &[],
            pids: None,
        };
        create::create(self, path, &limits)
    }

    /// A cgroup that exists.
    ///
    /// # Errors
    /// It is in no hierarchy.
    pub fn open(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        create::open(self, path)
    }

    /// A cgroup that exists, to read how much it uses with [`Cgroup::stats`] and [`Cgroup::pressures`] and for nothing
    /// else: hierarchies that do not count usage are left out, which is most of the cost on v1. Where v1 has `cpu` and
    /// `cpuacct` apart, throttling is left out too.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_counters(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        create::open_counters(self, path)
    }

    /// Removes a cgroup that may be anywhere between made and gone. Nothing there is success.
    ///
    /// # Errors
    /// As [`Cgroup::remove`].
    pub fn remove(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        match self.open(path) {
            Ok(cgroup) => cgroup.remove(),
            Err(CgroupError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
