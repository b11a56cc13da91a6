//! Work in another network namespace.
//!
//! A network namespace is a property of a thread. If a long-lived thread (a worker of an async runtime) changed it,
//! everything that runs on the thread later would act inside a pod. So the work gets a new thread, which ends before the
//! call returns. The caller's own thread never changes its namespace.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;

use rustix::fs::fstatfs;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::Error;
use crate::sysctl;

/// Opens a namespace by its path. None if there is no file, or a file that is no longer the mount point of a namespace: who
/// was killed between unmounting and removing it leaves one.
///
/// # Errors
/// The file is there and cannot be opened.
pub fn open_netns(path: &Path) -> io::Result<Option<File>> {
    /// `NSFS_MAGIC` in `linux/magic.h`
    const NAMESPACES: i64 = 0x6e73_6673;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    Ok((fstatfs(&file)?.f_type == NAMESPACES).then_some(file))
}

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
        sysctl::use_own_procfs();
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
