//! Detached overlay mounts of layer directories.
//!
//! A mount exists only as a file descriptor (`fsopen`, `fsconfig`, `fsmount`): it is not in the host's mount
//! table, and ends with the last descriptor or with the mount namespace that it was moved into. A killed
//! daemon leaves none behind.
//!
//! Layers are passed by descriptor, because `fsconfig` takes strings of at most 255 bytes, and a path may
//! contain `,` or `:`:
//!
//! | kernel | lower layers | upper and work |
//! |---|---|---|
//! | from 6.13 | `lowerdir+`, each a descriptor | descriptors |
//! | from 6.8 | `lowerdir+`, each `/proc/self/fd/N` | `/proc/self/fd/N` |
//! | before | `classic`: mount(2), whose options are at most a page long, in a private mount namespace, then cloned out of it | same |
//!
//! Options of all mounts:
//! * `index=off`, `metacopy=off`: otherwise overlayfs follows file handles and redirects in extended
//!   attributes. A layer comes from an image, so what it says about other layers must not be trusted; and the
//!   same layers are below many mounts at once.
//! * `redirect_dir=off`: for the same reason. Renaming a directory of a lower layer fails with EXDEV, and
//!   tools copy it instead.
//! * `volatile` (writable mounts only, from 5.10): fsync in a container does not reach the disk. A
//!   container's writable layer never survives a reboot (kubelet creates a new container), so making it
//!   durable would be wasted. The kernel refuses to mount such an upper directory again, because of a mark in
//!   it. The mark is removed here, so **the caller must not use an upper directory from before a reboot**.
//!
//! In a pod with a user namespace, the owners of an image's files are mapped: files of root in the image
//! belong to root of the namespace. The kernel does not map an overlay mount as a whole (EINVAL, at least up
//! to 6.18), but it stacks mapped layers (from 5.19): each lower directory is cloned as a separate mount and
//! mapped before it is stacked. The writable layer is not mapped: its files belong to ids outside the
//! namespace, its root directory to the namespace's root. Detached layers can be stacked from 6.15; before,
//! `classic` attaches them in its private mount namespace.
//!
//! `xino` keeps the kernel's default. Turning it off would make `st_dev` differ between files of one container.
//!
//! See <https://docs.kernel.org/filesystems/overlayfs.html>, fsopen(2), fsconfig(2), mount_setattr(2).

mod classic;
pub(crate) mod private_namespace;

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::error::{ImageError, io_error, tree_error};

/// Most layers that the kernel stacks (OVL_MAX_STACK).
const LAYERS_MAX: usize = 500;
/// Options of all mounts.
const OPTIONS: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

/// Flags for opening directories.
const FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How layers are passed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Linux 6.13 or later.
    Descriptors,
    /// Linux 6.8 or later.
    Strings,
    /// Any version.
    Classic,
}

struct Dir {
    path: PathBuf,
    fd: OwnedFd,
}

/// The directories to stack.
struct Stack {
    /// Topmost first.
    lower: Vec<Dir>,
    /// Whether the lower directories are detached mounts with mapped owners.
    mapped: bool,
    /// Upper and work directory.
    writable: Option<(Dir, Dir)>,
    /// SELinux's label for all files, instead of those that they have.
    label: Option<String>,
}

/// Mounts `layers` (lowest first, at least one) with the writable layer `upper`. `upper` and `work` must be
/// on one file system, and empty or from an earlier mount since boot. With a user namespace, the owners in
/// the layers are mapped to its ids. With SELinux's label, all files have it. Blocks.
///
/// # Errors
/// [`ImageError::Mount`], with the call and the messages of the kernel; [`ImageError::LayerCount`];
/// [`ImageError::Io`] if a directory cannot be opened.
pub(crate) fn mount(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    users: Option<BorrowedFd<'_>>,
    label: Option<&str>,
) -> Result<OwnedFd, ImageError> {
    if layers.is_empty() || layers.len() > LAYERS_MAX {
        return Err(ImageError::LayerCount {
            needed: "1 to 500",
            given: layers.len(),
        });
    }
    let work_dir = open(work)?;
    remove_volatile_mark(&work_dir)?;
    let stack = Stack {
        lower: open_all(layers, users)?,
        mapped: users.is_some(),
        writable: Some((open(upper)?, work_dir)),
        label: label.map(str::to_owned),
    };
    attempt(&stack, mount_with)
}

/// Mounts `layers` (lowest first) read-only, with owners mapped as in [`mount`]. The kernel needs at least
/// two layers: add an empty directory below a single one.
///
/// # Errors
/// As [`mount`].
pub(crate) fn mount_readonly(
    layers: &[PathBuf],
    users: Option<BorrowedFd<'_>>,
    label: Option<&str>,
) -> Result<OwnedFd, ImageError> {
    match layers {
        // An empty file system looks the same and needs no overlay.
        [only] if std::fs::read_dir(only).is_ok_and(|mut entries| entries.next().is_none()) => empty(label),
        _ if layers.len() < 2 || layers.len() > LAYERS_MAX => Err(ImageError::LayerCount {
            needed: "2 to 500",
            given: layers.len(),
        }),
        _ => {
            let stack = Stack {
                lower: open_all(layers, users)?,
                mapped: users.is_some(),
                writable: None,
                label: label.map(str::to_owned),
            };
            attempt(&stack, mount_with)
        }
    }
}

