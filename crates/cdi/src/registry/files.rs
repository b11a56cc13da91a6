//! Spec files in directories, each read when it is new or has changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, stat};

use crate::error::{Problem, SpecError};
use crate::spec::Spec;

/// Largest file that is read, in bytes. A device takes some hundred: this is enough for thousands of them.
const MAX_FILE: u64 = 4 << 20;
/// Most files of a directory. Drivers of dynamic resources write one for each claim, and a node has some hundred pods.
const MAX_FILES: usize = 4096;
/// No file system's times are coarser. Within this time, a change may leave the time of change as it is.
const GRANULARITY: Duration = Duration::from_secs(2);

/// What has been read, by path.
pub(super) type Known = BTreeMap<PathBuf, Arc<SpecFile>>;

/// A spec file as it was read.
#[derive(Debug)]
pub(super) struct SpecFile {
    pub(super) path: PathBuf,
    /// None if it must be read again.
    identity: Option<Identity>,
    pub(super) spec: Result<Spec, Arc<SpecError>>,
}

/// Differs when a file was changed or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// What is in all directories.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// With the indices of their directories, in ascending order.
    pub(super) files: Vec<(usize, Arc<SpecFile>)>,
    /// What is broken. Conflicts are not.
    pub(super) problems: Vec<Problem>,
}

impl Content {
    /// Reads what has changed, and returns what there is to know for the next time.
    pub(super) fn read(directories: &[PathBuf], known: &Known) -> (Self, Known) {
        let mut content = Self::default();
        let mut now = Known::new();
        for (index, directory) in directories.iter().enumerate() {
            let paths = list(directory).unwrap_or_else(|source| {
                content.problems.push(Problem::Directory {
                    path: directory.clone(),
                    source: Arc::new(source),
                });
                Vec::new()
            });
            if paths.len() > MAX_FILES {
                content.problems.push(Problem::TooManyFiles {
                    path: directory.clone(),
                    limit: MAX_FILES,
                });
            }
            for path in paths.into_iter().take(MAX_FILES) {
                let file = SpecFile::read(&path, known.get(&path));
                if let Err(source) = &file.spec {
                    content.problems.push(Problem::File {
                        path: path.clone(),
                        source: Arc::clone(source),
                    });
                }
                now.insert(path, Arc::clone(&file));
                content.files.push((index, file));
            }
        }
        (content, now)
    }
}

/// The spec files of a directory, sorted. A missing one has none.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if matches!(extension, Some("json" | "yaml" | "yml")) && !directory {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

impl SpecFile {
    /// The same as before if the file has not changed. A symbolic link is followed.
    fn read(path: &Path, before: Option<&Arc<Self>>) -> Arc<Self> {
        let found = stat(path);
        let identity = found.as_ref().ok().map(Identity::new);
        if let Some(before) = before.filter(|before| identity.is_some() && before.identity == identity) {
            return Arc::clone(before);
        }
        let found = found.map_err(|errno| SpecError::Read(errno.into()));
        let (identity, spec) = match found.and_then(|stat| content(path, &stat)) {
            Ok((identity, bytes)) => (identity, Spec::parse(&bytes)),
            Err(error) => (None, Err(error)),
        };
        Arc::new(Self {
            path: path.to_owned(),
            identity,
            spec: spec.map_err(Arc::new),
        })
    }
}

impl Identity {
    fn new(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// None if the next change may not be seen.
    fn settled(self) -> Option<Self> {
        let seconds = Duration::from_secs(u64::try_from(self.changed.0).ok()?);
        let changed = SystemTime::UNIX_EPOCH.checked_add(seconds)?;
        let age = SystemTime::now().duration_since(changed).ok()?;
        (age > GRANULARITY).then_some(self)
    }
}

/// The bytes of a file, and what it was before they were read.
fn content(path: &Path, found: &Stat) -> Result<(Option<Identity>, Vec<u8>), SpecError> {
    let regular = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(SpecError::NotRegular),
    };
    // Opening a device may do something. What has become a pipe since then must not block.
    regular(found)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let failed = |errno: rustix::io::Errno| SpecError::Read(errno.into());
    let file = open(path, flags, Mode::empty()).map_err(failed)?;
    let opened = fstat(&file).map_err(failed)?;
    regular(&opened)?;
    let mut bytes = Vec::new();
    let mut reader = File::from(file).take(MAX_FILE + 1);
    let length = reader.read_to_end(&mut bytes).map_err(SpecError::Read)?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_FILE) {
        return Err(SpecError::TooLarge { limit: MAX_FILE });
    }
    Ok((Identity::new(&opened).settled(), bytes))
}
