//! Resource limits and oom_score_adj, clamped to what this host allows.

use pausa_monitor_protocol::Rlimit;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit as Limits, getrlimit, setrlimit};

use crate::error::{At, Error, Step};

/// Resources by their number in the kernel's generic headers.
const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// Sets one limit. A hard limit that may not be raised (no CAP_SYS_RESOURCE) stays as it is.
pub(super) fn set(limit: &Rlimit) -> Result<(), Error> {
    let resource = usize::try_from(limit.resource)
        .ok()
        .and_then(|index| RESOURCES.get(index).copied());
    let resource = resource.ok_or(Error::UnknownLimit(limit.resource))?;
    let result = match setrlimit(resource, limits(limit.soft, limit.hard)) {
        Err(Errno::PERM) => {
            let highest = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            setrlimit(resource, limits(limit.soft.min(highest), limit.hard.min(highest)))
        }
        other => other,
    };
    let Rlimit { resource, soft, hard } = *limit;
    result.at(Step::ResourceLimit { resource, soft, hard })
}

/// The kernel's RLIM_INFINITY is all ones.
fn limits(soft: u64, hard: u64) -> Limits {
    let finite = |value: u64| (value != u64::MAX).then_some(value);
    Limits {
        current: finite(soft),
        maximum: finite(hard),
    }
}

/// Sets oom_score_adj. If it may not be lowered that far, it becomes 0 or stays as inherited.
pub(super) fn set_oom_score(score: i32) -> Result<(), Error> {
    let file = open(
        "/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .at(Step::OomScore(score))?;
    match rustix::io::write(&file, score.to_string().as_bytes()) {
        Err(Errno::ACCESS | Errno::PERM) => {
            if score < 0 {
                // Also refused if the inherited value is below 0, which then stays.
                let _ = rustix::io::write(&file, b"0");
            }
            Ok(())
        }
        other => other.map(drop).at(Step::OomScore(score)),
    }
}
