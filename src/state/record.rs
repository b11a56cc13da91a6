//! Saves, loads and deletes records.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use pausa_sys::{Durability, replace_file};
use rustix::fs::CWD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout::{CONTAINER_RECORD, CONTAINERS, Layout, POD_RECORD};
use super::mirror::Mirror;
use crate::error::{ErrorKind, Kinded};
use crate::id::Id;
use crate::telemetry::metrics;

/// The longest record that is read: far beyond any real one, so that a damaged file cannot exhaust memory.
const RECORD_MAX: u64 = 64 * 1024 * 1024;

/// How many threads read records at most, and how many pods are worth a thread.
const READERS: usize = 4;
const SHARE: usize = 32;

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not valid JSON, or not of the expected type.
    #[error("{} is not a valid record; move it away to go on without it", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// Longer than any record can be.
    #[error("{} has {size} bytes, too many for a record; move it away to go on without it", path.display())]
    TooLong { path: PathBuf, size: u64 },
}

impl Kinded for StateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Internal,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

/// A record that could not be loaded. Its files stay.
#[derive(Debug)]
pub struct Broken {
    /// The directory of the pod or container, or its record.
    pub path: PathBuf,
    pub error: StateError,
}

#[derive(Debug)]
pub struct LoadedPod<P, C> {
    pub pod: P,
    pub containers: Vec<C>,
    /// Found below `<state>`: there was no reboot since.
    pub this_boot: bool,
}

#[derive(Debug)]
pub struct Loaded<P, C> {
    pub pods: Vec<LoadedPod<P, C>>,
    /// Records that could not be read.
    pub broken: Vec<Broken>,
}

/// The records of one daemon.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    mirror: Mirror,
}

