//! Device nodes of the host.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use pausa_monitor_protocol::DeviceKind;
use rustix::fs::{major, minor};

use crate::oci::devices::Device;
use crate::oci::error::{Field, OciError};
use crate::oci::mounts::clean;
use crate::oci::security_context;
use crate::proto::v1;

/// Directories of `/dev` that are separate file systems or links into `/proc`; a container has its own.
const NOT_WALKED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// How deep a directory of devices is searched.
const MAX_DEPTH: usize = 16;

/// The devices in CRI's configuration; all devices of the host for a privileged container. With `own`, the former belong to
/// the user and group that CRI gives the container.
pub(super) fn devices(
    config: &v1::ContainerConfig,
    privileged: bool,
    own: bool,
) -> Result<Vec<Device>, OciError> {
    let mut found = Vec::new();
    for (index, device) in config.devices.iter().enumerate() {
        named(index, device, &mut found)?;
    }
    if let Some(security) = security_context(config).filter(|_| own) {
        // What is no id is refused together with the user.
        let id = |given: &Option<v1::Int64Value>| u32::try_from(given.as_ref()?.value).ok();
        for device in &mut found {
            device.uid = id(&security.run_as_user).unwrap_or(device.uid);
            device.gid = id(&security.run_as_group).unwrap_or(device.gid);
        }
    }
    if privileged {
        let dev = Path::new("/dev");
        let mut all = Vec::new();
        walk(dev, dev, "rwm", MAX_DEPTH, &mut all)
            .map_err(host_path("linux.security_context.privileged", dev))?;
        all.retain(|device| !found.iter().any(|named| named.path == device.path));
        found.extend(all);
    }
    Ok(found)
}

fn named(index: usize, device: &v1::Device, found: &mut Vec<Device>) -> Result<(), OciError> {
    let field = |name: &str| format!("devices[{index}].{name}");
    let access = match device.permissions.as_str() {
        "" => "rwm",
        given if given.len() <= 3 && given.chars().all(|c| "rwm".contains(c)) => given,
        given => {
            let reason = "it may hold r, w and m";
            return Err(OciError::invalid(field("permissions"), given, reason));
        }
    };
    let host = Path::new(&device.host_path);
    let target = match device.container_path.as_str() {
        "" => device.host_path.as_str(),
        given => given,
    };
    let target = clean(target)
        .filter(|path| path != Path::new("/") && !target.contains('\0'))
        .ok_or_else(|| {
            let reason = "it must be an absolute path other than /";
            OciError::invalid(field("container_path"), target, reason)
        })?;
    let failed = host_path(field("host_path"), host);
    let real = match fs::canonicalize(host) {
        Ok(real) => real,
        Err(error) => return Err(failed(error)),
    };
    let status = match fs::metadata(&real) {
        Ok(status) => status,
        Err(error) => return Err(failed(error)),
    };
    if status.is_dir() {
        return walk(&real, &target, access, MAX_DEPTH, found).map_err(failed);
    }
    match node(target, &status, access) {
        Some(node) => found.push(node),
        None => {
            let reason = "it is neither a device nor a directory of devices";
            return Err(OciError::invalid(field("host_path"), &device.host_path, reason));
        }
    }
    Ok(())
}

/// All devices in a directory. Names that are removed meanwhile are skipped.
fn walk(
    from: &Path,
    target: &Path,
    access: &str,
    depth: usize,
    found: &mut Vec<Device>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let Ok(status) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        let skipped = NOT_WALKED.iter().any(|skipped| name.to_str() == Some(skipped));
        if status.is_dir() && !skipped && depth > 0 {
            walk(&entry.path(), &target.join(&name), access, depth - 1, found)?;
        } else if name != "console" && name != "ptmx" {
            found.extend(node(target.join(&name), &status, access));
        }
    }
    Ok(())
}

fn node(path: PathBuf, status: &Metadata, access: &str) -> Option<Device> {
    let kind = if status.file_type().is_char_device() {
        DeviceKind::Character
    } else if status.file_type().is_block_device() {
        DeviceKind::Block
    } else {
        return None;
    };
    Some(Device {
        path,
        kind,
        major: major(status.rdev()),
        minor: minor(status.rdev()),
        mode: status.mode() & 0o7777,
        uid: status.uid(),
        gid: status.gid(),
        access: access.to_owned(),
    })
}

fn host_path(field: impl Into<Field>, path: &Path) -> impl FnOnce(std::io::Error) -> OciError {
    let (field, path) = (field.into(), path.to_path_buf());
    move |source| OciError::HostPath {
        field,
        path,
        call: "stat",
        source,
    }
}
