//! A tmpfs with a given propagation, and whatever is mounted below it.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

/// A tmpfs of the test's own; gone when dropped, with all mounts below it.
#[derive(Debug)]
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts it on `path`, which is created.
    pub(crate) fn new(path: PathBuf, propagation: MountPropagationFlags) -> Self {
        std::fs::create_dir_all(&path).expect("a directory");
        mount("critest", &path, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
        let mounted = Self(path);
        mount_change(mounted.path(), propagation).expect("its propagation");
        mounted
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}
