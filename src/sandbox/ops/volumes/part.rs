//! The part of an image volume below a sub path, as a mount of its own.
//!
//! From Linux 6.15 a part of a mount that is attached nowhere can be cloned. Before, only one of the caller's own namespace
//! can: a thread with a private mount namespace attaches the whole and clones the part; the thread's end takes the attached
//! mount away, the clone stays with its descriptor.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::error::ErrorKind;
use crate::image::overlay::private_namespace::{CallError, call_error, in_private_namespace};
use crate::sandbox::error::PodError;

/// The part of `whole`, a detached mount, below a path in it. Links are followed within `whole` only. `place` is any
/// directory; nothing is seen there. Blocks.
///
/// # Errors
/// The path does not lead to a place below the root of `whole`, or there is nothing.
pub(super) fn below(whole: &OwnedFd, sub_path: &str, place: &Path) -> Result<OwnedFd, PodError> {
    let failed = |(call, errno): CallError| {
        let kind = match errno {
            Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        };
        let doing = format!("use {sub_path:?} of an image as a volume: {call}");
        PodError::failed_as(doing, kind, std::io::Error::from(errno))
    };
    let relative = Path::new(sub_path);
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(inside) {
        return Err(PodError::Invalid {
            field: "mounts.image_sub_path",
            problem: format!(
                "is {sub_path:?}, which is no path below an image's root: leave out leading slashes and `..`"
            ),
        });
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let part = rustix::fs::openat2(whole, relative, flags, Mode::empty(), resolve)
        .map_err(|errno| failed(call_error("openat2(RESOLVE_IN_ROOT)")(errno)))?;
    match clone(part.as_fd()) {
        Err((_, Errno::INVAL)) => attached(whole, part.as_fd(), place).map_err(failed),
        cloned => cloned.map_err(failed),
    }
}

fn clone(part: BorrowedFd<'_>) -> Result<OwnedFd, CallError> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(part, "", flags).map_err(call_error("open_tree(OPEN_TREE_CLONE)"))
}

/// Clones `part` while `whole` is attached where only one thread sees it.
fn attached(whole: &OwnedFd, part: BorrowedFd<'_>, place: &Path) -> Result<OwnedFd, CallError> {
    in_private_namespace(|| {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(whole, "", CWD, place, flags).map_err(call_error("move_mount(image volume)"))?;
        clone(part)
    })
}

#[cfg(test)]
mod tests;
