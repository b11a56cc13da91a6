//! From CRI's resource fields to values for the files of a cgroup. Pure: nothing is read or written here.
//!
//! In CRI, 0 or empty means "not given". A value that is not given stays as it is, in a new cgroup as the kernel sets it.
//! Values that kubelet gives are taken as they are. On v2, `unified` comes last and wins; no file is there twice.
//!
//! References: `Documentation/admin-guide/cgroup-v1/`, `cgroup-v2.rst`, KEP-2254 (shares to weight).

mod shared;
mod v1;
mod v2;

use super::blockio::Rule;
use super::cpus::{CpuSet, Pool};
use super::error::CgroupError;
use crate::proto::v1 as cri;

/// The files of the CFS burst.
pub(crate) const V1_BURST: &str = "cpu.cfs_burst_us";
pub(crate) const V2_BURST: &str = "cpu.max.burst";

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Which controller has the file.
    pub(crate) controller: &'static str,
    pub(crate) file: String,
    pub(crate) value: String,
    /// The CRI field that asks for it.
    pub(crate) field: &'static str,
    /// Whether the container can do without, where the kernel does not have the file.
    pub(crate) optional: bool,
    /// What is written instead where the kernel does not have the file.
    pub(crate) otherwise: Option<Box<Self>>,
}

/// The settings of CRI's fields, in an order that is right for a new cgroup.
pub(crate) fn from_cri(
    v2: bool,
    resources: &cri::LinuxContainerResources,
) -> Result<Vec<Setting>, CgroupError> {
    if v2 {
        v2::settings(resources)
    } else {
        v1::settings(resources)
    }
}

/// As [`from_cri`], with what CRI has no field for.
pub(crate) fn of_container(v2: bool, limits: &Limits) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = from_cri(v2, &limits.resources)?;
    if let Some(burst) = limits.cpu_burst() {
        let file = if v2 { V2_BURST } else { V1_BURST };
        settings.push(Setting::new("cpu", file, burst, BURST).optional());
    }
    let mut more = of_block_io(v2, &limits.block_io);
    if let Some(pids) = limits.pids {
        more.push(Setting::new("pids", "pids.max", pids, PIDS));
    }
    let unified = &limits.resources.unified;
    let asked = |setting: &Setting| unified.contains_key(&setting.file);
    more.retain(|setting| !asked(setting) && !setting.otherwise.as_deref().is_some_and(asked));
    settings.append(&mut more);
    if let Some(Pool { cpus, mems }) = &limits.pool {
        settings.push(of_cpus(cpus));
        if !mems.is_empty() {
            settings.push(Setting::new("cpuset", "cpuset.mems", mems, POOL));
        }
    }
    Ok(settings)
}

/// The settings of a block I/O class.
pub(crate) fn of_block_io(v2: bool, rules: &[Rule]) -> Vec<Setting> {
    if v2 {
        v2::block_io(rules)
    } else {
        v1::block_io(rules)
    }
}

/// CPUs that pausa has chosen itself.
pub(crate) fn of_cpus(cpus: &CpuSet) -> Setting {
    Setting::new("cpuset", "cpuset.cpus", cpus, POOL)
}

/// The limits of a container.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    pub resources: cri::LinuxContainerResources,
    /// How many processes and threads it may have, unless `unified` says otherwise.
    pub pids: Option<u32>,
    /// How much of its CFS quota it may save up and use later, in percent, unless `unified` says otherwise.
    pub cpu_burst: Option<u32>,
    /// What it shares with others, if it is kept off CPUs of their own.
    pub pool: Option<Pool>,
    /// Of its block I/O class, unless `unified` has something to say about the same file.
    pub block_io: Vec<Rule>,
}

impl Limits {
    /// The burst in microseconds: 0 without a quota. None if the handler or the client leaves it alone.
    pub fn cpu_burst(&self) -> Option<u64> {
        let unified = &self.resources.unified;
        let percent = self.cpu_burst.filter(|_| !unified.contains_key(V2_BURST))?;
        let quota = match unified.get("cpu.max") {
            Some(max) => max.split(' ').next().and_then(|quota| quota.parse().ok()),
            None => u64::try_from(self.resources.cpu_quota).ok(),
        };
        let burst = u128::from(quota.unwrap_or_default()) * u128::from(percent) / 100;
        u64::try_from(burst).ok()
    }
}

/// The limits of a cgroup in which the processes of an exec are made, see [`super::Cgroups::create_birth`]: the process that
/// sets everything up, and its child that executes the command.
pub(crate) fn of_birth(v2: bool) -> Vec<Setting> {
    const FIELD: &str = "exec";
    let mut settings = vec![Setting::new("pids", "pids.max", 2, FIELD)];
    if v2 {
        // The most is a copy of the command's arguments and environment, 6 MiB at most.
        settings.push(Setting::new("memory", "memory.max", 16 << 20, FIELD).optional());
        settings.push(Setting::new("memory", "memory.swap.max", 0, FIELD).optional());
    }
    settings
}

impl Setting {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers and texts alike"
    )]
    fn new(controller: &'static str, file: &str, value: impl ToString, field: &'static str) -> Self {
        Self {
            controller,
            file: file.to_owned(),
            value: value.to_string(),
            field,
            optional: false,
            otherwise: None,
        }
    }

    fn or(mut self, otherwise: Self) -> Self {
        self.otherwise = Some(Box::new(otherwise));
        self
    }

    fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

pub(crate) const QUOTA: &str = "linux.resources.cpu_quota";
pub(crate) const PERIOD: &str = "linux.resources.cpu_period";
pub(crate) const SHARES: &str = "linux.resources.cpu_shares";
pub(crate) const CPUS: &str = "linux.resources.cpuset_cpus";
pub(crate) const MEMS: &str = "linux.resources.cpuset_mems";
pub(crate) const MEMORY: &str = "linux.resources.memory_limit_in_bytes";
pub(crate) const SWAP: &str = "linux.resources.memory_swap_limit_in_bytes";
pub(crate) const HUGEPAGES: &str = "linux.resources.hugepage_limits";
pub(crate) const PIDS: &str = "pids_limit of the runtime handler";
pub(crate) const IO_WEIGHT: &str =
    "a block I/O weight (CONFIG_BFQ_GROUP_IOSCHED, and bfq in /sys/block/DEVICE/queue/scheduler)";
pub(crate) const IO_THROTTLE: &str = "a block I/O throttle (CONFIG_BLK_DEV_THROTTLING)";
pub(crate) const BURST: &str = "cpu_burst of the runtime handler";
pub(crate) const POOL: &str = "the shared pool of CPUs";
pub(crate) const UNIFIED: &str = "linux.resources.unified";

#[cfg(test)]
mod tests;
