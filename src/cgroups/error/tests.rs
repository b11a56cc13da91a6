use rustix::io::Errno;

use super::*;

/// The kernel says EINVAL of a value that cannot be; the other errnos are about the state of the node.
#[test]
fn a_refused_value_is_the_requests_fault_only_where_the_value_is_wrong() {
    for (errno, kind) in [
        (Errno::INVAL, ErrorKind::InvalidArgument),
        (Errno::RANGE, ErrorKind::InvalidArgument),
        (Errno::BUSY, ErrorKind::FailedPrecondition),
        (Errno::ACCESS, ErrorKind::FailedPrecondition),
        (Errno::PERM, ErrorKind::FailedPrecondition),
        (Errno::NOSPC, ErrorKind::ResourceExhausted),
        (Errno::NOMEM, ErrorKind::ResourceExhausted),
        (Errno::IO, ErrorKind::Internal),
    ] {
        let error = CgroupError::Refused {
            field: "linux.resources.cpuset_cpus",
            value: "7".to_owned(),
            file: "/sys/fs/cgroup/c/cpuset.cpus".into(),
            source: errno.into(),
        };
        assert_eq!(error.kind(), kind, "{errno:?}");
    }
}
