//! Projects and their quotas on the file system of the writable layers.
//!
//! ```text
//!   id drawn at random ─▶ nothing has it? ─▶ on the directories ─▶ nothing else has it? ─▶ limit set
//! ```
//!
//! The kernel knows everything: an id is taken if a file has it, and it is a directory that says which id a layer has.
//! Nothing is remembered here. What the file system can do is asked each time, as a remount changes it.
//!
//! Must never: take or reset an id outside of [`IDS`], which are the administrator's or kubelet's (those begin at
//! 1048577).
//!
//! See `docs/design/0014-writable-layer-quota.md`, quotactl_fd(2).

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use pausa_sys::ProjectQuota;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{ErrorKind, Kinded};

/// The ids of pausa's projects.
const IDS: RangeInclusive<u32> = 0x7000_0000..=0x7fff_ffff;
/// So many taken ids in a row cannot be chance.
const ATTEMPTS: usize = 64;

/// Why a project or its limit cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error(
        "{} is on {filesystem}, which enforces no quotas for projects here: {remedy}",
        path.display()
    )]
    Unsupported {
        path: PathBuf,
        filesystem: String,
        remedy: &'static str,
    },
    #[error("{call} of {}", path.display())]
    Call {
        call: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "no free project id on the file system of {}: {ATTEMPTS} in a row have files; look for a program that uses ids from {} to {}",
        path.display(),
        IDS.start(),
        IDS.end()
    )]
    NoFreeId { path: PathBuf },
}

impl Kinded for QuotaError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::FailedPrecondition,
            Self::NoFreeId { .. } => ErrorKind::ResourceExhausted,
            Self::Call { .. } => ErrorKind::Internal,
        }
    }
}

/// What the file system does about projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Nothing,
    /// It counts and has no limits.
    Counted,
    Enforced,
}

/// The projects of the file system that a directory is on.
#[derive(Debug)]
pub struct Projects {
    root: OwnedFd,
    path: PathBuf,
}

impl Projects {
    /// # Errors
    /// [`QuotaError::Call`] if the directory cannot be opened.
    pub fn open(path: &Path) -> Result<Self, QuotaError> {
        Ok(Self {
            root: open(path)?,
            path: path.to_owned(),
        })
    }

    /// What can be done now.
    pub fn support(&self) -> Support {
        match pausa_sys::project_quota_state(self.root.as_fd()) {
            Ok(state) if state.enforced => Support::Enforced,
            Ok(state) if state.counted => Support::Counted,
            // The errno is different for each kind of file system without quotas.
            Ok(_) | Err(_) => Support::Nothing,
        }
    }

    /// The refusal of a limit, where [`Support`] does not say that it is enforced.
    pub fn unsupported(&self) -> QuotaError {
        let kind = rustix::fs::fstatfs(&self.root).map_or(0, |stat| stat.f_type);
        let (filesystem, remedy) = match kind {
            0xef53 => (
                "ext4".to_owned(),
                "make them with `tune2fs -O project,quota -Q prjquota` on the unmounted device, and mount it with the option prjquota",
            ),
            0x5846_5342 => (
                "xfs".to_owned(),
                "mount it with the option prjquota; for the file system of /, that is rootflags=prjquota on the kernel's command line",
            ),
            0xf2f5_2010 => (
                "f2fs".to_owned(),
                "make it with the features extra_attr and project_quota, and mount it with the option prjquota",
            ),
            other => (
                format!("a file system of type {other:#x}"),
                "put pausa's root on ext4 or xfs that is mounted with the option prjquota",
            ),
        };
        QuotaError::Unsupported {
            path: self.path.clone(),
            filesystem,
            remedy,
        }
    }

    /// Gives empty directories an id that nothing else has.
    ///
    /// # Errors
    /// [`QuotaError::Call`], [`QuotaError::NoFreeId`].
    pub fn assign_new(&self, directories: &[&Path]) -> Result<u32, QuotaError> {
        for _ in 0..ATTEMPTS {
            let id = random()?;
            if self.get(id)?.inodes > 0 {
                continue;
            }
            assign(directories, id)?;
            let ours = u64::try_from(directories.len()).unwrap_or(u64::MAX);
            if self.get(id)?.inodes <= ours {
                return Ok(id);
            }
        }
        let path = self.path.clone();
        Err(QuotaError::NoFreeId { path })
    }

    /// Limits a project's space; 0 is no limit.
    ///
    /// # Errors
    /// [`QuotaError::Call`].
    pub fn set_limit(&self, id: u32, bytes: u64) -> Result<(), QuotaError> {
        let set = pausa_sys::set_project_limit(self.root.as_fd(), id, bytes);
        set.map_err(self.failed("quotactl_fd(Q_SETQUOTA, PRJQUOTA)"))
    }

    /// Usage and limit of a project.
    ///
    /// # Errors
    /// [`QuotaError::Call`].
    pub fn get(&self, id: u32) -> Result<ProjectQuota, QuotaError> {
        let quota = pausa_sys::project_quota(self.root.as_fd(), id);
        quota.map_err(self.failed("quotactl_fd(Q_GETQUOTA, PRJQUOTA)"))
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(Errno) -> QuotaError {
        failed(call, &self.path)
    }
}

/// Gives directories an id, for all that will be made in them.
///
/// # Errors
/// [`QuotaError::Call`].
pub fn assign(directories: &[&Path], id: u32) -> Result<(), QuotaError> {
    for path in directories {
        let directory = open(path)?;
        pausa_sys::set_project(directory.as_fd(), id).map_err(failed("ioctl(FS_IOC_FSSETXATTR)", path))?;
    }
    Ok(())
}

/// The project of a directory, if it exists and has one of pausa's.
pub fn project_of(directory: &Path) -> Option<u32> {
    let directory = open(directory).ok()?;
    let id = pausa_sys::project_of(directory.as_fd()).ok()?;
    IDS.contains(&id).then_some(id)
}

fn random() -> Result<u32, QuotaError> {
    let mut bytes = [0; 4];
    // The kernel gives so few bytes as a whole.
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(failed("getrandom(2)", Path::new("")))?;
    Ok(IDS.start() | u32::from_ne_bytes(bytes) & (IDS.end() - IDS.start()))
}

fn open(path: &Path) -> Result<OwnedFd, QuotaError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.map_err(failed("open(O_DIRECTORY|O_NOFOLLOW)", path))
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(Errno) -> QuotaError + use<> {
    let path = path.to_owned();
    move |errno| QuotaError::Call {
        call,
        path,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests;
