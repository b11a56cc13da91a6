//! The directory of a network.
//!
//! The directory is the truth. Whoever reads or changes it holds its lock, as the binary does. A reservation is a complete
//! file that is linked under the address's name, which succeeds only once: whoever is killed leaves a reservation or none,
//! and maybe a temporary file, which the next one that reads the directory removes.
//!
//! What the directory had when the lock was released is remembered, so that an ADD or a DEL does not read all files. To
//! know whether the directory has been changed since, the one who remembers it sets the directory's modification time to
//! an instant before the present one, with a fraction that nobody else sets: each change by somebody else sets it to the
//! present. What is remembered is only a hint, though: a file is read before it is removed, an address is given by the
//! link alone, and after any failure nothing is remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::DirBuilder;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use pausa_cni::Failure;
use pausa_sys::{Durability, StagedFile, remove_leftovers};
use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, flock,
    ftruncate, futimens, linkat, openat, statx, unlinkat,
};
use rustix::io::Errno;

use crate::common::failed;

const LOCK: &str = "lock";
const LAST: &str = "last_reserved_ip.";
/// A longer file is no reservation.
const MAX_RESERVATION: usize = 4096;

/// What is remembered of each directory.
#[derive(Debug, Default)]
pub(super) struct Store {
    known: Mutex<BTreeMap<PathBuf, Known>>,
}

/// The reservations of a directory.
#[derive(Debug, Default)]
struct Known {
    /// The directory in the state that this describes.
    marker: Marker,
    /// Addresses by the content of their files.
    by_owner: HashMap<String, BTreeSet<IpAddr>>,
    /// The addresses of all files, whatever is in them.
    taken: BTreeSet<IpAddr>,
}

/// A directory, and its modification time in seconds and nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Marker {
    device: (u32, u32),
    inode: u64,
    modified: (i64, u32),
}

/// A network's directory while it is locked.
#[derive(Debug)]
pub(super) struct Network<'a> {
    store: &'a Store,
    path: &'a Path,
    dir: OwnedFd,
    lock: OwnedFd,
    known: Known,
    /// The directory was read under this lock.
    fresh: bool,
    changed: bool,
}

impl Store {
    /// Locks the directory, if there is one.
    pub(super) fn lock<'a>(&'a self, path: &'a Path) -> Result<Option<Network<'a>>, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            dir => dir.map_err(failed(format!("cannot open {}", path.display())))?,
        };
        // The mode is the binary's.
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = openat(&dir, LOCK, flags, Mode::from_raw_mode(0o750))
            .map_err(failed(format!("cannot open {}/{LOCK}", path.display())))?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
            .map_err(failed(format!("cannot lock {}/{LOCK}", path.display())))?;
        let known = self.known.lock().remove(path);
        let mut network = Network {
            store: self,
            path,
            dir,
            lock,
            known: Known::default(),
            fresh: false,
            changed: false,
        };
        match known {
            Some(known) if network.marker().is_ok_and(|marker| marker == known.marker) => {
                network.known = known;
            }
            _ => network.read()?,
        }
        Ok(Some(network))
    }

    /// Locks the directory, which is created if there is none.
    pub(super) fn lock_or_create<'a>(&'a self, path: &'a Path) -> Result<Network<'a>, Failure> {
        if let Some(network) = self.lock(path)? {
            return Ok(network);
        }
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(failed(format!("cannot create {}", path.display())))?;
        self.lock(path)?
            .ok_or_else(|| Failure::internal(format!("{} was removed", path.display())))
    }
}

