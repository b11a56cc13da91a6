//! Names of block devices.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// The names in one round of samples, each looked up once. A number may come to mean another device later.
#[derive(Debug, Default)]
pub(super) struct Devices {
    names: RefCell<HashMap<(u32, u32), Arc<str>>>,
}

impl Devices {
    pub(super) fn name(&self, major: u32, minor: u32) -> Arc<str> {
        let mut names = self.names.borrow_mut();
        let name = names
            .entry((major, minor))
            .or_insert_with(|| device_name(major, minor));
        Arc::clone(name)
    }
}

/// For example `/dev/sda`; the numbers, for a device that has no node.
pub(in crate::sandbox) fn device_name(major: u32, minor: u32) -> Arc<str> {
    node(major, minor)
        .unwrap_or_else(|| format!("{major}:{minor}"))
        .into()
}

fn node(major: u32, minor: u32) -> Option<String> {
    let uevent = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).ok()?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(format!("/dev/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_names_of_their_nodes() {
        let devices = Devices::default();
        // No block device has this number.
        assert_eq!(&*devices.name(0, 4_000_000), "0:4000000");
        let Some(entry) = std::fs::read_dir("/sys/dev/block")
            .into_iter()
            .flatten()
            .find_map(Result::ok)
        else {
            return eprintln!("skipped: there is no block device");
        };
        let number = entry.file_name().into_string().unwrap();
        let (major, minor) = number.split_once(':').unwrap();
        let name = devices.name(major.parse().unwrap(), minor.parse().unwrap());
        assert!(name.starts_with("/dev/"), "{name}");
    }
}
