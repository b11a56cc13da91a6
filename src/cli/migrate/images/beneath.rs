//! A directory whose files are opened by handle: no symbolic link is followed, and nothing outside is reached.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

#[derive(Debug)]
pub(super) struct Dir {
    handle: OwnedFd,
    /// For errors.
    path: PathBuf,
}

impl Dir {
    /// The store itself may be anywhere, also behind links.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let handle = open(
            path,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .with_context(|| format!("cannot open the directory {}", path.display()))?;
        Ok(Self {
            handle,
            path: path.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn openat(&self, name: &Path, flags: OFlags) -> anyhow::Result<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.handle, name, flags, Mode::empty(), resolve)
            .with_context(|| format!("cannot open {}", self.path.join(name).display()))
    }

    pub(super) fn dir(&self, name: impl AsRef<Path>) -> anyhow::Result<Self> {
        let name = name.as_ref();
        Ok(Self {
            handle: self.openat(name, OFlags::DIRECTORY)?,
            path: self.path.join(name),
        })
    }

    /// A regular file and its size.
    pub(super) fn file(&self, name: impl AsRef<Path>) -> anyhow::Result<(File, u64)> {
        let name = name.as_ref();
        let file = self.openat(name, OFlags::empty())?;
        let stat = fstat(&file)?;
        anyhow::ensure!(
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            "{} is not a regular file",
            self.path.join(name).display()
        );
        Ok((File::from(file), u64::try_from(stat.st_size)?))
    }

    /// The content of a file of at most `limit` bytes.
    pub(super) fn read(&self, name: impl AsRef<Path>, limit: u64) -> anyhow::Result<Vec<u8>> {
        let name = name.as_ref();
        let (file, size) = self.file(name)?;
        let shown = || self.path.join(name).display().to_string();
        anyhow::ensure!(size <= limit, "{} has more than {limit} bytes", shown());
        let mut bytes = Vec::new();
        file.take(limit)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", shown()))?;
        Ok(bytes)
    }
}