impl Network<'_> {
    /// Reserves the first address that is free, if there is one, and has the next search go on behind it.
    pub(super) fn reserve(
        &mut self,
        owner: &str,
        set: usize,
        candidates: impl Iterator<Item = IpAddr> + Clone,
    ) -> Result<Option<IpAddr>, Failure> {
        let last = format!("{LAST}{set}");
        self.changed = true;
        // The file is never committed, only linked. As with the binary it is not synced: pods do not outlive a power cut,
        // which may leave an empty file. That takes its address until an administrator removes it, who may also have made
        // it to keep the address free.
        let staged = StagedFile::write(
            self.dir.as_fd(),
            Path::new(&last),
            owner.as_bytes(),
            Durability::Process,
        )
        .map_err(failed(self.cannot("write a reservation in")))?;
        let taken = &self.known.taken;
        let untaken = candidates.clone().filter(|address| !taken.contains(address));
        // What is remembered may be wrong: what was passed over is tried at last.
        let all = untaken.chain(candidates.filter(|address| taken.contains(address)));
        let Some(address) = link_first(self.dir.as_fd(), staged.temporary(), all)
            .map_err(failed(self.cannot("link a reservation in")))?
        else {
            return Ok(None);
        };
        drop(staged);
        self.known.insert(address, Some(owner.to_owned()));
        if let Err(errno) = overwrite(self.dir.as_fd(), &last, &address.to_string()) {
            self.release(owner, address)?;
            return Err(failed(self.cannot(&format!("write {last} in")))(errno));
        }
        Ok(Some(address))
    }

    /// The address that was given last, if that is known.
    pub(super) fn last_reserved(&self, set: usize) -> Result<Option<IpAddr>, Failure> {
        let name = format!("{LAST}{set}");
        let text =
            read_file(self.dir.as_fd(), &name).map_err(failed(self.cannot(&format!("read {name} in"))))?;
        let last = text.and_then(|text| text.parse::<IpAddr>().ok());
        Ok(last.map(|last| last.to_canonical()))
    }

    /// The addresses whose files have this content.
    pub(super) fn owned(&mut self, owner: &str) -> Result<Vec<IpAddr>, Failure> {
        let remembered = |known: &Known| -> Vec<IpAddr> {
            let addresses = known.by_owner.get(owner);
            addresses.into_iter().flatten().copied().collect()
        };
        let addresses = remembered(&self.known);
        for address in &addresses {
            if !self.is_owned(owner, *address)? {
                self.read()?;
                return Ok(remembered(&self.known));
            }
        }
        Ok(addresses)
    }

    /// The same, and if none is remembered the directory is read.
    pub(super) fn owned_or_read(&mut self, owner: &str) -> Result<Vec<IpAddr>, Failure> {
        if !self.fresh && !self.known.by_owner.contains_key(owner) {
            self.read()?;
        }
        self.owned(owner)
    }

    /// Removes the file of an address that [`Self::owned`] or [`Self::reserve`] has just returned.
    pub(super) fn release(&mut self, owner: &str, address: IpAddr) -> Result<(), Failure> {
        self.changed = true;
        match unlinkat(&self.dir, address.to_string(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.known.remove(owner, address),
            Err(errno) => return Err(failed(self.cannot(&format!("remove {address} in")))(errno)),
        }
        Ok(())
    }

    /// The contents of all reservations.
    pub(super) fn owners(&self) -> Vec<String> {
        self.known.by_owner.keys().cloned().collect()
    }

    /// Reads the directory.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        self.known = Known::default();
        let known = scan(self.dir.as_fd()).map_err(failed(self.cannot("read")))?;
        self.known = known;
        self.fresh = true;
        Ok(())
    }

    /// Remembers what the directory has, and releases the lock. Without it nothing is remembered.
    pub(super) fn unlock(mut self) {
        // Without a marker of its own a later change could not be told from the one before.
        let marked = match self.changed || self.fresh {
            true => self.mark(),
            false => Ok(self.known.marker),
        };
        if let Ok(marker) = marked {
            self.known.marker = marker;
            let known = std::mem::take(&mut self.known);
            self.store.known.lock().insert(self.path.to_owned(), known);
        }
    }

    fn mark(&self) -> Result<Marker, Errno> {
        let (present, _) = self.marker()?.modified;
        let fraction = RandomState::new().hash_one(present) % 1_000_000_000;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: present.saturating_sub(1),
                tv_nsec: i64::try_from(fraction).unwrap_or_default(),
            },
        };
        futimens(&self.dir, &times)?;
        self.marker()
    }

    fn marker(&self) -> Result<Marker, Errno> {
        marker(self.dir.as_fd())
    }

    fn is_owned(&self, owner: &str, address: IpAddr) -> Result<bool, Failure> {
        let content = read_file(self.dir.as_fd(), &address.to_string())
            .map_err(failed(self.cannot(&format!("read {address} in"))))?;
        Ok(content.is_some_and(|content| content == owner))
    }

    fn cannot(&self, operation: &str) -> String {
        format!("cannot {operation} {}", self.path.display())
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        // A process that is being started may have a copy of the descriptor for a moment.
        flock(&self.lock, FlockOperation::Unlock).ok();
    }
}

impl Known {
    fn insert(&mut self, address: IpAddr, owner: Option<String>) {
        self.taken.insert(address);
        if let Some(owner) = owner {
            self.by_owner.entry(owner).or_default().insert(address);
        }
    }

    fn remove(&mut self, owner: &str, address: IpAddr) {
        self.taken.remove(&address);
        if let Some(addresses) = self.by_owner.get_mut(owner) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.by_owner.remove(owner);
            }
        }
    }
}

/// Reads all reservations, and removes temporary files: all their writers hold the lock.
fn scan(dir: BorrowedFd<'_>) -> Result<Known, Errno> {
    remove_leftovers(dir)?;
    let mut known = Known {
        marker: marker(dir)?,
        ..Known::default()
    };
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let Ok(address) = name.parse::<IpAddr>() else {
            continue;
        };
        // Other spellings are nobody's.
        if address.to_string() == name {
            known.insert(address, read_file(dir, name)?);
        }
    }
    Ok(known)
}

fn marker(dir: BorrowedFd<'_>) -> Result<Marker, Errno> {
    let known = statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MTIME | StatxFlags::INO)?;
    Ok(Marker {
        device: (known.stx_dev_major, known.stx_dev_minor),
        inode: known.stx_ino,
        modified: (known.stx_mtime.tv_sec, known.stx_mtime.tv_nsec),
    })
}

/// Links a file under the name of the first address that no file has.
fn link_first(
    dir: BorrowedFd<'_>,
    file: &Path,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<Option<IpAddr>, Errno> {
    for address in addresses {
        match linkat(dir, file, dir, address.to_string(), AtFlags::empty()) {
            Ok(()) => return Ok(Some(address)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// Writes a file that is only a hint in its place: file systems write a file that replaces another one, or that was emptied
/// before, to the disk at once. Whoever is killed in between leaves another hint, or none.
fn overwrite(dir: BorrowedFd<'_>, name: &str, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    let length = u64::try_from(rustix::io::pwrite(&file, text.as_bytes(), 0)?).unwrap_or_default();
    if statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::SIZE)?.stx_size > length {
        ftruncate(&file, length)?;
    }
    Ok(())
}

/// The content without white space around it. None if there is no file, or one that nobody writes here.
fn read_file(dir: BorrowedFd<'_>, name: &str) -> Result<Option<String>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        file => file?,
    };
    let mut content = vec![0; MAX_RESERVATION];
    let length = match rustix::io::read(&file, &mut content) {
        Err(Errno::ISDIR) => return Ok(None),
        length => length?,
    };
    if length == MAX_RESERVATION {
        return Ok(None);
    }
    content.truncate(length);
    Ok(String::from_utf8(content).ok().map(|text| text.trim().to_owned()))
}
