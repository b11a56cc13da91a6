//! CPU scheduling, I/O priority and memory policy of the calling thread.

use rustix::io::Errno;

use crate::syscall::check;

/// `IOPRIO_WHO_PROCESS` of linux/ioprio.h.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// The arguments of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of struct sched_attr")]
pub struct SchedulingAttributes {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h in its first form (`SCHED_ATTR_SIZE_VER0`).
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how the calling thread is scheduled.
///
/// # Errors
/// The errno of sched_setattr(2).
pub fn set_scheduling(attributes: &SchedulingAttributes) -> Result<(), Errno> {
    let SchedulingAttributes {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    } = *attributes;
    let size = u32::try_from(size_of::<SchedAttr>()).map_err(|_| Errno::TOOBIG)?;
    let attr = SchedAttr {
        size,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    };
    // SAFETY: `attr` is alive and as long as it says. 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// Sets the I/O priority of the calling thread: class and level as `IOPRIO_PRIO_VALUE` joins them.
///
/// # Errors
/// The errno of ioprio_set(2).
pub fn set_io_priority(priority: u16) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only. 0 is the calling thread.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0,
            libc::c_int::from(priority),
        )
    };
    check(result).map(drop)
}

/// Sets where memory of the calling thread is allocated. `nodes` is a bit mask of NUMA nodes.
///
/// # Errors
/// The errno of set_mempolicy(2).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    let mode = libc::c_int::try_from(mode).map_err(|_| Errno::INVAL)?;
    // The kernel takes one less than the number that it is given.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    // SAFETY: the mask is alive and has at least the bits that the kernel reads.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) }).map(drop)
}
