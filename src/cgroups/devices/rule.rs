//! OCI's device rules, checked.

use std::iter;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::cgroups::error::CgroupError;

pub(super) const FIELD: &str = "linux.resources.devices";

/// Making a node, reading, writing: the kernel's numbers (`BPF_DEVCG_ACC_*`).
pub(super) const MAKE: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MAKE | READ | WRITE;

/// What holds where nothing else is said.
pub(super) const DENY_ALL: Rule = Rule {
    allow: false,
    kind: None,
    major: None,
    minor: None,
    access: ALL,
};

/// Block or character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Character,
}

/// A rule. A missing field matches everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    /// Some of [`ALL`].
    pub(super) access: u8,
}

impl Rule {
    /// Whether it is about one device.
    pub(super) fn is_exact(&self) -> bool {
        self.kind.is_some() && self.major.is_some() && self.minor.is_some()
    }

    /// Whether it is about all the devices that another one is about.
    pub(super) fn covers(&self, other: &Self) -> bool {
        (self.kind.is_none() || self.kind == other.kind)
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// Whether it is about every use of every device.
    pub(super) fn is_total(&self) -> bool {
        *self
            == Self {
                allow: self.allow,
                ..DENY_ALL
            }
    }
}

/// All rules, in order, beginning with one about everything.
pub(super) fn read(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, CgroupError> {
    let rules = rules.iter().filter_map(|rule| one(rule).transpose());
    let all: Vec<Rule> = iter::once(Ok(DENY_ALL)).chain(rules).collect::<Result<_, _>>()?;
    // Rules before that one have no effect.
    let first = all.iter().rposition(Rule::is_total).unwrap_or_default();
    Ok(all[first..].to_vec())
}

/// Whether nothing is denied: what a privileged container has.
pub(super) fn allow_everything(rules: &[Rule]) -> bool {
    rules.iter().all(|rule| rule.allow)
}

/// None for pipes, which are not devices.
fn one(rule: &LinuxDeviceCgroup) -> Result<Option<Rule>, CgroupError> {
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Kind::Block),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Character),
        LinuxDeviceType::P => return Ok(None),
    };
    Ok(Some(Rule {
        allow: rule.allow(),
        kind,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access: access(rule.access().as_deref().unwrap_or_default())?,
    }))
}

/// A negative number is any, as a missing one.
fn number(given: Option<i64>) -> Result<Option<u32>, CgroupError> {
    given
        .filter(|number| *number >= 0)
        .map(|number| {
            let reason = "a device's number is below 2^32, or -1 for any";
            u32::try_from(number).map_err(|_| CgroupError::invalid(FIELD, number, reason))
        })
        .transpose()
}

/// Nothing given is everything.
fn access(given: &str) -> Result<u8, CgroupError> {
    let bits = given.chars().map(|letter| match letter {
        'r' => Ok(READ),
        'w' => Ok(WRITE),
        'm' => Ok(MAKE),
        _ => Err(CgroupError::invalid(FIELD, given, "access is some of r, w and m")),
    });
    let all = iter::once(Ok(ALL)).filter(|_| given.is_empty());
    bits.chain(all).try_fold(0, |sum, bit| Ok(sum | bit?))
}

#[cfg(test)]
mod tests;
