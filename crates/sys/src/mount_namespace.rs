//! Mount namespaces (mount_namespaces(7)): a small one that containers' mounts grow from, and short visits to another one.
//!
//! A new mount namespace is a copy of its maker's, mount by mount, and on a node there are thousands. So a container's is a
//! copy of [`base_mounts`] instead, which costs the same on every node.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, open, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change,
    move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::mount::{MountAttributes, mount_setattr, new_file_system};

/// What is visible in [`base_mounts`].
const VISIBLE: [&str; 3] = ["proc", "sys", "dev"];

/// What [`forget_host`] unmounts.
const HOST: &str = "host";

/// Which call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}")]
pub struct MountNamespaceError {
    /// The call with its arguments.
    pub call: String,
    /// Why the kernel refused it.
    #[source]
    pub errno: Errno,
}

fn at(call: impl Into<String>) -> impl FnOnce(Errno) -> MountNamespaceError {
    let call = call.into();
    move |errno| MountNamespaceError { call, errno }
}

/// Makes a mount namespace in which there is nothing but the caller's `/proc`, `/sys` and `/dev`, without what is mounted
/// below them, in a read-only root. Nothing that is mounted elsewhere later appears in it. It lives as long as the descriptor.
///
/// The three are links into one mount, so that [`forget_host`] is one step.
///
/// The calling thread shares its root and working directory with no other thread any more.
///
/// # Errors
/// The call that failed. The calling thread is then in the mount namespace in which it was, unless the call is that to return.
pub fn base_mounts() -> Result<OwnedFd, MountNamespaceError> {
    let home = Home::remember().map_err(at("open(/proc/thread-self/ns/mnt), open(/), open(.)"))?;
    unshare_mounts().map_err(at("unshare(CLONE_NEWNS)"))?;
    let made = reduce().and_then(|()| namespace().map_err(at("open(/proc/thread-self/ns/mnt)")));
    home.enter().map_err(at("setns(CLONE_NEWNS), chroot(2)"))?;
    made
}

/// Calls `act` in a mount namespace, in its root directory. Only for a process with one thread, or a thread that shares its
/// root and working directory with no other.
///
/// # Errors
/// The errno of setns(2), or of a call that is needed to return; then the caller must not go on.
pub fn in_mount_namespace<T>(namespace: BorrowedFd<'_>, act: impl FnOnce() -> T) -> Result<T, Errno> {
    let home = Home::remember()?;
    join(namespace)?;
    let result = act();
    home.enter()?;
    Ok(result)
}

