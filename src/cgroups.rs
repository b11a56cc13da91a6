//! Control groups: where a container's resources are limited and counted.
//!
//! ```text
//!   Cgroups::new ─▶ container_path ─▶ create ─▶ Cgroup ─┬─▶ join_fds, oom_events   for the monitor
//!   (probes once)                  └▶ open  ─▶ (again)  ├─▶ update, stats, pids
//!                                                       └─▶ kill_all ─▶ remove
//! ```
//!
//! Starting a container only writes beneath directories that are opened once; mount tables are read once, at start.
//! `docs/design/0002-cgroups.md` says why no library does it.
//!
//! Missing parents are created. Another container's end may remove the default parent at any moment, so creation
//! starts over when a parent vanishes. On v1 a new cpuset has neither CPUs nor memory nodes and takes its parent's; on
//! v2 controllers are enabled from the root down.
//!
//! Must never: touch anything outside the given parent, except to enable the controllers of cgroup v2 there; remove a
//! parent that kubelet created; cache what the kernel knows.
//!
//! All calls block, most of them for microseconds. [`Cgroup::remove`], [`Cgroup::kill_all`] and every call with the
//! systemd driver may take longer. References: cgroups(7), `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/`.

pub mod blockio;
pub mod cpus;
mod devices;
mod dir;
mod error;
mod group;
mod layout;
pub mod mountinfo;
mod partition;
mod path;
mod qos;
mod settings;
mod stats;
mod systemd;

/// The driver in use, as CRI reports it to kubelet.
pub use crate::proto::v1::CgroupDriver as Driver;
pub use error::CgroupError;
pub use group::Cgroup;
#[cfg(test)]
pub(crate) use layout::Hierarchy;
pub use layout::Layout;
pub use partition::Partition;
pub use path::CgroupPath;
pub use qos::QosClass;
pub use settings::Limits;
pub use stats::{
    CpuStats, DeviceIo, HugePages, MemoryStats, Operation, PidStats, Pressure, Pressures, Stalls, Stats,
};
#[cfg(test)]
pub(crate) use stats::{CpuTimes, Throttling};

use std::io;

use oci_spec::runtime::LinuxDeviceCgroup;
use rustix::io::Errno;

use self::blockio::Rule;
use self::cpus::CpuSet;
use self::dir::Dir;
use self::group::Member;
use self::settings::Setting;
use crate::config::CgroupDriver;
use crate::error::chain;

/// How often creation starts over because a parent vanished.
const ATTEMPTS: usize = 16;

/// The controllers pausa wants below a v2 parent, as far as the node has them.
const V2_CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The controllers of v1 that usage is read from.
const COUNTERS: [&str; 3] = ["cpuacct", "memory", "pids"];

/// The controllers of v1 that count anything.
const ALL_COUNTERS: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb"];

/// The cgroups of this node.
#[derive(Debug)]
pub struct Cgroups {
    driver: Driver,
    layout: Layout,
    roots: Vec<Root>,
}

/// A hierarchy.
#[derive(Debug)]
struct Root {
    /// Empty for v2, which has all controllers.
    controllers: Vec<String>,
    dir: Dir,
}

impl Root {
    fn serves(&self, controller: &str) -> bool {
        self.controllers.is_empty() || self.controllers.iter().any(|name| name == controller)
    }
}

/// The driver that a daemon with this configuration has on this node.
///
/// # Errors
/// The systemd driver is configured and cannot work here.
pub fn driver_here(configured: CgroupDriver, layout: &Layout) -> Result<Driver, CgroupError> {
    driver(configured, layout, systemd::booted())
}

fn driver(configured: CgroupDriver, layout: &Layout, booted: bool) -> Result<Driver, CgroupError> {
    let lacks = |reason| {
        Err(CgroupError::HostLacks {
            field: "cgroup_driver = \"systemd\"".to_owned(),
            reason,
        })
    };
    match configured {
        CgroupDriver::Cgroupfs => Ok(Driver::Cgroupfs),
        CgroupDriver::Auto if booted && layout.is_v2() => Ok(Driver::Systemd),
        CgroupDriver::Auto => Ok(Driver::Cgroupfs),
        CgroupDriver::Systemd if !booted => lacks("systemd does not run on this node"),
        CgroupDriver::Systemd if !layout.is_v2() => lacks("it needs cgroup v2; use cgroupfs on this node"),
        CgroupDriver::Systemd => Ok(Driver::Systemd),
    }
}

