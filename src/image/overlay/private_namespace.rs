//! A private mount namespace of one thread. Mounts attached there are invisible elsewhere and end with the
//! thread; a clone (`open_tree`) stays as long as its descriptor.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

/// The name of a failed call, and its errno.
pub(crate) type CallError = (&'static str, Errno);

/// Adds the name of the call to an errno.
pub(crate) fn call_error(call: &'static str) -> impl FnOnce(Errno) -> CallError {
    move |errno| (call, errno)
}

/// Runs `work` on a thread with a private mount namespace. Blocks.
///
/// # Errors
/// Those of `work`, and of creating the thread and the namespace.
pub(crate) fn in_private_namespace(
    work: impl FnOnce() -> Result<OwnedFd, CallError> + Send,
) -> Result<OwnedFd, CallError> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("private-mount".to_owned());
        let thread = worker
            .spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNS)
                    .map_err(|errno| ("unshare(CLONE_NEWNS)", Errno::from_raw_os_error(errno as i32)))?;
                // Otherwise mounts would propagate to the node.
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).map_err(call_error("mount(\"/\", MS_REC|MS_PRIVATE)"))?;
                work()
            })
            .map_err(|error| {
                let errno = error
                    .raw_os_error()
                    .map_or(Errno::AGAIN, Errno::from_raw_os_error);
                ("clone(thread for mount)", errno)
            })?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
