use std::os::fd::OwnedFd;

use pausa_monitor_protocol::{FailureKind, FdRole};

use super::PlanFds;

fn fds(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| tempfile::tempfile().unwrap().into()).collect()
}

#[test]
fn descriptors_are_sorted_by_role() {
    let roles = [
        FdRole::Mount(1),
        FdRole::Log,
        FdRole::Mount(0),
        FdRole::CgroupTasks,
        FdRole::CgroupTasks,
    ];
    let sorted = PlanFds::new(&roles, fds(5)).unwrap();
    assert_eq!(sorted.as_container_fds().mounts.len(), 2);
    assert_eq!(sorted.as_container_fds().cgroup_tasks.len(), 2);
    assert!(sorted.log.is_some() && sorted.root.is_none());
}

#[test]
fn descriptors_that_do_not_fit_the_plan_are_refused() {
    for (roles, count) in [
        (vec![FdRole::Log], 0),
        (vec![FdRole::Log, FdRole::Log], 2),
        (vec![FdRole::Mount(1)], 1),
        (vec![FdRole::Mount(0), FdRole::Mount(0)], 2),
    ] {
        let failure = PlanFds::new(&roles, fds(count)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Protocol, "{roles:?}");
    }
}