impl Store {
    /// Opens both trees; creates missing directories with mode 0700.
    ///
    /// # Errors
    /// [`StateError::Io`] if a directory cannot be created.
    pub fn open(layout: Layout) -> Result<Self, StateError> {
        for dir in [layout.pods(), layout.persistent_pods()] {
            make_private_dir(dir)?;
        }
        Ok(Self {
            layout,
            mirror: Mirror::start(),
        })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many records wait to be copied to the persistent tree.
    pub(crate) fn copies_waiting(&self) -> usize {
        self.mirror.waiting()
    }

    /// Waits until all records are copied to the persistent tree. Blocks.
    pub fn flush(&self) {
        self.mirror.flush();
    }

    /// Saves a pod's record, which then survives the daemon.
    ///
    /// # Errors
    /// [`StateError::Io`]; the previous record is kept.
    pub fn save_pod(&self, pod: &Id, record: &impl Serialize) -> Result<(), StateError> {
        self.save(
            &self.layout.pod(pod),
            &self.layout.persistent_pod(pod),
            POD_RECORD,
            record,
        )
    }

    /// Saves a container's record, which then survives the daemon.
    ///
    /// # Errors
    /// As [`Store::save_pod`].
    pub fn save_container(
        &self,
        pod: &Id,
        container: &Id,
        record: &impl Serialize,
    ) -> Result<(), StateError> {
        let (dir, kept) = (
            self.layout.container(pod, container),
            self.layout.persistent_container(pod, container),
        );
        self.save(&dir, &kept, CONTAINER_RECORD, record)
    }

    fn save(&self, dir: &Path, kept: &Path, name: &str, record: &impl Serialize) -> Result<(), StateError> {
        let path = dir.join(name);
        let bytes = serde_json::to_vec(record).map_err(|source| StateError::Malformed {
            path: path.clone(),
            source,
        })?;
        // The directory is emptied by a reboot, and the mirror keeps what has to outlive one.
        make_private_dir(dir)
            .and_then(|()| replace(&path, &bytes, Durability::Process))
            .inspect_err(|_| metrics::record_not_written("state"))?;
        self.mirror.copy(kept.join(name), bytes);
        Ok(())
    }

    /// Deletes a container's directories in both trees.
    ///
    /// # Errors
    /// [`StateError::Io`]; another call continues.
    pub fn forget_container(&self, pod: &Id, container: &Id) -> Result<(), StateError> {
        self.forget(
            &self.layout.container(pod, container),
            &self.layout.persistent_container(pod, container),
        )
    }

    /// Deletes the directories of a pod and its containers in both trees.
    ///
    /// # Errors
    /// As [`Store::forget_container`].
    pub fn forget_pod(&self, pod: &Id) -> Result<(), StateError> {
        self.forget(&self.layout.pod(pod), &self.layout.persistent_pod(pod))
    }

    fn forget(&self, dir: &Path, kept: &Path) -> Result<(), StateError> {
        self.mirror.cancel(kept);
        // The persistent record is deleted first: after a crash in between, a reboot must not restore it.
        remove_tree(kept)?;
        remove_tree(dir)
    }

    /// Reads all records: pods of this boot, and persistent records of pods from before it. Copies of the former that an earlier
    /// daemon did not come to are made up for. Many records are read by several threads, because everybody waits for them.
    pub fn load<P: DeserializeOwned + Send, C: DeserializeOwned + Send>(&self) -> Loaded<P, C> {
        let mut loaded = Loaded {
            pods: Vec::new(),
            broken: Vec::new(),
        };
        let mut dirs: BTreeMap<String, (PathBuf, bool)> = BTreeMap::new();
        for (tree, this_boot) in [(self.layout.persistent_pods(), false), (self.layout.pods(), true)] {
            for (name, path) in subdirectories(tree, &mut loaded.broken) {
                if this_boot && dirs.contains_key(&name) && !path.join(POD_RECORD).exists() {
                    continue;
                }
                dirs.insert(name, (path, this_boot));
            }
        }
        let dirs: Vec<_> = dirs.into_iter().collect();
        let threads = thread::available_parallelism().map_or(1, |count| count.get().min(READERS));
        let share = dirs.len().div_ceil(threads).max(SHARE);
        thread::scope(|scope| {
            let shares = dirs.chunks(share);
            let readers: Vec<_> = shares
                .map(|share| scope.spawn(|| share.iter().map(|pod| self.load_pod(pod)).collect::<Vec<_>>()))
                .collect();
            for reader in readers {
                let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
                for (pod, mut broken) in read {
                    loaded.pods.extend(pod);
                    loaded.broken.append(&mut broken);
                }
            }
        });
        loaded
    }

    /// Reads the records of a pod and of its containers, and says which cannot be read.
    fn load_pod<P: DeserializeOwned, C: DeserializeOwned>(
        &self,
        (name, (dir, this_boot)): &(String, (PathBuf, bool)),
    ) -> (Option<LoadedPod<P, C>>, Vec<Broken>) {
        // Where its copies are.
        let kept = this_boot.then(|| self.layout.persistent_pods().join(name));
        let mut broken = Vec::new();
        let loaded = match self.read(dir, kept.as_deref(), Path::new(POD_RECORD)) {
            Ok(pod) => Some(LoadedPod {
                pod,
                containers: self.load_containers(dir, kept.as_deref(), &mut broken),
                this_boot: *this_boot,
            }),
            Err(error) => {
                let path = dir.clone();
                broken.push(Broken { path, error });
                None
            }
        };
        (loaded, broken)
    }

    fn load_containers<C: DeserializeOwned>(
        &self,
        pod: &Path,
        kept: Option<&Path>,
        broken: &mut Vec<Broken>,
    ) -> Vec<C> {
        let mut containers = Vec::new();
        for (name, path) in subdirectories(&pod.join(CONTAINERS), broken) {
            let record: PathBuf = [CONTAINERS, &name, CONTAINER_RECORD].iter().collect();
            match self.read(pod, kept, &record) {
                Ok(container) => containers.push(container),
                Err(error) => broken.push(Broken { path, error }),
            }
        }
        containers
    }

    /// Reads a record in the directory of a pod, and has it copied to the persistent one.
    fn read<T: DeserializeOwned>(
        &self,
        pod: &Path,
        kept: Option<&Path>,
        record: &Path,
    ) -> Result<T, StateError> {
        let path = pod.join(record);
        let bytes = read(&path)?;
        let parsed =
            serde_json::from_slice(&bytes).map_err(|source| StateError::Malformed { path, source })?;
        if let Some(kept) = kept {
            self.mirror.copy(kept.join(record), bytes);
        }
        Ok(parsed)
    }
}

/// The subdirectories that are named by an id; others are not ours.
fn subdirectories(dir: &Path, broken: &mut Vec<Broken>) -> Vec<(String, PathBuf)> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            broken.push(Broken {
                path: dir.to_owned(),
                error: failed("list", dir)(error),
            });
            return Vec::new();
        }
    };
    let mut found: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| Id::try_from(name.clone()).is_ok())
        .collect();
    found.sort();
    found
}

fn read(path: &Path) -> Result<Vec<u8>, StateError> {
    let file = fs::File::open(path).map_err(failed("read", path))?;
    let size = file.metadata().map_err(failed("read", path))?.len();
    if size > RECORD_MAX {
        return Err(StateError::TooLong {
            path: path.to_owned(),
            size,
        });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut file = file.take(RECORD_MAX);
    file.read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

pub(super) fn replace(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), StateError> {
    replace_file(CWD, path, bytes, durability).map_err(|error| StateError::Io {
        action: error.operation,
        path: error.path,
        source: error.errno.into(),
    })
}

/// Creates a directory and its parents with mode 0700.
pub(super) fn make_private_dir(path: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create directory", path))
}

fn remove_tree(path: &Path) -> Result<(), StateError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}
