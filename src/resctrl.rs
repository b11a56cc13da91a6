//! Classes of Intel's RDT and what other processors have of the kind: shares of the last-level cache and of the memory
//! bandwidth, as groups in the kernel's resctrl file system.
//!
//! ```text
//!   <mount point>/CLASS/schemata    what the class gets, written by whoever makes the class
//!                      /tasks       who is in it, written by processes that join
//! ```
//!
//! Groups are made and filled by the administrator or a tool; here they are only found. Children of a process are in its
//! group.
//!
//! Must never: make, change or remove a group, or follow a link in the file system.
//!
//! See `docs/design/0015-io-and-cache-classes.md`, `Documentation/filesystems/resctrl.rst`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

use crate::error::{ErrorKind, Kinded};

/// Longest name of a directory.
const NAME_MAX: usize = 255;

/// Why a container cannot have an RDT class.
#[derive(Debug, thiserror::Error)]
pub enum ResctrlError {
    #[error(
        "resctrl is not mounted on {root}: `mount -t resctrl resctrl {root}` needs a processor with RDT or the like and a kernel with \
         CONFIG_X86_CPU_RESCTRL; ignore_not_enabled = true in [rdt] of the configuration starts containers without their class",
        root = root.display()
    )]
    NotMounted { root: PathBuf },
    #[error("an RDT class is the name of a directory")]
    Name,
    #[error("{} has no such RDT class, but: {known}", root.display())]
    Unknown {
        root: PathBuf,
        /// All that there are.
        known: String,
    },
    #[error("open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Kinded for ResctrlError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotMounted { .. } => ErrorKind::FailedPrecondition,
            Self::Name | Self::Unknown { .. } => ErrorKind::InvalidArgument,
            Self::Open { .. } => ErrorKind::Internal,
        }
    }
}

/// The file that a process joins a class with, in the file system mounted on `root`.
///
/// # Errors
/// There is no such class.
pub fn tasks(root: &Path, class: &str) -> Result<OwnedFd, ResctrlError> {
    if !root.join("info").is_dir() {
        return Err(ResctrlError::NotMounted {
            root: root.to_owned(),
        });
    }
    let is_name =
        !class.contains(['/', '\0']) && !["", ".", ".."].contains(&class) && class.len() <= NAME_MAX;
    if !is_name {
        return Err(ResctrlError::Name);
    }
    let open_tasks = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(root, flags, Mode::empty())?;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat2(&root, format!("{class}/tasks"), flags, Mode::empty(), beneath)
    };
    open_tasks().map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => ResctrlError::Unknown {
            root: root.to_owned(),
            known: known(root),
        },
        errno => ResctrlError::Open {
            path: root.join(class).join("tasks"),
            source: errno.into(),
        },
    })
}

fn known(root: &Path) -> String {
    let entries = root.read_dir().into_iter().flatten().flatten();
    let classes = entries.filter(|entry| entry.path().join("tasks").exists());
    let mut names: Vec<String> = classes
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory that looks like a resctrl file system.
    fn fake() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("tasks"), "").unwrap();
        for directory in ["info", "mon_groups", "mon_data", "gold", "silver"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        for class in ["gold", "silver"] {
            fs::write(root.path().join(class).join("tasks"), "").unwrap();
        }
        root
    }

    #[test]
    fn a_class_is_joined_by_its_file() {
        let root = fake();
        let tasks = tasks(root.path(), "gold").unwrap();
        rustix::io::write(&tasks, b"0").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("gold/tasks")).unwrap(), "0");
    }

    #[test]
    fn what_is_no_class_is_refused_with_those_that_are() {
        let root = fake();
        for class in ["bronze", "info", "mon_groups", "mon_data", "tasks"] {
            let error = tasks(root.path(), class).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{class}");
            assert!(error.to_string().ends_with("gold, silver"), "{error}");
        }
        for class in ["", ".", "..", "gold/", "../gold", "a\0b", &"x".repeat(256)] {
            assert!(
                matches!(tasks(root.path(), class), Err(ResctrlError::Name)),
                "{class:?}"
            );
        }
        std::os::unix::fs::symlink("gold", root.path().join("link")).unwrap();
        assert!(matches!(
            tasks(root.path(), "link"),
            Err(ResctrlError::Open { .. })
        ));
        fs::remove_dir_all(root.path().join("info")).unwrap();
        let error = tasks(root.path(), "gold").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.to_string().contains("mount -t resctrl"), "{error}");
    }
}
