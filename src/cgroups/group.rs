//! One container's cgroup: a directory in each hierarchy.
//!
//! Limits are written in an order in which the kernel refuses none of them:
//!
//! * CPU v1: the kernel checks quota against period and against the parent after each write. The period is written
//!   first, and if that is refused, again after the quota.
//! * CPU v2: both are one value. A period alone keeps the quota.
//! * CPU burst: it may never be above the quota. Going down, it is written before the quota; going up, after it.
//! * Memory v1: memory may never be above memory+swap. Going up, the sum is written first; going down, memory first.
//! * Memory: a limit below what is in use is refused here; v1 would answer EBUSY, v2 would kill.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use oci_spec::runtime::LinuxDeviceCgroup;
use pausa_monitor_protocol::FdRole;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::cpus::CpuSet;
use super::dir::Dir;
use super::error::CgroupError;
use super::path::CgroupPath;
use super::settings::{self, BURST, Limits, MEMORY, POOL, Setting, V1_BURST, V2_BURST};
use super::stats::{self, Pressures, Stats};
use super::{Cgroups, Driver, devices, move_to, systemd};
use crate::error::chain;

/// Pauses in ms before the directory of killed processes is removed: half a second altogether.
const REMOVE_PAUSES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// How often all processes are killed again, because one of them forked meanwhile.
const KILL_ROUNDS: usize = 16;

const MEMSW: &str = "memory.memsw.limit_in_bytes";
const LIMIT: &str = "memory.limit_in_bytes";
const PERIOD: &str = "cpu.cfs_period_us";
const QUOTA: &str = "cpu.cfs_quota_us";
const MAX: &str = "cpu.max";

/// A cgroup and handles on its directories.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) path: CgroupPath,
    v2: bool,
    members: Vec<Member>,
    /// The directory above a default parent, one a hierarchy.
    above: Vec<Dir>,
}

/// The cgroup in one hierarchy.
#[derive(Debug)]
pub(super) struct Member {
    /// Empty on v2, where one directory has all of them.
    pub(super) controllers: Vec<String>,
    /// The directory it is removed from; none if it was opened for reading.
    pub(super) parent: Option<Dir>,
    pub(super) dir: Dir,
}

impl Cgroup {
    pub(super) fn new(
        cgroups: &Cgroups,
        path: CgroupPath,
        members: Vec<Member>,
    ) -> Result<Self, CgroupError> {
        let mut above = Vec::new();
        // A slice is systemd's.
        if path.default_parent && cgroups.driver == Driver::Cgroupfs {
            for root in &cgroups.roots {
                above.extend(root.dir.open(".")?);
            }
        }
        let cgroup = Self::to_read(cgroups, path, members);
        Ok(Self { above, ..cgroup })
    }

