//! Overlay mounts of layer directories that are attached nowhere.
//!
//! The mount exists only as a file descriptor (`fsopen`, `fsconfig`, `fsmount`): it is not in the host's mount table, and goes
//! with the last descriptor or with the mount namespace it was moved into. A daemon that is killed leaves none behind.
//!
//! Layers are handed over by descriptor, because `fsconfig` takes strings of 255 bytes at most and a path may hold `,` or `:`:
//!
//! | kernel | lower layers | upper and work |
//! |---|---|---|
//! | from 6.13 | `lowerdir+`, each a descriptor | descriptors |
//! | from 6.8 | `lowerdir+`, each `/proc/self/fd/N` | `/proc/self/fd/N` |
//! | before | [`classic`]: mount(2), whose options are a page long, in a namespace of its own, then cloned out of it | same |
//!
//! Options, the same everywhere:
//! * `index=off`, `metacopy=off`: they keep file handles and redirects in extended attributes. A layer is an image's, so what it
//!   says about other layers must not be believed, and the same layers are below many mounts at once.
//! * `redirect_dir=off`: as above. A rename of a directory that a lower layer has fails with EXDEV, and tools copy.
//! * `volatile` (writable mounts only, from 5.10): fsync in a container does not reach the disk. A container's writable layer never
//!   outlives a reboot (kubelet makes a new container), so paying for its durability is waste. The kernel refuses such an upper
//!   directory a second time; its mark is removed here, so **the caller must not use an upper directory of before a reboot**.
//!
//! In a pod with a user namespace the owners of an image's files are mapped: what is root's in the image is root's there. The
//! kernel maps no overlay mount as a whole (EINVAL, at least up to 6.18), but it stacks layers that are mapped (from 5.19): each
//! lower directory is cloned as a mount of its own and mapped before it is stacked. The writable layer is not mapped: its files
//! belong to the ids outside, its root to the namespace's root. Detached layers can be stacked from 6.15; before, [`classic`]
//! attaches them where only it sees them.
//!
//! `xino` stays as the kernel has it: turning it off would make `st_dev` differ between files of one container.
//!
//! See <https://docs.kernel.org/filesystems/overlayfs.html>, fsopen(2), fsconfig(2), mount_setattr(2).

pub(crate) mod apart;
mod classic;

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::error::{ImageError, io_error};

/// As many as the kernel stacks.
const LAYERS_MAX: usize = 500;
/// Options of every mount.
const OPTIONS: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

/// How directories are opened.
const FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How layers are told to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From 6.13.
    Descriptors,
    /// From 6.8.
    Strings,
    /// Any.
    Classic,
}

/// A directory, opened.
struct Dir {
    path: PathBuf,
    fd: OwnedFd,
}

/// What to stack.
struct Stack {
    /// Topmost first.
    lower: Vec<Dir>,
    /// The lower ones are detached mounts with mapped owners.
    mapped: bool,
    /// Upper and work directory.
    writable: Option<(Dir, Dir)>,
}

