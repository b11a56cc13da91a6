//! Capabilities: the default set, what CRI adds and drops, and bit masks.
//!
//! A set is a mask with bit n for capability number n (`linux/capability.h`), as the kernel takes it. Names are used in
//! CRI and in the spec only. Reference: capabilities(7).

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use pausa_monitor_protocol::CapabilitySets;

use super::error::OciError;
use crate::proto::v1;

/// Names without `CAP_`; the index is the number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The default set, which images have been written against for a decade.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const FIELD: &str = "linux.security_context.capabilities";

/// The capabilities of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) bounding: u64,
    pub(crate) ambient: u64,
}

/// The capabilities CRI asks for, on a host whose bounding set is `host`.
///
/// `ALL` is taken first, dropping after adding; then single names are added, then dropped. A name that is dropped is not
/// ambient either.
pub(crate) fn granted(
    asked: Option<&v1::Capability>,
    privileged: bool,
    host: u64,
) -> Result<Granted, OciError> {
    let default = DEFAULT
        .iter()
        .filter_map(|name| number(name))
        .fold(0, |mask, n| mask | 1 << n);
    let mut granted = Granted {
        bounding: default,
        ambient: 0,
    };
    if let Some(asked) = asked {
        let (add_all, add) = parse("add_capabilities", &asked.add_capabilities)?;
        let (drop_all, drop) = parse("drop_capabilities", &asked.drop_capabilities)?;
        let (ambient_all, ambient) = parse("add_ambient_capabilities", &asked.add_ambient_capabilities)?;
        if add_all {
            granted.bounding = host;
        }
        if drop_all {
            granted.bounding = 0;
        }
        granted.bounding = (granted.bounding | add) & !drop;
        // A capability that is dropped by its name stays dropped.
        granted.ambient = if ambient_all { host } else { ambient } & !drop;
        granted.bounding |= granted.ambient;
    }
    if privileged {
        granted.bounding = host;
    }
    Ok(granted)
}

/// The five sets of a process with these capabilities. A process that is not root begins with its ambient
/// set only; the bounding set still limits what set-uid programs can reach.
pub(crate) fn sets(granted: Granted, root: bool) -> CapabilitySets {
    let initial = if root { granted.bounding } else { granted.ambient };
    CapabilitySets {
        bounding: granted.bounding,
        effective: initial,
        permitted: initial,
        inheritable: granted.ambient,
        ambient: granted.ambient,
    }
}

/// The sets for the runtime spec.
pub(crate) fn to_oci(sets: &CapabilitySets) -> LinuxCapabilities {
    let mut oci = LinuxCapabilities::default();
    oci.set_bounding(Some(names(sets.bounding)))
        .set_effective(Some(names(sets.effective)))
        .set_permitted(Some(names(sets.permitted)))
        .set_inheritable(Some(names(sets.inheritable)))
        .set_ambient(Some(names(sets.ambient)));
    oci
}

/// The sets of a runtime spec.
pub(crate) fn from_oci(oci: Option<&LinuxCapabilities>) -> CapabilitySets {
    let Some(oci) = oci else {
        return CapabilitySets::default();
    };
    CapabilitySets {
        bounding: mask(oci.bounding().as_ref()),
        effective: mask(oci.effective().as_ref()),
        permitted: mask(oci.permitted().as_ref()),
        inheritable: mask(oci.inheritable().as_ref()),
        ambient: mask(oci.ambient().as_ref()),
    }
}

/// The names in a mask. Numbers newer than this program have no name in the spec and are left out.
pub(crate) fn names(mask: u64) -> Capabilities {
    NAMES
        .iter()
        .enumerate()
        .filter(|(n, _)| mask & (1 << n) != 0)
        .filter_map(|(_, name)| name.parse::<Capability>().ok())
        .collect()
}

fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|capability| number(&capability.to_string()))
        .fold(0, |mask, n| mask | 1 << n)
}

fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// Whether `ALL` is in the list, and a mask of the other names.
fn parse(list: &str, given: &[String]) -> Result<(bool, u64), OciError> {
    let mut all = false;
    let mut mask = 0;
    for name in given {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            all = true;
        } else if let Some(n) = number(bare) {
            mask |= 1 << n;
        } else {
            let reason = "no such capability; see capabilities(7)";
            return Err(OciError::invalid(format!("{FIELD}.{list}"), name, reason));
        }
    }
    Ok((all, mask))
}

#[cfg(test)]
mod tests;
