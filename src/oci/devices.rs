//! Devices: which nodes a container gets, and which the device cgroup lets it use.
//!
//! The standard six (and the pseudo terminals) always exist. CRI's host paths may be symlinks or directories;
//! [`super::prepare()`] resolves them to the numbers used here.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use pausa_monitor_protocol::{DeviceKind, DevicePlan};

use super::error::OciError;

/// A device node of the host that a container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// In the container.
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// What the device cgroup allows: some of `r`, `w`, `m`.
    pub access: String,
}

/// Name, major, minor of the nodes that every container has.
const STANDARD: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Also allowed: `/dev/console`, `/dev/ptmx`, the pseudo terminals.
const TERMINALS: [(u32, Option<u32>); 3] = [(5, Some(1)), (5, Some(2)), (136, None)];

/// The additional nodes for the runtime spec.
pub(crate) fn to_oci(devices: &[Device]) -> Vec<LinuxDevice> {
    devices
        .iter()
        .map(|device| {
            let mut oci = LinuxDevice::default();
            oci.set_path(device.path.clone())
                .set_typ(typ(device.kind))
                .set_major(device.major.into())
                .set_minor(device.minor.into())
                .set_file_mode(Some(device.mode))
                .set_uid(Some(device.uid))
                .set_gid(Some(device.gid));
            oci
        })
        .collect()
}

/// The rules of the device cgroup, in order: everything for a privileged container, else only what is listed.
pub(crate) fn rules(devices: &[Device], privileged: bool) -> Vec<LinuxDeviceCgroup> {
    if privileged {
        return vec![rule(true, LinuxDeviceType::A, None, None, "rwm")];
    }
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm"),
        // Creating a node is harmless as long as it cannot be opened.
        rule(true, LinuxDeviceType::C, None, None, "m"),
        rule(true, LinuxDeviceType::B, None, None, "m"),
    ];
    let standard = STANDARD.iter().map(|(_, major, minor)| (*major, Some(*minor)));
    for (major, minor) in standard.chain(TERMINALS) {
        rules.push(rule(true, LinuxDeviceType::C, Some(major), minor, "rwm"));
    }
    for device in devices {
        let access = &device.access;
        rules.push(rule(
            true,
            typ(device.kind),
            Some(device.major),
            Some(device.minor),
            access,
        ));
    }
    rules
}

/// The nodes to create: the standard ones, then those of the spec, which win.
pub(crate) fn plan(devices: Option<&[LinuxDevice]>) -> Result<Vec<DevicePlan>, OciError> {
    let mut plan: Vec<DevicePlan> = STANDARD
        .iter()
        .map(|(path, major, minor)| DevicePlan {
            path: path.as_bytes().to_vec(),
            kind: DeviceKind::Character,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for device in devices.unwrap_or_default() {
        let path = super::mounts::path_bytes(device.path());
        let reason = "a device has type c, u, b or p and numbers from 0 to 2^32-1";
        let bad = || OciError::spec("linux.devices", device.path().display(), reason);
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => return Err(bad()),
        };
        let node = DevicePlan {
            kind,
            major: u32::try_from(device.major()).map_err(|_| bad())?,
            minor: u32::try_from(device.minor()).map_err(|_| bad())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            path,
        };
        plan.retain(|known| known.path != node.path);
        plan.push(node);
    }
    Ok(plan)
}

fn typ(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Character => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
        DeviceKind::Fifo => LinuxDeviceType::P,
    }
}

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<u32>,
    minor: Option<u32>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(typ))
        .set_major(major.map(i64::from))
        .set_minor(minor.map(i64::from))
        .set_access(Some(access.to_owned()));
    rule
}
