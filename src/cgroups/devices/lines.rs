//! Device rules on cgroup v1: lines for `devices.deny` and `devices.allow`.

use rustix::fs::OFlags;

use super::rule::{FIELD, Kind, MAKE, READ, Rule, WRITE};
use crate::cgroups::dir::Dir;
use crate::cgroups::error::CgroupError;

const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

/// Writes the rules, in order. Each file is opened once: the kernel takes one rule per write.
pub(super) fn apply(dir: &Dir, rules: &[Rule]) -> Result<(), CgroupError> {
    let allow = dir.file(ALLOW, OFlags::WRONLY)?;
    let deny = dir.file(DENY, OFlags::WRONLY)?;
    for rule in rules {
        let (file, fd) = if rule.allow {
            (ALLOW, &allow)
        } else {
            (DENY, &deny)
        };
        for line in lines(rule) {
            rustix::io::write(fd, line.as_bytes()).map_err(|errno| CgroupError::Refused {
                field: FIELD,
                value: line,
                file: dir.path().join(file),
                source: errno.into(),
            })?;
        }
    }
    Ok(())
}

/// The lines for one rule. The kernel takes `a` for everything and ignores the rest of the line, so a narrower rule about
/// both kinds of devices becomes two lines.
fn lines(rule: &Rule) -> Vec<String> {
    if rule.is_total() {
        return vec!["a".to_owned()];
    }
    let kinds = match rule.kind {
        None => "bc",
        Some(Kind::Block) => "b",
        Some(Kind::Character) => "c",
    };
    let number = |value: Option<u32>| value.map_or_else(|| "*".to_owned(), |value| value.to_string());
    let access: String = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')]
        .iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    let line = |kind| format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor));
    kinds.chars().map(line).collect()
}

#[cfg(test)]
mod tests;
