//! One container's cgroup: a directory in each hierarchy.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use pausa_monitor_protocol::FdRole;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::dir::Dir;
use super::error::CgroupError;
use super::path::CgroupPath;
use super::stats::{Pressures, Stats};
use super::{Cgroups, Driver, Limits, apply, stats, systemd};
use crate::error::chain;
use crate::proto::v1;

/// How long a killed process may take to leave: doubling from 1 ms, half a second altogether.
const PATIENCE: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// How often everybody is killed again, because somebody forked meanwhile.
const KILL_ROUNDS: usize = 16;

/// A cgroup and handles on its directories.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) path: CgroupPath,
    driver: Driver,
    v2: bool,
    members: Vec<Member>,
    /// The directory above a default parent, one a hierarchy.
    above: Vec<Dir>,
}

/// The cgroup in one hierarchy.
#[derive(Debug)]
pub(super) struct Member {
    /// Empty on v2: all there are.
    pub(super) controllers: Vec<String>,
    /// Where it is removed from; none if it was opened to be read only.
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

    /// One that is neither made nor removed.
    pub(super) fn to_read(cgroups: &Cgroups, path: CgroupPath, members: Vec<Member>) -> Self {
        Self {
            path,
            driver: cgroups.driver,
            v2: cgroups.layout.is_v2(),
            members,
            above: Vec::new(),
        }
    }

    /// Whether it is on cgroup v2.
    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// What a process has to be given to join: on v1 one `tasks` a hierarchy, on v2 the directory.
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

    /// Where the kernel counts OOM kills: `memory.events` (v2) or `memory.oom_control` (v1). None without a
    /// memory controller.
    pub fn oom_events(&self) -> Option<OwnedFd> {
        let file = if self.v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        self.controller("memory")?.file(file, OFlags::RDONLY).ok()
    }

    /// Moves a process here.
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

    /// Tells systemd, if it is the driver, that the process in this cgroup is a scope, and its limits. Under cgroupfs
    /// nothing is done.
    ///
    /// # Errors
    /// systemd refuses or does not answer.
    pub fn register(&self, pid: i32, limits: &Limits<'_>) -> Result<(), CgroupError> {
        match self.driver {
            Driver::Cgroupfs => Ok(()),
            Driver::Systemd => match apply::register(self, limits, pid) {
                // A process that has ended since needs no scope.
                Err(_) if !self.pids()?.contains(&pid) => Ok(()),
                done => done,
            },
        }
    }

    /// What systemd has to be told of this cgroup; none under cgroupfs.
    pub(super) fn scope(&self) -> Option<&CgroupPath> {
        Some(&self.path).filter(|_| self.driver == Driver::Systemd)
    }

    /// Changes limits. What CRI does not give stays.
    ///
    /// # Errors
    /// A value that is wrong, that the kernel refuses, or memory below what is in use.
    pub fn update(&self, resources: &v1::LinuxContainerResources) -> Result<(), CgroupError> {
        apply::update(self, resources)
    }

    /// Writes limits again that somebody else has written over. systemd does that on `daemon-reload` and
    /// `daemon-reexec`: with files it has no property for (`memory.oom.group` becomes 0), and with quotas, which it
    /// keeps in whole percents.
    ///
    /// # Errors
    /// The kernel refuses what it took before.
    pub fn restore(&self, resources: &v1::LinuxContainerResources) -> Result<(), CgroupError> {
        apply::restore(self, resources)
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// A file that cannot be read. A cgroup that is gone has no numbers.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        stats::read(self)
    }

    /// How much time was lost waiting for CPU, memory and block devices. What the kernel does not tell is missing: all
    /// of it on cgroup v1.
    pub fn pressures(&self) -> Pressures {
        stats::read_pressures(self)
    }

    /// Everybody in it, sub-cgroups included.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        // On v1 a container may have moved itself about in one hierarchy; in all of them it is here or beneath.
        let member = self
            .controller("pids")
            .or_else(|| self.members.first().map(|member| &member.dir));
        match member {
            Some(dir) => dir.pids(),
            None => Ok(Vec::new()),
        }
    }

    /// Kills everybody in it with SIGKILL, those that fork meanwhile too. Does not wait until they are gone.
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
                // Gone already is fine.
                kill_process(pid, Signal::KILL).unwrap_or_default();
            }
            // Whatever happened: frozen they would stay for ever.
            if frozen {
                freeze("THAWED");
            }
            pids?;
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Removes it, sub-cgroups first, and a default parent that is empty then. Waits a moment for processes that
    /// are on their way out.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] while somebody is in it.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let stopped = self.scope().map_or(Ok(()), systemd::stop);
        for member in &self.members {
            self.remove_member(member)?;
        }
        if let Err(error) = stopped {
            // Without its directory it ends by itself.
            tracing::warn!(
                error = chain(&error),
                "systemd did not stop a scope that is gone now"
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

    fn remove_member(&self, member: &Member) -> Result<(), CgroupError> {
        let Some(parent) = &member.parent else {
            return Ok(());
        };
        for patience in PATIENCE {
            if parent.remove(&self.path.name)? {
                return Ok(());
            }
            sleep(Duration::from_millis(patience));
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
