//! The devices a container may use.
//!
//! ```text
//!   OCI rules ─▶ Rule (checked) ─┬─ v1: lines for `devices.deny` and `devices.allow`
//!                                └─ v2: program (pure) ─▶ attach (bpf(2))
//! ```
//!
//! Read, write and mknod are decided separately, each by the last rule that matches. What no rule matches is denied; an
//! empty list of rules changes nothing.
//!
//! Must never: let a container do more than its rules allow. A rule that cannot be enforced is an error.

mod attach;
mod lines;
mod program;
mod rule;

use oci_spec::runtime::LinuxDeviceCgroup;

use super::error::CgroupError;
use super::group::Cgroup;

pub(super) use self::attach::probe;

/// Enforces the rules instead of the previous ones.
pub(super) fn apply(cgroup: &Cgroup, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    if rules.is_empty() {
        return Ok(());
    }
    let rules = rule::read(rules)?;
    match (cgroup.directory_of_v2(), cgroup.v1("devices")) {
        (Some(dir), _) => attach::apply(dir, &rules),
        (None, Some(dir)) => lines::apply(dir, &rules),
        (None, None) if rule::allow_everything(&rules) => Ok(()),
        (None, None) => Err(CgroupError::HostLacks {
            field: rule::FIELD.to_owned(),
            reason: "this node has cgroup v1 without a devices controller: mount it, use cgroup v2, or make the \
                     container privileged",
        }),
    }
}