impl Cgroups {
    /// Probes this node's cgroups and chooses the driver.
    ///
    /// # Errors
    /// No cgroups are mounted, or the systemd driver is configured and cannot work here.
    pub fn new(configured: CgroupDriver) -> Result<Self, CgroupError> {
        let layout = Layout::probe()?;
        let driver = driver(configured, &layout, systemd::booted())?;
        Self::with(driver, layout)
    }

    pub(crate) fn with(driver: Driver, layout: Layout) -> Result<Self, CgroupError> {
        let roots = match &layout {
            Layout::V1 { hierarchies } => hierarchies
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
                    tracing::error!(
                        error,
                        "cannot load device programs: only privileged containers can start"
                    );
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

    /// The driver in use, for CRI's RuntimeConfig.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The path of a container's cgroup. Nothing is created.
    ///
    /// # Errors
    /// A parent in the other driver's form, or one with `..` or empty names.
    pub fn container_path(&self, cgroup_parent: &str, id: &str) -> Result<CgroupPath, CgroupError> {
        CgroupPath::new(self.driver, cgroup_parent, id)
    }

    /// The path of the cgroup of a pod's monitor. It is in the pod's cgroup, which is charged for the monitor; for its pids
    /// on v1 see [`Self::create_for_monitor`].
    ///
    /// # Errors
    /// As [`Self::container_path`].
    pub fn monitor_path(&self, cgroup_parent: &str, pod_id: &str) -> Result<CgroupPath, CgroupError> {
        // The whole id: cAdvisor looks for it, and finds the pod's network by it.
        self.path_of_pod(cgroup_parent, "monitor", pod_id)
    }

    /// Where the monitor of a pod is that pausa made before the path had the pod's whole id.
    fn earlier_monitor_path(&self, cgroup_parent: &str, pod_id: &str) -> Result<CgroupPath, CgroupError> {
        self.path_of_pod(cgroup_parent, "monitor", short(pod_id))
    }

    fn path_of_pod(&self, parent: &str, what: &str, id: &str) -> Result<CgroupPath, CgroupError> {
        let name = match self.driver {
            Driver::Cgroupfs => format!("pausa-{what}-{id}"),
            // The name of a scope has the prefix already.
            Driver::Systemd => format!("{what}-{id}"),
        };
        CgroupPath::new(self.driver, parent, &name)
    }

    /// Creates a cgroup with a container's limits and the device rules of the spec, in order. Without rules those of
    /// the parent apply. An existing cgroup gets the limits and rules.
    ///
    /// # Errors
    /// A value that is wrong or that the kernel refuses. What was created is removed again.
    pub fn create(
        &self,
        path: &CgroupPath,
        limits: &Limits,
        devices: &[LinuxDeviceCgroup],
    ) -> Result<Cgroup, CgroupError> {
        // Everything is checked before anything is created.
        let settings = settings::of_container(self.layout.is_v2(), limits)?;
        self.create_in(path, &settings, devices, |_| true)
    }

    /// Which of these rules the kernel takes, and why not the others: they are written into the cgroup of a container that is
    /// not there yet and is gone again afterwards.
    ///
    /// # Errors
    /// The cgroup cannot be made or removed.
    pub fn try_block_io(
        &self,
        path: &CgroupPath,
        rules: &[Rule],
    ) -> Result<Vec<Result<Rule, CgroupError>>, CgroupError> {
        let cgroup = self.create_in(path, &[], &[], |root| root.serves("blkio"))?;
        let written = rules.iter().map(|rule| {
            let mut settings = settings::of_block_io(self.layout.is_v2(), &[*rule]).into_iter();
            settings
                .try_for_each(|setting| cgroup.write(&setting))
                .map(|()| *rule)
        });
        let written = written.collect();
        cgroup.remove()?;
        Ok(written)
    }

    /// Creates a cgroup in some of the hierarchies.
    fn create_in(
        &self,
        path: &CgroupPath,
        settings: &[Setting],
        devices: &[LinuxDeviceCgroup],
        wanted: impl Fn(&Root) -> bool,
    ) -> Result<Cgroup, CgroupError> {
        let mut members = Vec::with_capacity(self.roots.len());
        let mut made = Ok(());
        for root in self.roots.iter().filter(|root| wanted(root)) {
            match make(root, path, self.layout.is_v2()) {
                Ok(member) => members.push(member),
                Err(error) => {
                    made = Err(error);
                    break;
                }
            }
        }
        let cgroup = Cgroup::new(self, path.clone(), members)?;
        match made.and_then(|()| cgroup.set_up(settings, devices)) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.discard();
                Err(error)
            }
        }
    }

