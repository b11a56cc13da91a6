//! The quality of service class of a pod, as Kubernetes defines it.
//!
//! CRI has no field for it. kubelet puts the pods of each class below a cgroup of their own, which says it best. Pods of other
//! clients are classified by their containers, by Kubernetes' rule as far as CRI carries it: a request for memory, which has
//! no field either, shows in the OOM score that kubelet derives from it.
//!
//! Sources: "Pod Quality of Service Classes" in Kubernetes' documentation; kubelet's `pkg/kubelet/qos/policy.go` for OOM
//! scores and `pkg/kubelet/cm` for the names of cgroups.

use serde::Serialize;

use crate::proto::v1::LinuxContainerResources;

/// What kubelet gives containers of Guaranteed pods.
const GUARANTEED_SCORE: i64 = -997;
/// What kubelet gives containers of BestEffort pods.
const BEST_EFFORT_SCORE: i64 = 1000;
/// The kernel's default period of CFS quotas in microseconds, which is also kubelet's.
const DEFAULT_PERIOD: i64 = 100_000;
/// `cpu_shares` of one CPU.
const SHARES_PER_CPU: i64 = 1024;
/// The fewest shares the kernel has: kubelet sends it for containers that request no CPU.
const MIN_SHARES: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum QosClass {
    /// Every container has equal requests and limits of CPU and memory.
    Guaranteed,
    Burstable,
    /// No container has a request or limit.
    BestEffort,
}

impl QosClass {
    /// The class of a pod: by its cgroup parent if that is one of kubelet's, else by its containers, init containers
    /// included.
    pub fn of_pod<'a>(
        cgroup_parent: &str,
        containers: impl IntoIterator<Item = &'a LinuxContainerResources>,
    ) -> Self {
        Self::of_parent(cgroup_parent).unwrap_or_else(|| {
            let mut classes = containers.into_iter().map(Self::of_container);
            let Some(first) = classes.next() else {
                return Self::BestEffort;
            };
            classes.fold(first, |all, one| if all == one { all } else { Self::Burstable })
        })
    }

    /// `/kubepods/burstable/pod<uid>` or `kubepods-burstable-pod<uid>.slice`, with or without a root above; Guaranteed pods
    /// have no level of their own.
    fn of_parent(cgroup_parent: &str) -> Option<Self> {
        let path = cgroup_parent.trim_end_matches('/');
        let mut levels = match path.strip_suffix(".slice") {
            Some(slice) => slice.rsplit('/').next()?.rsplit('-'),
            None => path.rsplit('/'),
        };
        if !levels.next()?.starts_with("pod") {
            return None;
        }
        match levels.next()? {
            "kubepods" => Some(Self::Guaranteed),
            "burstable" => Some(Self::Burstable),
            "besteffort" => Some(Self::BestEffort),
            _ => None,
        }
    }

    /// The class of a pod with this container alone.
    fn of_container(resources: &LinuxContainerResources) -> Self {
        let (cpu, memory) = (limit_in_shares(resources), resources.memory_limit_in_bytes > 0);
        match resources.oom_score_adj {
            GUARANTEED_SCORE => Self::Guaranteed,
            BEST_EFFORT_SCORE => Self::BestEffort,
            _ if memory && cpu.is_some_and(|limit| limit == resources.cpu_shares) => Self::Guaranteed,
            _ if memory || cpu.is_some() || resources.cpu_shares > MIN_SHARES => Self::Burstable,
            _ => Self::BestEffort,
        }
    }
}

/// The CPU limit as the shares of an equal request; none without a limit.
fn limit_in_shares(resources: &LinuxContainerResources) -> Option<i64> {
    let quota = Some(resources.cpu_quota).filter(|quota| *quota > 0)?;
    // As kubelet rounds: a request in whole thousandths of a CPU.
    let milli = quota.checked_mul(1000)? / period(resources);
    Some((milli * SHARES_PER_CPU / 1000).max(MIN_SHARES))
}

fn period(resources: &LinuxContainerResources) -> i64 {
    match resources.cpu_period {
        0 => DEFAULT_PERIOD,
        given => given.max(1),
    }
}

/// The number of CPUs that a container of a Guaranteed pod asks for, if it is a whole one: its limit, or without one (kubelet
/// sends none with `cpuCFSQuota: false`) its request.
pub fn whole_cpus(resources: &LinuxContainerResources) -> Option<usize> {
    let (amount, unit) = match resources.cpu_quota {
        quota if quota > 0 => (quota, period(resources)),
        _ => (resources.cpu_shares, SHARES_PER_CPU),
    };
    let whole = amount > 0 && amount % unit == 0;
    usize::try_from(amount / unit).ok().filter(|_| whole)
}

#[cfg(test)]
mod tests;
