//! The method for kernels before 6.8, whose overlayfs takes all layers in one string: mount(2).
//!
//! mount(2) takes a page of options, enough for more than two hundred layers as `/proc/self/fd/N`. It can
//! only attach a mount, so a thread with a private mount namespace attaches it and clones it (`open_tree`).
//! The attached mount ends with the thread, the clone with its descriptor. This works on Linux 5.10 (for
//! `volatile`) and later.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};

use super::private_namespace::{CallError, call_error, in_private_namespace};
use super::{Dir, FLAGS, OPTIONS, Stack, fd_path};
use crate::image::error::ImageError;

/// A page, without the final NUL.
const OPTIONS_MAX: usize = 4095;

pub(super) fn mount(stack: &Stack) -> Result<OwnedFd, ImageError> {
    let layers = stack.lower.len();
    let failed = |call: String| {
        move |source| ImageError::Mount {
            call,
            layers,
            log: String::new(),
            source,
        }
    };
    in_private_namespace(|| attach_and_clone(stack)).map_err(|(call, errno)| failed(call.to_owned())(errno))
}

fn attach_and_clone(stack: &Stack) -> Result<OwnedFd, CallError> {
    if stack.mapped {
        // Mounted over the directories themselves. Only this thread sees it.
        for dir in &stack.lower {
            move_mount(
                &dir.fd,
                "",
                CWD,
                &dir.path,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .map_err(call_error("move_mount(mapped layer)"))?;
            // A clone is in the peer group of its original: a mount on it would appear on the node as well.
            mount_change(&dir.path, MountPropagationFlags::PRIVATE)
                .map_err(call_error("mount(mapped layer, MS_PRIVATE)"))?;
        }
    }
    // Directories have to belong to mounts of this namespace, so they are opened again by path. The paths are
    // the store's own.
    let mut opened = Vec::new();
    let data = options(stack, &mut opened).map_err(call_error("open(O_PATH)"))?;
    if data.len() > OPTIONS_MAX {
        return Err(("mount(overlay, more than a page of options)", Errno::TOOBIG));
    }
    // Any existing directory can be the mount point, since only this thread sees it. A layer is one.
    let Some(place) = stack.lower.last().map(|dir| &dir.path) else {
        return Err(("mount(overlay)", Errno::INVAL));
    };
    let flags = match stack.writable {
        Some(_) => MountFlags::empty(),
        None => MountFlags::RDONLY,
    };
    let data = CString::new(data).map_err(|_| ("mount(overlay)", Errno::INVAL))?;
    rustix::mount::mount("overlay", place, "overlay", flags, Some(data.as_c_str()))
        .map_err(call_error("mount(overlay)"))?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, place, clone).map_err(call_error("open_tree(OPEN_TREE_CLONE)"))
}

/// The options. The descriptors that they name are kept open in `opened`.
fn options(stack: &Stack, opened: &mut Vec<OwnedFd>) -> rustix::io::Result<String> {
    let mut reopen = |dir: &Dir| {
        let fd = rustix::fs::open(&dir.path, FLAGS, Mode::empty())?;
        let path = fd_path(fd.as_fd());
        opened.push(fd);
        Ok(path)
    };
    let lower: rustix::io::Result<Vec<String>> = stack.lower.iter().map(&mut reopen).collect();
    let mut parts = vec![format!("lowerdir={}", lower?.join(":"))];
    parts.extend(OPTIONS.iter().map(|(key, value)| format!("{key}={value}")));
    if let Some(label) = &stack.label {
        // A level has commas.
        parts.push(format!("context=\"{label}\""));
    }
    if let Some((upper, work)) = &stack.writable {
        parts.push(format!("upperdir={}", reopen(upper)?));
        parts.push(format!("workdir={}", reopen(work)?));
        parts.push("volatile".to_owned());
    }
    Ok(parts.join(","))
}