/// Tries the methods, beginning with the newest.
fn attempt(
    stack: &Stack,
    mount: impl Fn(&Stack, Method) -> Result<OwnedFd, ImageError>,
) -> Result<OwnedFd, ImageError> {
    let mut method = Method::Descriptors;
    loop {
        let mounted = mount(stack, method);
        let Err(ImageError::Mount { source, .. }) = mounted else {
            return mounted;
        };
        match older(method, source) {
            Some(older) => method = older,
            None => return mounted,
        }
        // The kernel marks the directory before it checks the layers.
        if let Some((_, work)) = &stack.writable {
            remove_volatile_mark(work)?;
        }
    }
}

/// The method to try after one was refused, or `None` if the refusal has other reasons than an old kernel.
fn older(method: Method, refusal: Errno) -> Option<Method> {
    match (method, refusal) {
        // Before 6.5, overlayfs takes only strings, and only as options of mount(2).
        (Method::Descriptors, Errno::OPNOTSUPP) => Some(Method::Classic),
        (Method::Descriptors, Errno::INVAL | Errno::BADF) => Some(Method::Strings),
        (Method::Strings, Errno::INVAL) => Some(Method::Classic),
        _ => None,
    }
}

fn mount_with(stack: &Stack, method: Method) -> Result<OwnedFd, ImageError> {
    if method == Method::Classic {
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
    if let Some(label) = &stack.label {
        fsconfig_set_string(&context, "context", label.as_str()).map_err(call("context"))?;
    }
    for layer in &stack.lower {
        set_dir(&context, "lowerdir+", layer, method).map_err(call("lowerdir+"))?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    if let Some((upper, work)) = &stack.writable {
        attributes = MountAttrFlags::empty();
        set_dir(&context, "upperdir", upper, method).map_err(call("upperdir"))?;
        set_dir(&context, "workdir", work, method).map_err(call("workdir"))?;
        fsconfig_set_flag(&context, "volatile").map_err(call("volatile"))?;
    }
    fsconfig_create(&context).map_err(call("FSCONFIG_CMD_CREATE"))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| failed("fsmount(overlay)", layers, Some(&context))(errno))
}

fn set_dir(context: &OwnedFd, key: &str, dir: &Dir, method: Method) -> rustix::io::Result<()> {
    if method == Method::Descriptors {
        fsconfig_set_fd(context, key, &dir.fd)
    } else {
        fsconfig_set_string(context, key, fd_path(dir.fd.as_fd()))
    }
}

/// A short path of an open descriptor.
fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// An empty read-only file system.
fn empty(label: Option<&str>) -> Result<OwnedFd, ImageError> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| failed("fsopen(\"tmpfs\")", 0, None)(errno))?;
    fsconfig_set_string(&context, "mode", "0755")
        .and_then(|()| label.map_or(Ok(()), |label| fsconfig_set_string(&context, "context", label)))
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
        log: context.map(kernel_log).unwrap_or_default(),
        source,
    }
}

/// The log of a file system context: lines such as `e overlay: …`.
fn kernel_log(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0_u8; 512];
    // Ends with ENODATA after the last line.
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
    pausa_sys::map_mount_ids(fd.as_fd(), users, false).map_err(call(text))?;
    Ok(Dir { path: dir.path, fd })
}

/// Removes the mark of an earlier volatile mount, `work/incompat/volatile/dirty`. Within one boot, no data
/// can have been lost.
fn remove_volatile_mark(dir: &Dir) -> Result<(), ImageError> {
    let inner = match rustix::fs::openat(&dir.fd, "work", FLAGS, Mode::empty()) {
        Ok(inner) => inner,
        // It was never mounted.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(io_error("open(O_PATH)", &dir.path.join("work"))(errno.into())),
    };
    let mark = dir.path.join("work/incompat");
    pausa_layer::remove_tree(inner.as_fd(), "incompat".as_ref()).map_err(tree_error("remove", &mark))
}

/// Checks whether containers can have a user namespace: one can be created, and the kernel maps owners on the
/// file systems of layers and of volumes. Layers are tried in `scratch`, an empty directory on their file
/// system; volumes are on tmpfs. Blocks.
///
/// # Errors
/// The call that fails.
pub(crate) fn check_user_namespaces(scratch: &Path) -> Result<(), ImageError> {
    // Any ids will do.
    let users = pausa_sys::user_namespace(65_536, 65_536)
        .map_err(|error| failed(&format!("user namespace: {}", error.call), 0, None)(error.errno))?;
    pausa_sys::map_mount_ids(empty(None)?.as_fd(), users.as_fd(), false).map_err(failed(
        "mount_setattr(tmpfs, MOUNT_ATTR_IDMAP)",
        0,
        None,
    ))?;
    let dirs = ["lower", "upper", "work"].map(|name| scratch.join(name));
    for dir in &dirs {
        std::fs::create_dir(dir).map_err(io_error("mkdir", dir))?;
    }
    let [lower, upper, work] = dirs;
    mount(&[lower], &upper, &work, Some(users.as_fd()), None).map(drop)
}

/// Checks whether proc and sysfs can be mounted in a user namespace. The kernel refuses that if parts of the
/// node's own are hidden.
///
/// # Errors
/// The call that fails.
pub(crate) fn check_mounts_inside() -> Result<(), ImageError> {
    pausa_sys::check_mounts_inside().map_err(|error| failed(error.call, 0, None)(error.errno))
}

#[cfg(test)]
mod tests;
