//! The container's mounts, in two passes.
//!
//! First [`prepare`] clones every bind source in the host's mount namespace: a clone made there can stay a peer of the
//! host's mount (`Shared`) or become a slave. Then the caller leaves that namespace for one with private mounts, and
//! [`attach_all`] makes the file systems and attaches everything by handle: parts of the container's own root first, then
//! the other mounts in the plan's order.
//!
//! In a pod with a user namespace the first pass happens outside of it, where the sources can be reached and their owners
//! mapped, and the second pass inside.

mod filesystem;
mod rootfs_path;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{Attributes, ContainerPlan, MountPlan, MountSource, Propagation};
use pausa_sys::MountAttributes;
use rustix::fs::{AtFlags, CWD, FileType, PROC_SUPER_MAGIC, StatxFlags, fstat, fstatfs, statx};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, open_tree};

use crate::error::{At, Error, Shown, Step};
use crate::mount_ops::{attach, propagation_flag};
use crate::pid_namespace::PidNamespace;
use crate::report::Reporter;
use crate::resolve::{self, Make};
use crate::{ContainerFds, UserNamespace, devices};

/// All MOUNT_ATTR__ATIME bits, which can only be changed together (mount_setattr(2)).
const ATIME_BITS: u64 = 0x70;

/// `MOUNT_ATTR_RDONLY`, `_NOSUID`, `_NODEV` and `_NOEXEC`.
const HOLDER_BITS: u64 = 0xf;

/// `MOUNT_ATTR_IDMAP`.
const IDMAP: u64 = 0x0010_0000;

/// Files of procfs that may be mounted over (as lxcfs does). Later steps rely on everything else in procfs being the
/// kernel's.
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

/// The source of a mount, ready to be attached.
#[derive(Debug)]
enum Prepared<'a> {
    /// Our clone of a host path.
    Bind(OwnedFd),
    /// A mount that came with the plan.
    Sent(BorrowedFd<'a>),
    /// A file system that must be made outside of the user namespace, or cannot be made by this process.
    Made(OwnedFd),
    /// A file system that is made when it is attached.
    Filesystem,
    /// A part of the container's root, cloned once the root is attached.
    RootfsPath,
}

/// The sources of a plan's mounts, in the plan's order.
#[derive(Debug)]
pub(crate) struct PreparedMounts<'a>(Vec<Prepared<'a>>);

/// Opens the sources while the host's files are in sight. Opening may hang (a dead NFS server), so each is reported first.
pub(crate) fn prepare<'a>(
    plan: &ContainerPlan,
    fds: &ContainerFds<'a>,
    joined_pid: Option<&PidNamespace>,
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
                // Nothing is mounted below a file. To find that out, the kernel would go through all mounts beside it.
                flags.set(OpenTreeFlags::AT_RECURSIVE, *recursive && !is_file(path));
                let clone = open_tree(CWD, path.as_slice(), flags).at(step)?;
                let Attributes {
                    set, set_recursive, ..
                } = mount.attributes;
                if (set | set_recursive) & IDMAP != 0 {
                    map_ids(mount, path, clone.as_fd(), fds.userns.as_ref())?;
                }
                Prepared::Bind(clone)
            }
            MountSource::Fd(index) => {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                Prepared::Sent(*fds.mounts.get(index).ok_or(Error::MissingDescriptor("a mount"))?)
            }
            MountSource::Filesystem { fstype, .. } => match (&fds.userns, joined_pid) {
                (_, Some(joined)) if fstype == "proc" => Prepared::Made(procfs_of(joined, mount)?),
                (Some(userns), _) if devices::is_own_dev(mount) => {
                    let dev = filesystem::create_owned(mount, userns.range.first)?;
                    devices::fill(plan, dev.as_fd(), userns.range)?;
                    Prepared::Made(dev)
                }
                _ => Prepared::Filesystem,
            },
            MountSource::RootfsPath { .. } => Prepared::RootfsPath,
        });
    }
    Ok(PreparedMounts(prepared))
}

/// Whether a path leads to something that is no directory, as far as that is known without asking a server.
fn is_file(path: &[u8]) -> bool {
    let stat = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory)
}

/// The procfs of a PID namespace that is joined.
fn procfs_of(joined: &PidNamespace, mount: &MountPlan) -> Result<OwnedFd, Error> {
    let procfs = joined.clone_procfs()?;
    // It comes with the attributes that its holder's mount has.
    let set = mount.attributes.set;
    let attributes = MountAttributes {
        set,
        clear: whole_atime(set, 0) | (HOLDER_BITS & !set),
        ..MountAttributes::default()
    };
    setattr(mount, procfs.as_fd(), &attributes)?;
    Ok(procfs)
}

/// Maps the owners of a mount's files: root on disk becomes root of the pod's user namespace.
fn map_ids(
    mount: &MountPlan,
    path: &[u8],
    clone: BorrowedFd<'_>,
    userns: Option<&UserNamespace<'_>>,
) -> Result<(), Error> {
    let userns = userns.ok_or(Error::MissingDescriptor("the user namespace of a mapped mount"))?;
    let recursive = mount.attributes.set_recursive & IDMAP != 0;
    pausa_sys::map_mount_ids(clone, userns.fd, recursive).at_with(|| Step::MapMount {
        path: path.into(),
        target: (&mount.target).into(),
    })
}

pub(crate) fn attach_all(
    plan: &ContainerPlan,
    prepared: PreparedMounts<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Error> {
    for mount in &plan.mounts {
        if let MountSource::RootfsPath { path } = &mount.source {
            rootfs_path::mount(mount, path, root)?;
        }
    }
    for (mount, source) in plan.mounts.iter().zip(prepared.0) {
        match source {
            Prepared::Bind(source) => attach_existing(mount, source.as_fd(), root)?,
            Prepared::Sent(source) => attach_existing(mount, source, root)?,
            Prepared::Made(made) => filesystem::place(mount, &made, root)?,
            Prepared::Filesystem => filesystem::mount(mount, root)?,
            Prepared::RootfsPath => {}
        }
    }
    Ok(())
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

/// Refuses `/`, however it is spelled.
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

/// Refuses a target inside procfs, except for [`PROC_FILES`] and the mount point `/proc` itself.
fn refuse_procfs(path: &[u8], target: BorrowedFd<'_>) -> Result<(), Error> {
    let file_system = fstatfs(target).at_with(|| Step::Inspect(path.into()))?;
    if file_system.f_type != PROC_SUPER_MAGIC || path == b"/proc" || PROC_FILES.contains(&path) {
        return Ok(());
    }
    Err(Error::TargetInProc(path.into()))
}

/// Sets attributes and propagation of a detached mount.
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
    // The ids are mapped already, see `prepare`.
    let (set, set_recursive) = (set & !IDMAP, set_recursive & !IDMAP);
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

/// Adds the whole field of access time bits to `clear` if one of them is set or cleared: the kernel demands it.
fn whole_atime(set: u64, clear: u64) -> u64 {
    if (set | clear) & ATIME_BITS == 0 {
        clear
    } else {
        clear | ATIME_BITS
    }
}
