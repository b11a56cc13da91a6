//! Unlinks the files of a tree with many threads.
//!
//! To unlink a file is to wait: for the journal, for a lock, and where the file system discards what it frees as it frees it
//! (ext4 without a journal, `-o discard`), for the disk, once for every file. One thread walks the tree and hands out names
//! with a handle of their directory; threads come when there is work for them. Directories stay: the caller takes those, and
//! whatever failed here, so nothing but the end of the walk itself is reported.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, Scope};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Stat, unlinkat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::Error;
use crate::walk::{self, Visitor};

/// Most threads for one tree: enough to keep a disk busy; more only block each other.
const THREADS: usize = 8;
/// Bytes of names that are handed out together.
const BATCH: usize = 1024;

/// Names of files in one directory, each with its zero.
struct Batch {
    dir: Arc<OwnedFd>,
    names: Vec<u8>,
}

impl Batch {
    fn unlink(&self) {
        for name in self.names.split_inclusive(|byte| *byte == 0) {
            if let Ok(name) = CStr::from_bytes_with_nul(name) {
                // What cannot be removed is still there for the caller, and its reason with it.
                unlinkat(&self.dir, name, AtFlags::empty()).unwrap_or_default();
            }
        }
    }
}

/// Unlinks every file below the directory `name` of `dir`, as far as that is possible. Anything but a directory is left alone.
///
/// # Errors
/// When the tree cannot be walked: a mount point in it, most of all.
pub(super) fn empty(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
    let root = match walk::open(dir, name) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        opened => opened.map_err(|errno| walk::open_error(name, errno))?,
    };
    let (sender, batches) = sync_channel(2 * THREADS);
    let batches = Mutex::new(batches);
    thread::scope(|scope| {
        let mut crowd = Crowd {
            scope,
            batches: &batches,
            sender,
            threads: 0,
            current: None,
        };
        walk::walk(root, &mut crowd)?;
        // The last one needs no thread, nor does a tree of a few files.
        if let Some(batch) = crowd.current.take() {
            batch.unlink();
        }
        Ok(())
    })
}

struct Crowd<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    batches: &'env Mutex<Receiver<Batch>>,
    sender: SyncSender<Batch>,
    threads: usize,
    current: Option<Batch>,
}

impl Crowd<'_, '_> {
    fn hand_out(&mut self) {
        let Some(batch) = self.current.take() else { return };
        if self.threads < THREADS {
            let batches = self.batches;
            let helper = thread::Builder::new().name("tree-remover".to_owned());
            // Without a thread there is the channel, and this one when that is full.
            if helper.spawn_scoped(self.scope, || help(batches)).is_ok() {
                self.threads += 1;
            }
        }
        match self.sender.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => batch.unlink(),
        }
    }
}

fn help(batches: &Mutex<Receiver<Batch>>) {
    loop {
        let next = batches.lock().recv();
        match next {
            Ok(batch) => batch.unlink(),
            Err(_) => return,
        }
    }
}

impl Visitor for Crowd<'_, '_> {
    fn file(&mut self, dir: BorrowedFd<'_>, plain: &CStr) -> Result<(), Error> {
        let name = plain.to_bytes_with_nul();
        let dir = match &mut self.current {
            Some(batch) if batch.names.len() + name.len() <= BATCH => {
                batch.names.extend_from_slice(name);
                return Ok(());
            }
            Some(batch) => Arc::clone(&batch.dir),
            None => match fcntl_dupfd_cloexec(dir, 0) {
                Ok(dir) => Arc::new(dir),
                // No more handles: what cannot be removed here is the caller's.
                Err(_) => {
                    unlinkat(dir, plain, AtFlags::empty()).unwrap_or_default();
                    return Ok(());
                }
            },
        };
        self.hand_out();
        let mut names = Vec::with_capacity(BATCH);
        names.extend_from_slice(name);
        self.current = Some(Batch { dir, names });
        Ok(())
    }

    fn enter(&mut self, _: &Stat) -> Result<(), Error> {
        self.hand_out();
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<bool, Error> {
        Ok(false)
    }
}