/// Mounts `layers` (lowest first, at least one) with the writable layer `upper`. Both `upper` and `work` must be empty or of an
/// earlier mount since boot, and on one file system. With a user namespace the owners in the layers are mapped to its ids. Blocks.
///
/// # Errors
/// [`ImageError::Mount`] naming the call and what the kernel says; [`ImageError::LayerCount`]; [`ImageError::Io`] where a directory
/// cannot be opened.
pub fn mount(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    users: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, ImageError> {
    if layers.is_empty() || layers.len() > LAYERS_MAX {
        return Err(ImageError::LayerCount {
            needed: "1 to 500",
            given: layers.len(),
        });
    }
    let work_dir = open(work)?;
    forget_volatile(&work_dir)?;
    let stack = Stack {
        lower: open_all(layers, users)?,
        mapped: users.is_some(),
        writable: Some((open(upper)?, work_dir)),
    };
    attempt(&stack, by)
}

/// Mounts `layers` (lowest first) read-only, their owners mapped as in [`mount`]. One layer is not enough for the kernel: put an
/// empty directory below it.
///
/// # Errors
/// As [`mount`].
pub fn mount_readonly(layers: &[PathBuf], users: Option<BorrowedFd<'_>>) -> Result<OwnedFd, ImageError> {
    match layers {
        // Nothing to stack: an empty file system is the same and needs no overlay.
        [only] if std::fs::read_dir(only).is_ok_and(|mut entries| entries.next().is_none()) => empty(),
        _ if layers.len() < 2 || layers.len() > LAYERS_MAX => Err(ImageError::LayerCount {
            needed: "2 to 500",
            given: layers.len(),
        }),
        _ => {
            let stack = Stack {
                lower: open_all(layers, users)?,
                mapped: users.is_some(),
                writable: None,
            };
            attempt(&stack, by)
        }
    }
}

/// Tries the ways from the newest on.
fn attempt(
    stack: &Stack,
    by: impl Fn(&Stack, Way) -> Result<OwnedFd, ImageError>,
) -> Result<OwnedFd, ImageError> {
    let mut way = Way::Descriptors;
    loop {
        let mounted = by(stack, way);
        let Err(ImageError::Mount { source, .. }) = mounted else {
            return mounted;
        };
        match older(way, source) {
            Some(older) => way = older,
            None => return mounted,
        }
        // The kernel marks the directory before it looks at the layers.
        if let Some((_, work)) = &stack.writable {
            forget_volatile(work)?;
        }
    }
}

/// The way to try after one was refused; none if that was no matter of the kernel's age.
fn older(way: Way, refusal: Errno) -> Option<Way> {
    match (way, refusal) {
        // Before 6.5 overlay takes nothing but strings, and those as options of mount(2).
        (Way::Descriptors, Errno::OPNOTSUPP) => Some(Way::Classic),
        (Way::Descriptors, Errno::INVAL | Errno::BADF) => Some(Way::Strings),
        (Way::Strings, Errno::INVAL) => Some(Way::Classic),
        _ => None,
    }
}

fn by(stack: &Stack, way: Way) -> Result<OwnedFd, ImageError> {
    if way == Way::Classic {
        return classic::mount(stack);
    }
    let layers = stack.lower.len();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| failed("fsopen(\"overlay\")", layers, None)(errno))?;
    let call = |text: &str| failed(&format!("fsconfig({text})"), layers, Some(&context));
    fsconfig_set_string(&context, "source", "overlay").map_err(call("source"))?;
    for (key, value) in OPTIONS {
        fsconfig_set_string(&context, key, value).map_err(call(key))?;
    }
    for layer in &stack.lower {
        set_dir(&context, "lowerdir+", layer, way).map_err(call("lowerdir+"))?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    if let Some((upper, work)) = &stack.writable {
        attributes = MountAttrFlags::empty();
        set_dir(&context, "upperdir", upper, way).map_err(call("upperdir"))?;
        set_dir(&context, "workdir", work, way).map_err(call("workdir"))?;
        fsconfig_set_flag(&context, "volatile").map_err(call("volatile"))?;
    }
    fsconfig_create(&context).map_err(call("FSCONFIG_CMD_CREATE"))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| failed("fsmount(overlay)", layers, Some(&context))(errno))
}

fn set_dir(context: &OwnedFd, key: &str, dir: &Dir, way: Way) -> rustix::io::Result<()> {
    if way == Way::Descriptors {
        fsconfig_set_fd(context, key, &dir.fd)
    } else {
        fsconfig_set_string(context, key, magic(dir.fd.as_fd()))
    }
}

/// A short path that leads to an open descriptor.
fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// An empty read-only file system.
fn empty() -> Result<OwnedFd, ImageError> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| failed("fsopen(\"tmpfs\")", 0, None)(errno))?;
    fsconfig_set_string(&context, "mode", "0755")
        .and_then(|()| fsconfig_create(&context))
        .map_err(failed("fsconfig(tmpfs)", 0, Some(&context)))?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
    .map_err(|errno| failed("fsmount(tmpfs)", 0, Some(&context))(errno))
}

fn failed<'a>(
    call: &str,
    layers: usize,
    context: Option<&'a OwnedFd>,
) -> impl FnOnce(Errno) -> ImageError + use<'a> {
    let call = call.to_owned();
    move |source| ImageError::Mount {
        call,
        layers,
        log: context.map(said).unwrap_or_default(),
        source,
    }
}

