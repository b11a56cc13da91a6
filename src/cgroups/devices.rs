//! Device rules on cgroup v1: lines for `devices.deny` and `devices.allow`.
//!
//! On v2 the kernel has no such files: rules are a BPF program attached to the cgroup, which is not there yet. Until
//! then a v2 container can open any device node it has or may make (CAP_MKNOD); the daemon says so once.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use rustix::fs::OFlags;

use super::dir::Dir;
use super::error::CgroupError;

const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

/// Writes the rules, in order. Each file is opened once: the kernel takes one rule a write.
pub(super) fn apply(dir: &Dir, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    if rules.is_empty() {
        return Ok(());
    }
    let allow = dir.file(ALLOW, OFlags::WRONLY)?;
    let deny = dir.file(DENY, OFlags::WRONLY)?;
    for rule in rules {
        let (file, line) = line(rule);
        let fd = if file == ALLOW { &allow } else { &deny };
        rustix::io::write(fd, line.as_bytes()).map_err(|errno| CgroupError::Refused {
            field: "devices",
            value: line,
            file: dir.path().join(file),
            source: errno.into(),
        })?;
    }
    Ok(())
}

/// The file and the line for one rule. A rule for all types is for everything: the kernel wants just `a`.
pub(super) fn line(rule: &LinuxDeviceCgroup) -> (&'static str, String) {
    let file = if rule.allow() {
        "devices.allow"
    } else {
        "devices.deny"
    };
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => return (file, "a".to_owned()),
        LinuxDeviceType::B => 'b',
        LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::P => 'c',
    };
    let number = |value: Option<i64>| match value {
        Some(value) if value >= 0 => value.to_string(),
        _ => "*".to_owned(),
    };
    let access = rule
        .access()
        .as_deref()
        .filter(|access| !access.is_empty())
        .unwrap_or("rwm");
    let line = format!(
        "{kind} {}:{} {access}",
        number(rule.major()),
        number(rule.minor())
    );
    (file, line)
}

#[cfg(test)]
mod tests;
