//! Work in a mount namespace that only one thread is in: what is attached there is seen by nobody, and goes with the thread. A
//! clone of it (`open_tree`) stays with its descriptor.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

/// A call that failed.
pub(crate) type Failure = (&'static str, Errno);

/// Names the call that an errno came from.
pub(crate) fn named(call: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| (call, errno)
}

/// Runs `work` on such a thread. Blocks.
///
/// # Errors
/// What `work` says, or that there is no thread or no namespace.
pub(crate) fn apart(work: impl FnOnce() -> Result<OwnedFd, Failure> + Send) -> Result<OwnedFd, Failure> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("mount-apart".to_owned());
        let thread = worker
            .spawn_scoped(scope, || {
                leave()?;
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

/// Gives this thread a mount namespace that nothing gets out of.
fn leave() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| ("unshare(CLONE_NEWNS)", Errno::from_raw_os_error(errno as i32)))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(named("mount(\"/\", MS_REC|MS_PRIVATE)"))
}