    /// Creates the cgroups of a pod's monitor, without limits of their own.
    ///
    /// On v1 the monitor is outside of its pod in the hierarchy of pids: a process is made where its parent is, so inside of
    /// the pod the monitor could make none when the pod is at its limit. On v2 it says where. In v1's hierarchy of memory the
    /// monitor is in the pod's cgroup itself, if the pod has one: to remove a cgroup there, the kernel goes through all file
    /// systems that are mounted.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_for_monitor(&self, cgroup_parent: &str, pod_id: &str) -> Result<Vec<Cgroup>, CgroupError> {
        let inside = self.monitor_path(cgroup_parent, pod_id)?;
        if self.layout.is_v2() {
            return Ok(vec![self.create_in(&inside, &[], &[], |_| true)?]);
        }
        let pod = inside.parent().filter(|_| !cgroup_parent.is_empty());
        let in_pod = |root: &Root| pod.is_some() && root.serves("memory");
        let own = |root: &Root| !root.serves("pids") && !in_pod(root);
        let mut made = vec![self.create_in(&inside, &[], &[], own)?];
        let rest = || {
            let outside = self.monitor_path("", pod_id)?;
            made.push(self.create_in(&outside, &[], &[], |root| root.serves("pids"))?);
            if let Some(pod) = &pod {
                made.push(self.create_in(pod, &[], &[], in_pod)?);
            }
            Ok(made)
        };
        rest().inspect_err(|_| {
            self.remove_of_monitor(cgroup_parent, pod_id)
                .unwrap_or_else(|leftover| {
                    let error = chain(&leftover);
                    tracing::warn!(
                        error,
                        "cannot remove the cgroup of a monitor that was not started"
                    );
                });
        })
    }

    /// Removes the cgroups of a pod's monitor, and what a daemon that died left of [`Self::create_birth`]. Missing ones count
    /// as removed.
    ///
    /// # Errors
    /// As [`Cgroup::remove`].
    pub fn remove_of_monitor(&self, cgroup_parent: &str, pod_id: &str) -> Result<(), CgroupError> {
        let remove = |parent| match self.open(&self.monitor_path(parent, pod_id)?) {
            Ok(cgroup) => cgroup.remove(),
            Err(CgroupError::NotFound { .. }) => self.remove(&self.earlier_monitor_path(parent, pod_id)?),
            Err(error) => Err(error),
        };
        let inside = remove(cgroup_parent);
        let outside = match self.layout {
            Layout::V1 { .. } => remove(""),
            Layout::V2 { .. } => Ok(()),
        };
        let births = self.remove(&self.births(pod_id)?);
        inside.and(outside).and(births)
    }

    /// Creates a cgroup in which the processes of an exec are made while the container or its pod is at its limit of pids: see
    /// `docs/design/0011-exec-at-the-pids-limit.md`. It is outside of the pod's, holds two processes, and on v2, where it is
    /// all they are in, little memory and the container's devices.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_birth(
        &self,
        pod_id: &str,
        exec_id: &str,
        devices: &[LinuxDeviceCgroup],
    ) -> Result<Cgroup, CgroupError> {
        let path = self.births(pod_id)?.below(exec_id);
        let settings = settings::of_birth(self.layout.is_v2());
        match self.layout {
            Layout::V1 { .. } => self.create_in(&path, &settings, &[], |root| root.serves("pids")),
            Layout::V2 { .. } => self.create_in(&path, &settings, devices, |_| true),
        }
    }

    /// What holds the cgroups of [`Self::create_birth`] of one pod. It is no unit of systemd's.
    fn births(&self, pod_id: &str) -> Result<CgroupPath, CgroupError> {
        let path = self.path_of_pod("", "exec", short(pod_id))?;
        Ok(CgroupPath { scope: None, ..path })
    }

    /// Opens an existing cgroup.
    ///
    /// # Errors
    /// [`CgroupError::NotFound`] if no hierarchy has it.
    pub fn open(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        let mut members = Vec::with_capacity(self.roots.len());
        for root in &self.roots {
            let Some(parent) = parent_of(&root.dir, path)? else {
                continue;
            };
            if let Some(dir) = parent.open(&path.name)? {
                members.push(Member {
                    controllers: root.controllers.clone(),
                    parent: Some(parent),
                    dir,
                });
            }
        }
        Cgroup::new(self, path.clone(), found(path, members)?)
    }

    /// Opens an existing cgroup for [`Cgroup::stats`] and [`Cgroup::pressures`] only: hierarchies that do not count
    /// usage are left out, which is most of the cost on v1. Where v1 has `cpu` and `cpuacct` in separate hierarchies,
    /// throttling is left out too.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_counters(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        self.open_to_read(path, &COUNTERS)
    }

    /// Opens an existing cgroup for [`Cgroup::detailed_stats`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_all_counters(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        self.open_to_read(path, &ALL_COUNTERS)
    }

    fn open_to_read(&self, path: &CgroupPath, controllers: &[&str]) -> Result<Cgroup, CgroupError> {
        let counts = |root: &&Root| controllers.iter().any(|name| root.serves(name));
        let relative = path.relative();
        let mut members = Vec::with_capacity(controllers.len());
        for root in self.roots.iter().filter(counts) {
            if let Some(dir) = root.dir.open(&relative)? {
                members.push(Member {
                    controllers: root.controllers.clone(),
                    parent: None,
                    dir,
                });
            }
        }
        let members = found(path, members)?;
        Ok(Cgroup::to_read(self, path.clone(), members))
    }

    /// The hierarchy that has cpusets.
    fn cpusets(&self) -> Option<&Root> {
        self.roots.iter().find(|root| root.serves("cpuset"))
    }

    /// The directory that has a cgroup's cpuset; none without cpusets, or if the cgroup is not there.
    fn cpuset(&self, path: &CgroupPath) -> Result<Option<Dir>, CgroupError> {
        let dir = self.cpusets().map(|root| root.dir.open(&path.relative()));
        Ok(dir.transpose()?.flatten())
    }

    /// The CPUs that cgroups of this node may use; none without cpusets.
    pub(super) fn effective_cpus(&self) -> Result<Option<CpuSet>, CgroupError> {
        match self.cpusets() {
            Some(root) => self.effective_cpus_in(&root.dir),
            None => Ok(None),
        }
    }

    /// The CPUs that a cgroup may use. None if it is not there, or does not have a cpuset.
    pub(super) fn effective_cpus_of(&self, path: &CgroupPath) -> Result<Option<CpuSet>, CgroupError> {
        match self.cpuset(path)? {
            Some(dir) => self.effective_cpus_in(&dir),
            None => Ok(None),
        }
    }

    /// The CPUs that a cgroup could use at the most: those of the nearest one above that is there.
    pub(super) fn effective_cpus_above(&self, path: &CgroupPath) -> Result<Option<CpuSet>, CgroupError> {
        let mut above = path.parent();
        while let Some(path) = above {
            if let Some(cpus) = self.effective_cpus_of(&path)? {
                return Ok(Some(cpus));
            }
            above = path.parent();
        }
        self.effective_cpus()
    }

    fn effective_cpus_in(&self, dir: &Dir) -> Result<Option<CpuSet>, CgroupError> {
        let file = if self.layout.is_v2() {
            "cpuset.cpus.effective"
        } else {
            "cpuset.effective_cpus"
        };
        numbers(dir, file)
    }

    /// Moves the processes of cgroups to other CPUs. One that is not there, any more or yet, is left out. One that cannot be
    /// moved is reported in the log.
    pub(super) fn move_all(&self, paths: &[CgroupPath], cpus: &CpuSet) {
        let setting = settings::of_cpus(cpus);
        for path in paths {
            let moved = self
                .cpuset(path)
                .and_then(|dir| dir.map_or(Ok(()), |dir| move_to(&dir, &setting, self.layout.is_v2())));
            if let Err(error) = moved {
                tracing::warn!(
                    cgroup = path.relative(),
                    %cpus,
                    error = chain(&error),
                    "cannot move a cgroup to other CPUs; it may run on those of a pinned container"
                );
            }
        }
        if let Err(error) = systemd::set_all(paths.iter().filter(|path| path.scope.is_some()), &[setting]) {
            let error = chain(&error);
            tracing::warn!(
                error,
                "cannot tell systemd the CPUs of scopes; its next reload gives them those of before until limits are restored"
            );
        }
    }

    /// Removes a cgroup that may be half created or half removed. A missing one counts as removed.
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

    /// Stops the slice of pods without `cgroup_parent`, unless something is in it: systemd keeps it as long as nobody does. Without
    /// systemd, the last pod takes it along.
    ///
    /// # Errors
    /// systemd does not answer, or refuses.
    pub fn remove_default_slice(&self) -> Result<(), CgroupError> {
        if self.driver != Driver::Systemd {
            return Ok(());
        }
        let slice = CgroupPath::default_slice();
        for root in &self.roots {
            if let Some(dir) = root.dir.open(&slice.name)?
                && !dir.children()?.is_empty()
            {
                return Ok(());
            }
        }
        systemd::stop(&slice)
    }
}