/// What the kernel has written into a context's log: `e overlay: …` lines.
fn said(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0_u8; 512];
    // Ends with ENODATA when all has been read.
    while let Ok(length) = rustix::io::read(context, &mut line) {
        if length == 0 || text.len() > 1000 {
            break;
        }
        text.push_str(String::from_utf8_lossy(&line[..length]).trim_end());
        text.push_str("; ");
    }
    text.trim_end_matches("; ").to_owned()
}

fn open(path: &Path) -> Result<Dir, ImageError> {
    let fd = rustix::fs::open(path, FLAGS, Mode::empty())
        .map_err(|errno| io_error("open(O_PATH|O_DIRECTORY|O_NOFOLLOW)", path)(errno.into()))?;
    let path = path.to_owned();
    Ok(Dir { path, fd })
}

/// Topmost first, as the kernel wants them.
fn open_all(layers: &[PathBuf], users: Option<BorrowedFd<'_>>) -> Result<Vec<Dir>, ImageError> {
    let mut opened = Vec::with_capacity(layers.len());
    for path in layers.iter().rev() {
        let dir = open(path)?;
        opened.push(match users {
            None => dir,
            Some(users) => mapped(dir, users)?,
        });
    }
    Ok(opened)
}

/// The same directory as a detached mount whose owners are mapped.
fn mapped(dir: Dir, users: BorrowedFd<'_>) -> Result<Dir, ImageError> {
    let call = |call: &str| failed(&format!("{call} of {}", dir.path.display()), 1, None);
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let fd = open_tree(&dir.fd, "", flags).map_err(call("open_tree(OPEN_TREE_CLONE)"))?;
    let text = "mount_setattr(MOUNT_ATTR_IDMAP), which its file system or this kernel may not support,";
    pausa_sys::map_mount_ids(fd.as_fd(), users).map_err(call(text))?;
    Ok(Dir { path: dir.path, fd })
}

/// Removes the mark of an earlier volatile mount, `work/incompat/volatile/dirty`: within one boot nothing can have been lost.
fn forget_volatile(dir: &Dir) -> Result<(), ImageError> {
    let inner = match rustix::fs::openat(&dir.fd, "work", FLAGS, Mode::empty()) {
        Ok(inner) => inner,
        // Never mounted.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(io_error("open(O_PATH)", &dir.path.join("work"))(errno.into())),
    };
    pausa_layer::remove_tree(inner.as_fd(), "incompat".as_ref()).map_err(|source| ImageError::Unpack {
        diff_id: dir.path.display().to_string(),
        source: Box::new(source),
    })
}

/// Whether containers can have a user namespace here: one can be made, and the kernel maps owners on what they are
/// mounted from, which are layers (tried in `scratch`, an empty directory on their file system) and tmpfs, where volumes
/// are. Blocks.
///
/// # Errors
/// The call that shows that they cannot.
pub fn check_user_namespaces(scratch: &Path) -> Result<(), ImageError> {
    // Any ids will do.
    let users = pausa_sys::user_namespace(65_536, 65_536)
        .map_err(|error| failed(&format!("user namespace: {}", error.call), 0, None)(error.errno))?;
    pausa_sys::map_mount_ids(empty()?.as_fd(), users.as_fd()).map_err(failed(
        "mount_setattr(tmpfs, MOUNT_ATTR_IDMAP)",
        0,
        None,
    ))?;
    let dirs = ["lower", "upper", "work"].map(|name| scratch.join(name));
    for dir in &dirs {
        std::fs::create_dir(dir).map_err(io_error("mkdir", dir))?;
    }
    let [lower, upper, work] = dirs;
    mount(&[lower], &upper, &work, Some(users.as_fd())).map(drop)
}

/// Whether proc and sysfs can be mounted in a user namespace; not so where parts of the node's own are hidden.
///
/// # Errors
/// The call that shows that they cannot.
pub fn check_mounts_inside() -> Result<(), ImageError> {
    pausa_sys::check_mounts_inside().map_err(|error| failed(error.call, 0, None)(error.errno))
}

#[cfg(test)]
mod tests;
