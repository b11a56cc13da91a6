//! Work in another network namespace.
//!
//! A network namespace is a property of a thread. If a long-lived thread (a worker of an async runtime) changed it,
//! everything that runs on the thread later would act inside a pod. So the work gets a new thread, which ends before the
//! call returns. The caller's own thread never changes its namespace.

use std::os::fd::BorrowedFd;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::Error;

/// Runs `work` on a thread of its own inside the network namespace `netns` and waits for it.
///
/// # Errors
/// The thread cannot be started, or `netns` is not a network namespace that we may enter.
///
/// # Panics
/// When `work` panics.
pub fn in_netns<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let enter_and_work = || {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
            .map_err(|errno| Error::Setns { source: errno.into() })?;
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, enter_and_work)
            .map_err(|source| Error::Thread { source })?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