/// The beginning of an id, which is enough to tell it from others.
fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// A list in a file of a cpuset; none if the file or its cgroup is not there.
fn numbers(dir: &Dir, file: &str) -> Result<Option<CpuSet>, CgroupError> {
    let odd = |source| CgroupError::System {
        call: "parse",
        path: dir.path().join(file),
        source: io::Error::new(io::ErrorKind::InvalidData, source),
    };
    let text = dir.read(file)?;
    text.map(|text| text.parse()).transpose().map_err(odd)
}

/// Writes a set that pausa has chosen itself. v2 takes any, and lets the cgroup have what there is of it. v1 refuses
///
/// * what the cgroup above does not have: it is left out here, and if nothing is left, the cgroup gets all that the one
///   above has, as on v2;
/// * to take away what a cgroup beneath has, which the container has made itself: that is moved first.
fn move_to(dir: &Dir, setting: &Setting, v2: bool) -> Result<(), CgroupError> {
    let Setting { file, value, .. } = setting;
    let write = |value: &str| match dir.write(file, value) {
        // It is being removed.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NODEV | Errno::NOENT)) => Ok(()),
        written => written,
    };
    let refused = |written: &io::Result<()>| {
        let errno = written.as_ref().err().and_then(Errno::from_io_error);
        !v2 && matches!(errno, Some(Errno::ACCESS | Errno::BUSY))
    };
    let mut written = write(value);
    if refused(&written) {
        let set = fitting(dir, setting)?;
        let fit = Setting {
            value: set.to_string(),
            ..setting.clone()
        };
        written = write(&fit.value);
        if refused(&written) {
            // With both sets, so that each one beneath can go from the one to the other.
            let now = numbers(dir, file)?.unwrap_or_default();
            written = write(&now.union(&set).to_string());
            for child in dir.children()? {
                if let Some(child) = dir.open(&child)? {
                    move_to(&child, &fit, v2)?;
                }
            }
            written = written.and_then(|()| write(&fit.value));
        }
    }
    written.map_err(|source| CgroupError::System {
        call: "write",
        path: dir.path().join(file),
        source,
    })
}

