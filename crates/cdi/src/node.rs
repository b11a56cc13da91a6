//! Device nodes as spec files have them, and what the host adds.
//!
//! A spec file may leave a node's type, numbers and mode to the host. They are looked up for each container, because numbers
//! change when a driver is loaded again. A node that the file describes completely need not exist on the host.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{FileType, lstat, major, minor};

use crate::edits::Device;
use crate::error::CdiError;

/// `deviceNodes` of a spec file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeviceNode {
    pub(crate) path: String,
    /// The same as `path` if there is none.
    pub(crate) host_path: Option<String>,
    /// None leaves it to the host.
    pub(crate) kind: Option<LinuxDeviceType>,
    /// 0 leaves both numbers to the host.
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// None leaves it to the host.
    pub(crate) file_mode: Option<u32>,
    /// Some of `rwm`, or None for no access.
    pub(crate) access: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

impl DeviceNode {
    /// Completes it with what the host's node has.
    ///
    /// # Errors
    /// That is missing, no device node, or of another type.
    pub(crate) fn device(&self) -> Result<Device, CdiError> {
        let host = Path::new(self.host_path.as_ref().unwrap_or(&self.path));
        let declared = self
            .kind
            .filter(|kind| self.major != 0 || *kind == LinuxDeviceType::P);
        let found = look_up(host);
        let mode = found.as_ref().ok().map(|found| found.mode);
        let (kind, numbers) = match (declared, found) {
            (Some(kind), _) => (kind, (self.major, self.minor)),
            (None, Err(error)) => return Err(error),
            (None, Ok(found)) => {
                let kind = self.kind.unwrap_or(found.kind);
                if kind != found.kind {
                    return Err(CdiError::NodeType {
                        path: host.to_owned(),
                        expected: letter(kind),
                        found: letter(found.kind),
                    });
                }
                match kind == LinuxDeviceType::P || self.major != 0 {
                    true => (kind, (self.major, self.minor)),
                    false => (kind, found.numbers),
                }
            }
        };
        let mut device = LinuxDevice::default();
        device
            .set_path((&self.path).into())
            .set_typ(kind)
            .set_major(numbers.0.into())
            .set_minor(numbers.1.into())
            .set_file_mode(self.file_mode.or(mode))
            .set_uid(self.uid)
            .set_gid(self.gid);
        let access = self.access.clone();
        Ok(Device { device, access })
    }
}

/// A node of the host.
struct Found {
    kind: LinuxDeviceType,
    numbers: (u32, u32),
    /// Without the type.
    mode: u32,
}

/// A symbolic link is not followed, as in the reference implementation.
fn look_up(path: &Path) -> Result<Found, CdiError> {
    let stat = lstat(path).map_err(|errno| CdiError::Node {
        path: path.to_owned(),
        source: errno.into(),
    })?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => LinuxDeviceType::B,
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::Fifo => LinuxDeviceType::P,
        _ => {
            return Err(CdiError::NotANode {
                path: path.to_owned(),
            });
        }
    };
    Ok(Found {
        kind,
        numbers: (major(stat.st_rdev), minor(stat.st_rdev)),
        mode: stat.st_mode & 0o7777,
    })
}

const fn letter(kind: LinuxDeviceType) -> &'static str {
    match kind {
        LinuxDeviceType::A => "a",
        LinuxDeviceType::B => "b",
        LinuxDeviceType::C => "c",
        LinuxDeviceType::U => "u",
        LinuxDeviceType::P => "p",
    }
}

#[cfg(test)]
mod tests;
