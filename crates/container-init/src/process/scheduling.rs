//! CPU scheduling, I/O priority and memory policy of the command. All of them are inherited by later children.

use pausa_monitor_protocol::Scheduling;

use crate::error::{At, Error, Step};

pub(super) fn apply(plan: &Scheduling) -> Result<(), Error> {
    if let Some(scheduler) = plan.scheduler {
        let attributes = pausa_sys::SchedulingAttributes {
            policy: scheduler.policy,
            flags: scheduler.flags,
            nice: scheduler.nice,
            priority: scheduler.priority,
            runtime: scheduler.runtime,
            deadline: scheduler.deadline,
            period: scheduler.period,
        };
        pausa_sys::set_scheduling(&attributes).at(Step::Scheduler(scheduler.policy))?;
    }
    if let Some(priority) = plan.io_priority {
        pausa_sys::set_io_priority(priority).at(Step::IoPriority(priority))?;
    }
    if let Some(policy) = &plan.memory {
        pausa_sys::set_memory_policy(policy.mode, &policy.nodes).at(Step::MemoryPolicy(policy.mode))?;
    }
    Ok(())
}
