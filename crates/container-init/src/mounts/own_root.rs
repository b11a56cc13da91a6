//! Parts of the container's own root, mounted onto themselves or elsewhere in it: what an image declares as
//! `VOLUME`. Such a mount has flags of its own, so it stays writable when the root is made read-only.
//!
//! They come before all other mounts. Path and target are then resolved in nothing but the container's
//! layers: no link of an image makes a directory in a volume of the node, or lands in procfs, and what the
//! pod asks for is mounted on top. Both are an image's words: where they lead nowhere, or to the root
//! itself, there is nothing to mount, and that is no reason not to run.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::MountPlan;
use rustix::fs::fstat;
use rustix::io::Errno;

use super::{attach_existing, clone_tree};
use crate::error::{At, Error, Step};
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

/// What a path of the container stands for, made if absent; none where it is of no use.
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