/// In a copy of [`base_mounts`] whose root directory is the caller's: removes all that is in it, so that only an empty,
/// read-only directory is left.
///
/// # Errors
/// The errno of umount2(2): EINVAL in a mount namespace of a user namespace, where the mounts are locked.
pub fn forget_host() -> Result<(), Errno> {
    unmount(format!("/{HOST}"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// Gives the calling thread a copy of its mount namespace.
///
/// # Errors
/// The errno of unshare(2).
pub fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWNS, which implies CLONE_FS, does not affect the descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
}

/// A mount namespace with a root and working directory, to return to. Joining a mount namespace makes its root both of them.
struct Home {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Home {
    fn remember() -> Result<Self, Errno> {
        let directory = |path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            open(path, flags, Mode::empty())
        };
        Ok(Self {
            namespace: namespace()?,
            root: directory("/")?,
            directory: directory(".")?,
        })
    }

    fn enter(self) -> Result<(), Errno> {
        join(self.namespace.as_fd())?;
        fchdir(&self.root)?;
        chroot(".")?;
        fchdir(&self.directory)
    }
}

fn namespace() -> Result<OwnedFd, Errno> {
    open(
        "/proc/thread-self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn join(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
}

/// Reduces the mounts of the calling thread's namespace to the base.
fn reduce() -> Result<(), MountNamespaceError> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).map_err(at("mount(/, MS_REC|MS_PRIVATE)"))?;
    let mut trees = Vec::with_capacity(VISIBLE.len());
    for name in VISIBLE {
        let path = format!("/{name}");
        let tree = without_what_is_below(&path).map_err(at(format!("open_tree({path}, OPEN_TREE_CLONE)")))?;
        trees.push((name, tree));
    }
    let new_tmpfs = || {
        let options = [("source", "pausa"), ("mode", "555")];
        new_file_system("tmpfs", &options).map_err(at("fsmount(tmpfs)"))
    };
    let (root, host) = (new_tmpfs()?, new_tmpfs()?);
    // The new root goes on top of the old one, and the old one then on top of that, from where it is unmounted
    // (pivot_root(2)). Before Linux 6.15 nothing can be mounted in the new root until it is attached.
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(at("move_mount(root, /)"))?;
    mount_in(&root, HOST, &host)?;
    for (name, tree) in trees {
        mount_in(&host, name, &tree)?;
        symlinkat(format!("{HOST}/{name}"), &root, name).map_err(at(format!("symlinkat({name})")))?;
    }
    for mount in [&root, &host] {
        let attributes = MountAttributes {
            set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
            ..MountAttributes::default()
        };
        mount_setattr(mount.as_fd(), &attributes).map_err(at("mount_setattr(MOUNT_ATTR_RDONLY)"))?;
    }
    fchdir(&root).map_err(at("fchdir(root)"))?;
    pivot_root(".", ".").map_err(at("pivot_root(., .)"))?;
    unmount(".", UnmountFlags::DETACH).map_err(at("umount2(., MNT_DETACH)"))?;
    chdir("/").map_err(at("chdir(/)"))
}

fn mount_in(parent: &OwnedFd, name: &str, mount: &OwnedFd) -> Result<(), MountNamespaceError> {
    mkdirat(parent, name, Mode::from_raw_mode(0o555)).map_err(at(format!("mkdirat({name})")))?;
    move_mount(mount, "", parent, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(at(format!("move_mount({name})")))
}

fn without_what_is_below(path: &str) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match open_tree(CWD, path, flags) {
        // In a user namespace the kernel does not show what its maker has mounted over.
        Err(Errno::INVAL) => open_tree(CWD, path, flags | OpenTreeFlags::AT_RECURSIVE),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// In threads of their own, whose mount namespace may change.
    fn in_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(act).join().expect("no panic")
    }

    fn mount_points() -> Vec<String> {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("procfs");
        let point = |line: &str| line.split(' ').nth(4).expect("a mount point").to_owned();
        table.lines().map(point).collect()
    }

    #[test]
    #[ignore = "needs root"]
    fn the_base_has_nothing_of_the_host_but_kernel_file_systems() {
        let (before, inside, after) = in_thread(|| {
            let before = mount_points();
            let base = base_mounts().expect("the base");
            let inside = in_mount_namespace(base.as_fd(), mount_points).expect("a visit");
            (before, inside, mount_points())
        });
        let inside: BTreeSet<String> = inside.into_iter().collect();
        assert_eq!(
            inside,
            ["/", "/host", "/host/dev", "/host/proc", "/host/sys"]
                .map(str::to_owned)
                .into()
        );
        assert_eq!(before, after);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_visit_ends_where_it_began() {
        in_thread(|| {
            unshare_mounts().expect("a copy");
            std::env::set_current_dir("/usr").expect("a directory");
            let base = base_mounts().expect("the base");
            let inside = in_mount_namespace(base.as_fd(), std::env::current_dir).expect("a visit");
            assert_eq!(inside.expect("a directory"), std::path::Path::new("/"));
            assert_eq!(
                std::env::current_dir().expect("a directory"),
                std::path::Path::new("/usr")
            );
            assert!(mount_points().len() > 5);
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn nothing_is_left_of_the_host() {
        in_thread(|| {
            let base = base_mounts().expect("the base");
            let left = in_mount_namespace(base.as_fd(), || {
                unshare_mounts().expect("a copy");
                let procfs = open("/proc", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("procfs");
                forget_host().expect("unmounted");
                let table =
                    rustix::fs::openat(&procfs, "thread-self/mountinfo", OFlags::RDONLY, Mode::empty());
                let table =
                    std::io::read_to_string(std::fs::File::from(table.expect("procfs"))).expect("text");
                (
                    table.lines().count(),
                    std::fs::read_dir("/host").expect("a directory").count(),
                )
            });
            assert_eq!(left, Ok((1, 0)));
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn the_base_is_read_only() {
        in_thread(|| {
            let base = base_mounts().expect("the base");
            for path in ["/x", "/host/x"] {
                let made = in_mount_namespace(base.as_fd(), || mkdirat(CWD, path, Mode::RWXU));
                assert_eq!(made, Ok(Err(Errno::ROFS)));
            }
        });
    }
}
