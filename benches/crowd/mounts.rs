//! Mounts of the node, which every mount namespace copies.

use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount};

use crate::harness::tmpfs::Tmpfs;

/// Empty file systems in a shared mount, as a node's mounts are; gone when dropped.
pub(crate) struct Mounts {
    _top: Tmpfs,
}

impl Mounts {
    /// Mounts this many in a directory; none if that is 0.
    pub(crate) fn below(dir: &Path, count: usize) -> Option<Self> {
        if count == 0 {
            return None;
        }
        let top = Tmpfs::new(dir.join("mounts"), MountPropagationFlags::SHARED);
        for number in 0..count {
            let path = top.path().join(number.to_string());
            std::fs::create_dir(&path).expect("a directory");
            mount("crowd", &path, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
        }
        Some(Self { _top: top })
    }
}
