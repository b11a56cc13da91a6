//! New file systems: fsopen(2), fsconfig(2), fsmount(2).
//!
//! proc and sysfs are only mounted on a directory whose path has no symbolic link: otherwise an image whose `/proc` is a
//! link would decide what later steps read from `/proc`.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{MountPlan, MountSource};
use pausa_sys::MountAttributes;
use rustix::fs::{FileType, OFlags, XattrFlags, fstat, setxattr};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::{refuse_procfs, refuse_root, setattr, whole_atime};
use crate::error::{At, Error, Shown, Step};
use crate::mount_ops::{attach, propagation_flag};
use crate::resolve::{self, Make};

/// Makes and mounts a file system.
pub(super) fn mount(plan: &MountPlan, root: BorrowedFd<'_>) -> Result<(), Error> {
    let (fstype, source, options) = described(plan)?;
    let handle = create(plan, fstype, source, options)?;
    place(plan, &handle, root)
}

/// Makes a tmpfs whose root directory belongs to the user and group `owner`.
pub(super) fn create_owned(plan: &MountPlan, owner: u32) -> Result<OwnedFd, Error> {
    let (fstype, source, options) = described(plan)?;
    let mut options = options.to_vec();
    options.extend(["uid", "gid"].map(|key| (key.to_owned(), Some(owner.to_string()))));
    create(plan, fstype, source, &options)
}

type Described<'a> = (&'a str, &'a str, &'a [(String, Option<String>)]);

fn described(plan: &MountPlan) -> Result<Described<'_>, Error> {
    match &plan.source {
        MountSource::Filesystem {
            fstype,
            source,
            options,
        } => Ok((fstype, source, options)),
        _ => Err(Error::MissingDescriptor("a mount")),
    }
}

/// Mounts a file system that has been made.
pub(super) fn place(plan: &MountPlan, handle: &OwnedFd, root: BorrowedFd<'_>) -> Result<(), Error> {
    let (fstype, ..) = described(plan)?;
    let recursive = plan.attributes.set_recursive;
    if recursive != 0 || plan.propagation.is_some() {
        let attributes = MountAttributes {
            set: recursive,
            clear: whole_atime(recursive, 0),
            propagation: plan
                .propagation
                .map_or_else(rustix::mount::MountPropagationFlags::empty, propagation_flag),
            recursive: true,
        };
        setattr(plan, handle.as_fd(), &attributes)?;
    }
    refuse_root(&plan.target)?;
    let target = target(plan, fstype, root)?;
    attach(handle.as_fd(), target.as_fd()).at_with(|| Step::Attach((&plan.target).into()))
}

fn target(plan: &MountPlan, fstype: &str, root: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let shown = || Shown::from(&plan.target);
    if !matches!(fstype, "proc" | "sysfs") {
        let target =
            resolve::make(root, &plan.target, Make::Directory).at_with(|| Step::MountTarget(shown()))?;
        refuse_procfs(&plan.target, target.as_fd())?;
        return Ok(target);
    }
    let plain = || resolve::open_plain(root, &plan.target, OFlags::PATH);
    let found = match plain() {
        Err(Errno::NOENT) => {
            drop(resolve::make(root, &plan.target, Make::Directory).at_with(|| Step::MountTarget(shown()))?);
            plain()
        }
        other => other,
    };
    let refused = || Error::TargetNotPlain {
        target: shown(),
        fstype: fstype.to_owned(),
    };
    let target = match found {
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(refused()),
        other => other.at_with(|| Step::MountTarget(shown()))?,
    };
    let stat = fstat(&target).at_with(|| Step::Inspect(shown()))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        Ok(target)
    } else {
        Err(refused())
    }
}

fn create(
    plan: &MountPlan,
    fstype: &str,
    source: &str,
    options: &[(String, Option<String>)],
) -> Result<OwnedFd, Error> {
    let target = || Shown::from(&plan.target);
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).at_with(|| Step::OpenFilesystem {
        target: target(),
        fstype: fstype.to_owned(),
    })?;
    if !source.is_empty() {
        set(plan, &context, fstype, "source", Some(source))?;
    }
    for (key, value) in options {
        if !is_label_of_mqueue(fstype, key) {
            set(plan, &context, fstype, key, value.as_deref())?;
        }
    }
    fsconfig_create(context.as_fd()).at_with(|| Step::CreateFilesystem {
        target: target(),
        fstype: fstype.to_owned(),
        hint: complaint(&context),
    })?;
    let bits = u32::try_from(plan.attributes.set).unwrap_or(u32::MAX);
    let mount = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(bits),
    )
    .at_with(|| Step::FilesystemMount {
        target: target(),
        fstype: fstype.to_owned(),
        attributes: plan.attributes.set,
    })?;
    for (_, label) in options.iter().filter(|(key, _)| is_label_of_mqueue(fstype, key)) {
        set_label(plan, &mount, label.as_deref().unwrap_or_default())?;
    }
    Ok(mount)
}

/// The message queues of an IPC namespace are one file system, however often it is mounted: SELinux refuses another
/// `context` for it. Its root directory has a label that can be set.
fn is_label_of_mqueue(fstype: &str, key: &str) -> bool {
    fstype == "mqueue" && key == "context"
}

fn set_label(plan: &MountPlan, mount: &OwnedFd, label: &str) -> Result<(), Error> {
    // The mount's handle is O_PATH. The visible procfs is still the host's.
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    match setxattr(path, "security.selinux", label.as_bytes(), XattrFlags::empty()) {
        // Its policy gives it no labels.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno).at_with(|| Step::ConfigureFilesystem {
            target: (&plan.target).into(),
            fstype: "mqueue".to_owned(),
            option: format!("security.selinux={label}"),
            hint: String::new(),
        }),
    }
}

fn set(
    plan: &MountPlan,
    context: &OwnedFd,
    fstype: &str,
    key: &str,
    value: Option<&str>,
) -> Result<(), Error> {
    let result = match value {
        Some(value) => fsconfig_set_string(context.as_fd(), key, value),
        None => fsconfig_set_flag(context.as_fd(), key),
    };
    result.at_with(|| Step::ConfigureFilesystem {
        target: (&plan.target).into(),
        fstype: fstype.to_owned(),
        option: value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}")),
        hint: complaint(context),
    })
}

/// The kernel's own message about a refused option (fscontext log); empty if there is none.
fn complaint(context: &OwnedFd) -> String {
    let mut buffer = [0_u8; 256];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) if length > 2 => {
            format!(
                " (the kernel says: {})",
                String::from_utf8_lossy(&buffer[2..length]).trim()
            )
        }
        _ => String::new(),
    }
}