/// What the cgroup above has of a set; if that is nothing, all that it has.
fn fitting(dir: &Dir, setting: &Setting) -> Result<CpuSet, CgroupError> {
    let set: CpuSet = setting.value.parse().unwrap_or_default();
    let above = dir.above()?.map(|above| numbers(&above, &setting.file));
    let Some(above) = above.transpose()?.flatten() else {
        return Ok(set);
    };
    let both = set.intersection(&above);
    if !both.is_empty() {
        return Ok(both);
    }
    tracing::warn!(
        path = %dir.path().join(&setting.file).display(),
        wanted = %set,
        %above,
        "the cgroup above has nothing of what a cgroup is to have, so that it gets what the one above has; it may run on CPUs \
         of pinned containers"
    );
    Ok(above)
}

fn found(path: &CgroupPath, members: Vec<Member>) -> Result<Vec<Member>, CgroupError> {
    if members.is_empty() {
        return Err(CgroupError::NotFound {
            path: path.relative().into(),
        });
    }
    Ok(members)
}

/// The directory that holds the cgroup, if it is there.
fn parent_of(root: &Dir, path: &CgroupPath) -> Result<Option<Dir>, CgroupError> {
    match path.parents.is_empty() {
        true => root.open("."),
        false => root.open(&path.parents.join("/")),
    }
}

/// Creates the directory in one hierarchy.
fn make(root: &Root, path: &CgroupPath, v2: bool) -> Result<Member, CgroupError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match try_make(root, path, v2) {
            Ok(Some(member)) => return Ok(member),
            Ok(None) => {}
            Err(error) if vanished(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| CgroupError::NotFound {
        path: root.dir.path().join(path.relative()),
    }))
}

