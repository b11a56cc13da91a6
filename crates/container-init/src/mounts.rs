//! The container's mounts, in two passes.
//!
//! First [`prepare`] clones every bind source, while the child's mounts are still peers of the host's: a
//! clone made then can stay a peer (`Shared`) or become its slave. Then the tree is made private, so
//! that nothing done later reaches the host, and [`attach_all`] makes the file systems and puts
//! everything in place, by handle: parts of the container's own root first, then the rest in the plan's
//! order.
//!
//! With a user namespace the first pass is done outside of it, where the sources can be reached and their owners
//! mapped, the second one inside.

mod filesystem;
mod own_root;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{Attributes, ContainerPlan, MountPlan, MountSource, Propagation};
use pausa_sys::MountAttributes;
use rustix::fs::{CWD, FileType, PROC_SUPER_MAGIC, fstat, fstatfs};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::error::{At, Error, Shown, Step};
use crate::report::Reporter;
use crate::resolve::{self, Make};
use crate::{ContainerFds, Users, devices};

/// All MOUNT_ATTR__ATIME bits: they are changed together or not at all (mount_setattr(2)).
const ATIME_BITS: u64 = 0x70;

/// `MOUNT_ATTR_IDMAP`.
const IDMAP: u64 = 0x0010_0000;

/// Files of procfs that may be mounted over (what lxcfs and the like provide); everything else there is
/// the kernel speaking, and later steps rely on it.
const PROC_FILES: [&[u8]; 10] = [
    b"/proc/cpuinfo",
    b"/proc/diskstats",
    b"/proc/meminfo",
    b"/proc/stat",
    b"/proc/swaps",
    b"/proc/uptime",
    b"/proc/loadavg",
    b"/proc/slabinfo",
    b"/proc/sys/kernel/ns_last_pid",
    b"/proc/sys/crypto/fips_enabled",
];

/// A mount on its way to its target.
#[derive(Debug)]
enum Prepared<'a> {
    /// A clone of ours.
    Bind(OwnedFd),
    /// One that came with the plan.
    Sent(BorrowedFd<'a>),
    /// A new file system that had to be made outside the user namespace.
    Made(OwnedFd),
    /// Made when its turn comes.
    Filesystem,
    /// Cloned once the root is attached.
    OwnRoot,
}

/// The mounts of a plan whose sources are open.
#[derive(Debug)]
pub(crate) struct PreparedMounts<'a>(Vec<Prepared<'a>>);

/// Opens the sources in the host's view. Each may hang (a dead NFS server), so each is announced.
pub(crate) fn prepare<'a>(
    plan: &ContainerPlan,
    fds: &ContainerFds<'a>,
    reporter: &Reporter,
) -> Result<PreparedMounts<'a>, Error> {
    let mut prepared = Vec::with_capacity(plan.mounts.len());
    for mount in &plan.mounts {
        prepared.push(match &mount.source {
            MountSource::Bind { path, recursive } => {
                let step = Step::MountSource {
                    path: path.into(),
                    target: (&mount.target).into(),
                };
                reporter.step(&step);
                let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                flags.set(OpenTreeFlags::AT_RECURSIVE, *recursive);
                let clone = open_tree(CWD, path.as_slice(), flags).at(step)?;
                if mount.attributes.set & IDMAP != 0 {
                    map_ids(mount, path, clone.as_fd(), fds.users.as_ref())?;
                }
                Prepared::Bind(clone)
            }
            MountSource::Fd(index) => {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                Prepared::Sent(*fds.mounts.get(index).ok_or(Error::MissingDescriptor("a mount"))?)
            }
            MountSource::Filesystem { .. } => match &fds.users {
                Some(users) if devices::is_own_dev(mount) => {
                    let dev = filesystem::create_owned(mount, users.range.first)?;
                    devices::fill(plan, dev.as_fd(), users.range)?;
                    Prepared::Made(dev)
                }
                _ => Prepared::Filesystem,
            },
            MountSource::OwnRoot { .. } => Prepared::OwnRoot,
        });
    }
    Ok(PreparedMounts(prepared))
}

/// Whoever is root on disk is root of the pod's user namespace.
fn map_ids(
    mount: &MountPlan,
    path: &[u8],
    clone: BorrowedFd<'_>,
    users: Option<&Users<'_>>,
) -> Result<(), Error> {
    let users = users.ok_or(Error::MissingDescriptor("the user namespace of a mapped mount"))?;
    pausa_sys::map_mount_ids(clone, users.namespace).at_with(|| Step::MapMount {
        path: path.into(),
        target: (&mount.target).into(),
    })
}

