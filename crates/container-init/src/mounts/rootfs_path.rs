//! Parts of the container's own root that are mounted onto themselves or elsewhere in it, for what an image declares as
//! `VOLUME`. Such a mount has its own flags, so it stays writable when the root becomes read-only.
//!
//! These mounts come before all others, so that their paths are resolved in the container's layers only: no link of an
//! image can make a directory in a volume of the node or lead into procfs, and the pod's mounts come on top. The paths
//! come from the image. A path that leads nowhere, or to the root itself, is skipped; it does not keep the container from
//! starting.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::MountPlan;
use rustix::fs::fstat;
use rustix::io::Errno;

use super::attach_existing;
use crate::error::{At, Error, Step};
use crate::mount_ops::clone_tree;
use crate::resolve::{self, Make};

/// Mounts the part of `root` at `path` onto the plan's target.
pub(super) fn mount(plan: &MountPlan, path: &[u8], root: BorrowedFd<'_>) -> Result<(), Error> {
    let Some(part) = find(path, root)? else {
        return Ok(());
    };
    if path != plan.target && find(&plan.target, root)?.is_none() {
        return Ok(());
    }
    let clone = clone_tree(part.as_fd()).at_with(|| Step::MountSource {
        path: path.into(),
        target: (&plan.target).into(),
    })?;
    attach_existing(plan, clone.as_fd(), root)
}

/// Opens a directory of the container, made if absent. None if the path is unusable or the root itself.
fn find(path: &[u8], root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
    let found = match resolve::make(root, path, Make::Directory) {
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(None),
        other => other.at_with(|| Step::MountTarget(path.into()))?,
    };
    let (here, top) = (
        fstat(&found).at_with(|| Step::Inspect(path.into()))?,
        fstat(root).at_with(|| Step::Inspect(path.into()))?,
    );
    let is_root = (here.st_dev, here.st_ino) == (top.st_dev, top.st_ino);
    Ok((!is_root).then_some(found))
}