/// One attempt. Returns none, or an error that [`vanished`] recognises, if a parent was removed meanwhile.
fn try_make(root: &Root, path: &CgroupPath, v2: bool) -> Result<Option<Member>, CgroupError> {
    let cpuset = root.controllers.iter().any(|name| name == "cpuset");
    // kubelet's parents exist: one look-up instead of one per level.
    let parent = match parent_of(&root.dir, path)? {
        Some(parent) => parent,
        None => match make_parents(&root.dir, path, cpuset)? {
            Some(parent) => parent,
            None => return Ok(None),
        },
    };
    if v2 {
        enable(&root.dir, path)?;
    }
    parent.make(&path.name)?;
    let Some(dir) = parent.open(&path.name)? else {
        return Ok(None);
    };
    if cpuset && !inherit_cpuset(&root.dir, &parent, &dir)? {
        fill_parents(&root.dir, path)?;
        inherit_cpuset(&root.dir, &parent, &dir)?;
    }
    Ok(Some(Member {
        controllers: root.controllers.clone(),
        parent: Some(parent),
        dir,
    }))
}

/// Creates the parents one by one. Returns none if one of them was removed meanwhile.
fn make_parents(root: &Dir, path: &CgroupPath, cpuset: bool) -> Result<Option<Dir>, CgroupError> {
    let mut here = match root.open(".")? {
        Some(here) => here,
        None => return Ok(None),
    };
    for name in &path.parents {
        here.make(name)?;
        let Some(next) = here.open(name)? else {
            return Ok(None);
        };
        if cpuset {
            inherit_cpuset(root, &here, &next)?;
        }
        here = next;
    }
    Ok(Some(here))
}

/// Whether an error says that a directory was removed, before or after one of its files was opened.
fn vanished(error: &CgroupError) -> bool {
    let CgroupError::System { source, .. } = error else {
        return false;
    };
    source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Copies CPUs and memory nodes where the child has none; false if the parent has none either.
fn inherit_cpuset(root: &Dir, parent: &Dir, child: &Dir) -> Result<bool, CgroupError> {
    const CPUS: &str = "cpuset.cpus";
    for file in [CPUS, "cpuset.mems"] {
        if child.read(file)?.is_some_and(|value| !value.is_empty()) {
            continue;
        }
        let value = parent.read(file)?.unwrap_or_default();
        if value.is_empty() {
            return Ok(false);
        }
        if file == CPUS {
            leave_balancing_to_root(root, child);
        }
        child.write(file, &value).map_err(|source| CgroupError::System {
            call: "write",
            path: child.path().join(file),
            source,
        })?;
    }
    Ok(true)
}

/// Turns off load balancing for a new cpuset of v1, where that of the root covers all CPUs anyway.
///
/// Otherwise the kernel computes the scheduling domains of the node anew, with all cpusets that there are, each time that
/// this one gets CPUs or is removed (`Documentation/admin-guide/cgroup-v1/cpusets.rst`, section 1.7). A failure costs only
/// time.
fn leave_balancing_to_root(root: &Dir, child: &Dir) {
    const BALANCE: &str = "cpuset.sched_load_balance";
    if matches!(root.read(BALANCE), Ok(Some(value)) if value == "1") {
        child.write(BALANCE, "0").ok();
    }
}

/// Nothing can run in a parent without CPUs, so it gets those of its own parent.
fn fill_parents(root: &Dir, path: &CgroupPath) -> Result<(), CgroupError> {
    let Some(mut here) = root.open(".")? else {
        return Ok(());
    };
    for name in &path.parents {
        let Some(next) = here.open(name)? else {
            return Ok(());
        };
        inherit_cpuset(root, &here, &next)?;
        here = next;
    }
    Ok(())
}

/// Enables the controllers for the children of every parent, the root first. A controller that a parent does not offer,
/// or that cannot be enabled now, is skipped: the limit that needs one of its files reports the error.
fn enable(root: &Dir, path: &CgroupPath) -> Result<(), CgroupError> {
    let Some(mut here) = root.open(".")? else {
        return Ok(());
    };
    for name in path.parents.iter().map(Some).chain([None]) {
        let offered = here.read("cgroup.controllers")?.unwrap_or_default();
        let enabled = here.read("cgroup.subtree_control")?.unwrap_or_default();
        let has = |list: &str, one: &str| list.split(' ').any(|name| name == one);
        for controller in V2_CONTROLLERS {
            if has(&offered, controller)
                && !has(&enabled, controller)
                && let Err(error) = here.write("cgroup.subtree_control", &format!("+{controller}"))
            {
                tracing::warn!(
                    path = %here.path().display(),
                    controller,
                    error = chain(&error),
                    "cannot enable a cgroup controller; limits that need it will fail"
                );
            }
        }
        let Some(name) = name else { break };
        match here.open(name)? {
            Some(next) => here = next,
            None => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