/// Puts the mounts in place.
pub(crate) fn attach_all(
    plan: &ContainerPlan,
    prepared: PreparedMounts<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Error> {
    for mount in &plan.mounts {
        if let MountSource::OwnRoot { path } = &mount.source {
            own_root::mount(mount, path, root)?;
        }
    }
    for (mount, source) in plan.mounts.iter().zip(prepared.0) {
        match source {
            Prepared::Bind(source) => attach_existing(mount, source.as_fd(), root)?,
            Prepared::Sent(source) => attach_existing(mount, source, root)?,
            Prepared::Made(made) => filesystem::place(mount, &made, root)?,
            Prepared::Filesystem => filesystem::mount(mount, root)?,
            Prepared::OwnRoot => {}
        }
    }
    Ok(())
}

/// Moves a detached mount onto the directory or file `target` stands for.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// A detached clone of the mount tree below a handle.
pub(crate) fn clone_tree(handle: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(handle, c"", flags)
}

fn attach_existing(mount: &MountPlan, source: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<(), Error> {
    let shown = || Shown::from(&mount.target);
    let stat = fstat(source).at_with(|| Step::Inspect(shown()))?;
    let make = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Make::Directory,
        _ => Make::File,
    };
    change_attributes(
        mount,
        source,
        mount.attributes,
        mount.propagation.unwrap_or(Propagation::Private),
    )?;
    refuse_root(&mount.target)?;
    let target = resolve::make(root, &mount.target, make).at_with(|| Step::MountTarget(shown()))?;
    refuse_procfs(&mount.target, target.as_fd())?;
    attach(source, target.as_fd()).at_with(|| Step::Attach(shown()))
}

/// `/` and what is spelled differently but means it.
fn refuse_root(target: &[u8]) -> Result<(), Error> {
    let names = target
        .split(|byte| *byte == b'/')
        .any(|name| !matches!(name, b"" | b"." | b".."));
    if names {
        Ok(())
    } else {
        Err(Error::TargetIsRoot(target.into()))
    }
}

/// A target inside procfs must be one of [`PROC_FILES`], or the mount point `/proc` itself.
fn refuse_procfs(path: &[u8], target: BorrowedFd<'_>) -> Result<(), Error> {
    let file_system = fstatfs(target).at_with(|| Step::Inspect(path.into()))?;
    if file_system.f_type != PROC_SUPER_MAGIC || path == b"/proc" || PROC_FILES.contains(&path) {
        return Ok(());
    }
    Err(Error::TargetInProc(path.into()))
}

/// Sets the attributes and the propagation of a mount that is not attached yet.
fn change_attributes(
    mount: &MountPlan,
    handle: BorrowedFd<'_>,
    attributes: Attributes,
    propagation: Propagation,
) -> Result<(), Error> {
    let Attributes {
        set,
        clear,
        set_recursive,
    } = attributes;
    // Done already, see `prepare`.
    let set = set & !IDMAP;
    if set | clear != 0 {
        let once = MountAttributes {
            set,
            clear: whole_atime(set, clear),
            propagation: MountPropagationFlags::empty(),
            recursive: false,
        };
        setattr(mount, handle, &once)?;
    }
    let below = MountAttributes {
        set: set_recursive,
        clear: whole_atime(set_recursive, 0),
        propagation: propagation_flag(propagation),
        recursive: true,
    };
    setattr(mount, handle, &below)
}

fn setattr(mount: &MountPlan, handle: BorrowedFd<'_>, attributes: &MountAttributes) -> Result<(), Error> {
    pausa_sys::mount_setattr(handle, attributes).at_with(|| Step::MountAttributes {
        target: (&mount.target).into(),
        set: attributes.set,
        clear: attributes.clear,
        how: if attributes.recursive {
            ", AT_RECURSIVE"
        } else {
            ""
        },
    })
}

/// The access time bits are one field: setting or clearing one of them means clearing the field first.
fn whole_atime(set: u64, clear: u64) -> u64 {
    if (set | clear) & ATIME_BITS == 0 {
        clear
    } else {
        clear | ATIME_BITS
    }
}

/// The kernel's flag for a propagation.
pub(crate) fn propagation_flag(propagation: Propagation) -> MountPropagationFlags {
    match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
    }
}