    /// A cgroup that is only read.
    pub(super) fn to_read(cgroups: &Cgroups, path: CgroupPath, members: Vec<Member>) -> Self {
        Self {
            path,
            v2: cgroups.layout.is_v2(),
            members,
            above: Vec::new(),
        }
    }

    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// Descriptors for a process to join with: on v1 `tasks` in each hierarchy, on v2 the directory.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn join_fds(&self) -> Result<Vec<(FdRole, OwnedFd)>, CgroupError> {
        self.members
            .iter()
            .map(|member| {
                if self.v2 {
                    Ok((FdRole::CgroupDir, member.dir.duplicate()?))
                } else {
                    Ok((FdRole::CgroupTasks, member.dir.file("tasks", OFlags::WRONLY)?))
                }
            })
            .collect()
    }

    /// The file in which the kernel counts OOM kills: `memory.events` (v2) or `memory.oom_control` (v1). None without
    /// a memory controller.
    pub fn oom_events(&self) -> Option<OwnedFd> {
        let file = if self.v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        self.controller("memory")?.file(file, OFlags::RDONLY).ok()
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// The process is gone, or the kernel refuses.
    pub fn place(&self, pid: i32) -> Result<(), CgroupError> {
        for member in &self.members {
            member
                .dir
                .write("cgroup.procs", &pid.to_string())
                .map_err(|source| CgroupError::System {
                    call: "write",
                    path: member.dir.path().join("cgroup.procs"),
                    source,
                })?;
        }
        Ok(())
    }

    /// Makes the process in this cgroup a systemd scope with its limits. Does nothing with the cgroupfs driver.
    ///
    /// # Errors
    /// systemd refuses or does not answer.
    pub fn register(&self, pid: i32, limits: &Limits) -> Result<(), CgroupError> {
        let Some(scope) = self.scope() else {
            return Ok(());
        };
        let settings = settings::of_container(self.v2, limits)?;
        // systemd writes into the files what it knows of the limits, so all of them are written again, exactly.
        match systemd::start(scope, &settings, pid).and_then(|()| self.write_all(&settings)) {
            // A process that has ended since needs no scope.
            Err(_) if !self.pids()?.contains(&pid) => Ok(()),
            done => done,
        }
    }

    /// The cgroup as systemd's scope; none with the cgroupfs driver.
    fn scope(&self) -> Option<&CgroupPath> {
        Some(&self.path).filter(|path| path.scope.is_some())
    }

    /// Writes the limits and device rules of a new cgroup.
    pub(super) fn set_up(
        &self,
        settings: &[Setting],
        rules: &[LinuxDeviceCgroup],
    ) -> Result<(), CgroupError> {
        self.write_all(settings)?;
        devices::apply(self, rules)
    }

    /// Changes limits of a cgroup that has processes. What CRI does not give stays.
    ///
    /// # Errors
    /// A value that is wrong, that the kernel refuses, or memory below what is in use.
    pub fn update(&self, limits: &Limits) -> Result<(), CgroupError> {
        let mut settings = settings::of_container(self.v2, limits)?;
        if let Ok(limit @ 1..) = u64::try_from(limits.resources.memory_limit_in_bytes)
            && let Some(used) = self.memory_used()?.filter(|used| *used > limit)
        {
            return Err(CgroupError::BelowUse { limit, used });
        }
        self.order_memory(&mut settings)?;
        self.keep_quota(&mut settings)?;
        self.order_burst(&mut settings)?;
        // The kernel first, because it may refuse.
        self.write_all(&settings)?;
        let Some(scope) = self.scope() else {
            return Ok(());
        };
        systemd::set(scope, &settings)?;
        // systemd rounds.
        self.write_all(&settings)
    }

    /// Moves its processes to the CPUs of the pool.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn set_pool(&self, cpus: &CpuSet) -> Result<(), CgroupError> {
        self.write(&settings::of_cpus(cpus))
    }

    /// Writes limits again that another program has overwritten. systemd does that on `daemon-reload` and
    /// `daemon-reexec`: with files it has no property for (`memory.oom.group` becomes 0), and with quotas, which it
    /// keeps in whole percents.
    ///
    /// # Errors
    /// The kernel refuses what it took before.
    pub fn restore(&self, limits: &Limits) -> Result<(), CgroupError> {
        let mut settings = settings::of_container(self.v2, limits)?;
        settings.retain(|setting| self.has_changed(setting));
        self.order_burst(&mut settings)?;
        self.write_all(&settings)
    }

    /// The kernel may write the same value differently, for example a size that is not in whole pages: writing that again
    /// does no harm. Some files have a line for each device. A missing file has not changed.
    fn has_changed(&self, setting: &Setting) -> bool {
        let dir = self.controller(setting.controller);
        match dir.and_then(|dir| dir.read(&setting.file).ok().flatten()) {
            Some(text) => !text.lines().any(|line| line == setting.value),
            None => {
                let otherwise = setting.otherwise.as_deref();
                otherwise.is_some_and(|otherwise| self.has_changed(otherwise))
            }
        }
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// A file that cannot be read. A cgroup that was removed has no numbers.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        if self.v2 {
            stats::v2::read(self)
        } else {
            stats::v1::read(self)
        }
    }

    /// What the kernel has counted, with what takes further files. To be opened by [`Cgroups::open_all_counters`].
    ///
    /// # Errors
    /// As [`Self::stats`].
    pub fn detailed_stats(&self) -> Result<Stats, CgroupError> {
        let mut stats = self.stats()?;
        if self.v2 {
            stats::v2::detail(self, &mut stats)?;
        } else {
            stats::v1::detail(self, &mut stats)?;
        }
        Ok(stats)
    }

    /// How much time was lost waiting for CPU, memory and block devices. What the kernel does not report is missing:
    /// all of it on cgroup v1.
    pub fn pressures(&self) -> Pressures {
        stats::pressure::read(self)
    }

    /// The ids of its processes, those of sub-cgroups included.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        Ok(self.pids_within(usize::MAX)?.unwrap_or_default())
    }

    /// The ids of its processes; none if there are more than `most` sub-cgroups.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn pids_within(&self, most: usize) -> Result<Option<Vec<i32>>, CgroupError> {
        // On v1 a container may have moved itself about in one hierarchy; in all of them it is here or beneath.
        let member = self
            .controller("pids")
            .or_else(|| self.members.first().map(|member| &member.dir));
        match member {
            Some(dir) => dir.pids_within(most),
            None => Ok(Some(Vec::new())),
        }
    }

    /// Kills all its processes with SIGKILL, those that fork meanwhile too. Does not wait for their end.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let Some(dir) = self.directory_of_v2()
            && dir.write("cgroup.kill", "1").is_ok()
        {
            return Ok(());
        }
        // Frozen processes do not fork; SIGKILL is waiting when they thaw.
        let freezer = self.v1("freezer");
        let freeze = |state| freezer.map(|dir| dir.write("freezer.state", state));
        for _ in 0..KILL_ROUNDS {
            if self.pids()?.is_empty() {
                break;
            }
            let frozen = freeze("FROZEN").is_some_and(|done| done.is_ok());
            let pids = self.pids();
            for pid in pids.iter().flatten().filter_map(|pid| Pid::from_raw(*pid)) {
                // It may have ended already.
                kill_process(pid, Signal::KILL).unwrap_or_default();
            }
            // Whatever happened: frozen processes do not end.
            if frozen {
                freeze("THAWED");
            }
            pids?;
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends a cgroup of [`Cgroups::create_birth`]: what is left in it can make no more processes, is killed, and the cgroup
    /// is removed.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn end_birth(&self) -> Result<(), CgroupError> {
        if let Some(dir) = self.controller("pids") {
            // Refused once it is removed, as its pod may have been meanwhile.
            dir.write("pids.max", "0").ok();
        }
        self.kill_all()?;
        self.remove()
    }

    /// Removes it, sub-cgroups first, and then a default parent that is empty. Waits a moment for killed processes to
    /// end.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] while it has processes.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let stopped = self.scope().map_or(Ok(()), systemd::stop);
        for member in &self.members {
            self.remove_member(member)?;
        }
        if let Err(error) = stopped {
            tracing::warn!(
                scope = self.path.name,
                error = chain(&error),
                "systemd did not stop a scope; it ends by itself, because its directory is removed"
            );
        }
        // The deepest first.
        for dir in &self.above {
            let parents = &self.path.parents;
            for depth in (1..=parents.len()).rev() {
                dir.remove_if_empty(&parents[..depth].join("/"));
            }
        }
        Ok(())
    }

    /// Removes one whose creation failed, in which nothing runs.
    pub fn discard(&self) {
        if let Err(leftover) = self.remove() {
            tracing::warn!(
                cgroup = self.path.relative(),
                error = chain(&leftover),
                "cannot remove a cgroup whose creation failed; garbage collection will retry"
            );
        }
    }

    fn remove_member(&self, member: &Member) -> Result<(), CgroupError> {
        let Some(parent) = &member.parent else {
            return Ok(());
        };
        for pause in REMOVE_PAUSES {
            if parent.remove(&self.path.name)? {
                return Ok(());
            }
            sleep(Duration::from_millis(pause));
        }
        if parent.remove(&self.path.name)? {
            return Ok(());
        }
        let mut pids = member.dir.pids()?;
        pids.truncate(16);
        Err(CgroupError::Busy {
            path: member.dir.path().to_path_buf(),
            pids,
        })
    }

    fn write_all(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        let mut refused_period = None;
        for setting in settings {
            match self.write(setting) {
                Ok(()) => {}
                Err(CgroupError::Refused { .. }) if setting.file == PERIOD => refused_period = Some(setting),
                Err(error) => return Err(error),
            }
            // With the new quota the period must fit.
            if setting.file == QUOTA
                && let Some(period) = refused_period.take()
            {
                self.write(period)?;
            }
        }
        match refused_period {
            Some(period) => self.write(period),
            None => Ok(()),
        }
    }

    pub(super) fn write(&self, setting: &Setting) -> Result<(), CgroupError> {
        let dir = self.controller(setting.controller);
        if setting.field == POOL {
            return dir.map_or(Ok(()), |dir| move_to(dir, setting, self.v2));
        }
        let written = dir.map(|dir| dir.write(&setting.file, &setting.value));
        let (dir, source) = match (dir, written) {
            (Some(_), Some(Ok(()))) => return Ok(()),
            (Some(dir), Some(Err(error))) if error.kind() != io::ErrorKind::NotFound => (dir, error),
            _ => match setting.otherwise.as_deref() {
                Some(otherwise) => return self.write(otherwise),
                None => return missing_file(setting),
            },
        };
        // v1 says EBUSY when it cannot reclaim enough.
        if setting.field == MEMORY
            && source.raw_os_error() == Some(Errno::BUSY.raw_os_error())
            && let (Ok(limit), Some(used)) = (setting.value.parse(), self.memory_used()?)
        {
            return Err(CgroupError::BelowUse { limit, used });
        }
        Err(CgroupError::Refused {
            field: setting.field,
            value: setting.value.clone(),
            file: dir.path().join(&setting.file),
            source,
        })
    }

    /// Memory in use in bytes, without inactive page cache.
    fn memory_used(&self) -> Result<Option<u64>, CgroupError> {
        Ok(self.stats()?.memory.map(|memory| memory.working_set))
    }

    /// On v1, memory+swap comes before memory when it goes up.
    fn order_memory(&self, settings: &mut [Setting]) -> Result<(), CgroupError> {
        let place = |file: &str| settings.iter().position(|setting| setting.file == file);
        let (Some(memory), Some(both), Some(dir)) = (place(LIMIT), place(MEMSW), self.v1("memory")) else {
            return Ok(());
        };
        let Some(now) = dir.read(MEMSW)? else {
            return Ok(());
        };
        // No limit, -1, is the highest.
        let height = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        if height(&settings[both].value) > height(&now) {
            settings.swap(memory, both);
        }
        Ok(())
    }

    /// On v2, a period that was given alone comes with the quota there is.
    fn keep_quota(&self, settings: &mut [Setting]) -> Result<(), CgroupError> {
        let period = |setting: &&mut Setting| setting.file == MAX && setting.field == settings::PERIOD;
        let (Some(setting), Some(dir)) = (settings.iter_mut().find(period), self.directory_of_v2()) else {
            return Ok(());
        };
        if let Some(now) = dir.read(MAX)?
            && let Some((quota, _)) = now.split_once(' ')
            && let Some((_, period)) = setting.value.split_once(' ')
        {
            setting.value = format!("{quota} {period}");
        }
        Ok(())
    }

    /// A burst comes before the quota when it goes down, and after it otherwise.
    fn order_burst(&self, settings: &mut [Setting]) -> Result<(), CgroupError> {
        let is_burst = |setting: &Setting| [V1_BURST, V2_BURST].contains(&setting.file.as_str());
        let (Some(at), Some(dir)) = (settings.iter().position(is_burst), self.controller("cpu")) else {
            return Ok(());
        };
        let now = dir.read(&settings[at].file)?;
        let number = |text: &str| text.parse::<u64>().ok();
        let first = number(&settings[at].value) < now.as_deref().and_then(number);
        match first {
            true => settings[..=at].rotate_right(1),
            false => settings[at..].rotate_left(1),
        }
        Ok(())
    }

    /// The one directory of v2.
    pub(super) fn directory_of_v2(&self) -> Option<&Dir> {
        self.members.first().map(|member| &member.dir).filter(|_| self.v2)
    }

    /// The directory that has a controller's files.
    pub(super) fn controller(&self, name: &str) -> Option<&Dir> {
        self.directory_of_v2().or_else(|| self.v1(name))
    }

    /// The directory of a v1 controller.
    pub(super) fn v1(&self, name: &str) -> Option<&Dir> {
        self.members
            .iter()
            .find(|member| member.controllers.iter().any(|one| one == name))
            .map(|member| &member.dir)
    }
}

/// A limit without a file is an error, unless the container can do without it: kubelet sends limits for all page sizes
/// of the machine, most of them 0, whether or not there is a controller.
fn missing_file(setting: &Setting) -> Result<(), CgroupError> {
    if !setting.optional {
        return Err(CgroupError::NoFile {
            field: setting.field,
            file: setting.file.clone(),
        });
    }
    let (file, value) = (&setting.file, &setting.value);
    if setting.field == BURST && value != "0" {
        tracing::warn!(
            file,
            value,
            "the CPU burst of a runtime handler is not in force: the kernel does not have it (Linux 5.14 with CONFIG_CFS_BANDWIDTH)"
        );
    }
    if setting.controller == "hugetlb" && value != "0" {
        tracing::warn!(%file, %value, "a hugepage limit is not enforced: there is no hugetlb controller");
    }
    Ok(())
}
