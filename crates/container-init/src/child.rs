//! The steps of the child from clone3 to `execve`, and the reasons for their order.
//!
//! * Undumpable first: until `execve` this process holds a copy of the monitor's memory (CVE-2019-5736).
//! * cgroups before anything is allocated, so that the set-up is charged to the container, and before the cgroup
//!   namespace, whose root is the cgroup that the process is in when the namespace is made.
//! * oom_score_adj and labels through the host's procfs, while that is the visible one.
//! * Bind sources while the mount namespace is the host's. Then it is a copy of a small one, so that the cost does not
//!   depend on what is mounted on the node; then the root, then everything in it.
//! * Descriptors are closed before the first path of the container's choice is followed (working directory, command), so
//!   that no `/proc/self/fd/N` leads out of the container (CVE-2024-21626).

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{ContainerPlan, ExtendedPlan, HookPlan, ProcessPlan, Propagation};
use pausa_sys::{MountAttributes, NamespaceKinds};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::process::{DumpableBehavior, chdir, chroot, fchdir, pivot_root, set_dumpable_behavior, umask};

use crate::error::{At, Error, Step};
use crate::mount_ops::propagation_flag;
use crate::process::LastProcess;
use crate::report::Reporter;
use crate::resolve::{self, Make};
use crate::{
    ContainerFds, PodContext, Streams, cgroup, devices, hooks, masked_paths, mounts, namespaces, process,
    terminal, userns,
};

/// Runs a container's first process.
pub(crate) fn run_init(
    extended: &ExtendedPlan,
    root: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    pod: &PodContext<'_>,
    reporter: &mut Reporter,
) -> Result<Infallible, Error> {
    let plan = &extended.container;
    let base = match hooks::see_the_host(&extended.hooks) {
        true => Base::Host(&extended.hooks),
        false => Base::Small,
    };
    begin()?;
    for (index, tasks) in fds.cgroup_tasks.iter().enumerate() {
        rustix::io::write(tasks, b"0").at_with(|| Step::EnterCgroup(index))?;
    }
    process::set_oom_score(&plan.process)?;
    if matches!(base, Base::Small) {
        process::set_labels(&plan.process)?;
    }
    let last = {
        let joined = namespaces::joined_pid(&plan.namespaces, pod)?;
        if let Some(userns) = &fds.userns {
            userns::give_streams(streams, userns.range, plan.process.uid);
        }
        let prepared = mounts::prepare(plan, fds, joined.as_ref(), reporter)?;
        let files = namespaces::Files::open(&plan.namespaces)?;
        if matches!(base, Base::Small) {
            namespaces::enter_base_mounts(pod)?;
        }
        match &fds.userns {
            None => pausa_sys::unshare_mounts().at(Step::BaseMounts("unshare(CLONE_NEWNS)"))?,
            Some(userns) => userns::continue_in_second_child(userns, &plan.namespaces, reporter)?,
        }
        namespaces::join(&plan.namespaces, pod, &files)?;
        let last = LastProcess::new(joined.is_some())?;
        mount_root(plan, base, root, prepared, fds.userns.is_some())?;
        if let Base::Host(hooks) = base {
            hooks::run_before_root(hooks, reporter)?;
            process::set_labels(&plan.process)?;
        }
        if let Some(joined) = joined {
            joined.enter()?;
        }
        let slave = complete_root(plan, root, reporter)?;
        let host_null = fds.userns.is_some().then(host_null).transpose()?;
        let null = terminal::null(root, host_null)?;
        enter_root(plan, base, root, fds.userns.is_some())?;
        terminal::install(streams, slave.as_ref(), null.as_fd(), plan.process.uid)?;
        last
    };
    let terminal = plan.process.terminal || plan.io.terminal;
    process::run(&plan.process, Some(extended), terminal, last, reporter)
}

/// What a container's mounts grow from.
#[derive(Debug, Clone, Copy)]
enum Base<'a> {
    /// [`pausa_sys::base_mounts`], which costs the same on every node.
    Small,
    /// A copy of the host's mounts, for hooks that run before the container's root is the root.
    Host(&'a HookPlan),
}

/// Runs one more process in a running container.
pub(crate) fn run_exec(
    plan: &ProcessPlan,
    container: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    reporter: &mut Reporter,
) -> Result<Infallible, Error> {
    begin()?;
    for (index, tasks) in fds.cgroup_tasks.iter().enumerate() {
        cgroup::enter(*tasks, b"0").at_with(|| Step::EnterCgroup(index))?;
    }
    if let (Some(birth), None) = (&fds.birth, &fds.cgroup_dir) {
        // Out of the container's in the hierarchy of pids: the last process is made here.
        rustix::io::write(birth, b"0").at(Step::EnterBirth)?;
    }
    process::set_oom_score(plan)?;
    process::set_labels(plan)?;
    let last = LastProcess::new(true)?;
    {
        let host_null = fds.userns.is_some().then(host_null).transpose()?;
        if let Some(userns) = &fds.userns {
            userns::give_streams(streams, userns.range, plan.uid);
        }
        // Joining a mount namespace also makes its root the root and working directory of this process. The PID namespace is
        // that of later children.
        let all = NamespaceKinds {
            mount: true,
            pid: true,
            ipc: true,
            uts: true,
            network: true,
            cgroup: true,
            user: fds.userns.is_some(),
        };
        pausa_sys::join_by_pidfd(container, all).at(Step::JoinContainer)?;
        if all.user {
            userns::become_root()?;
        }
        let root = open(
            "/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at(Step::JoinContainer)?;
        make_working_directory(plan, root.as_fd())?;
        let slave = match plan.terminal {
            true => Some(terminal::open(root.as_fd(), plan.terminal_size, reporter)?),
            false => None,
        };
        let null = terminal::null(root.as_fd(), host_null)?;
        terminal::install(streams, slave.as_ref(), null.as_fd(), plan.uid)?;
    }
    process::run(plan, None, plan.terminal, last, reporter)
}

pub(crate) fn begin() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Undumpable)?;
    // The modes in the plan are not masked. The process's own mask is set last.
    umask(Mode::empty());
    Ok(())
}

fn host_null() -> Result<OwnedFd, Error> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(Step::Streams("open(/dev/null)"))
}

/// Attaches the root and what is mounted in it.
fn mount_root(
    plan: &ContainerPlan,
    base: Base<'_>,
    root: BorrowedFd<'_>,
    prepared: mounts::PreparedMounts<'_>,
    in_user_namespace: bool,
) -> Result<(), Error> {
    let place = match base {
        // On top of our own root directory. Paths still start at that, so the host's devices stay visible.
        Base::Small => b"/",
        Base::Host(hooks) => {
            // Nothing of ours appears on the host, and what the host unmounts meanwhile does not stay in use here.
            let slave = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
            mount_change("/", slave).at(Step::BaseMounts("mount(/, MS_REC|MS_SLAVE)"))?;
            hooks.root.as_slice()
        }
    };
    move_mount(root, c"", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at_with(|| Step::AttachRoot(place.into()))?;
    mounts::attach_all(plan, prepared, root)?;
    devices::populate(plan, root, in_user_namespace)
}

/// Completes the root: masked paths, terminal, working directory. All of it needs a writable root or sight of the host's
/// devices. Returns the terminal's slave.
fn complete_root(
    plan: &ContainerPlan,
    root: BorrowedFd<'_>,
    reporter: &Reporter,
) -> Result<Option<OwnedFd>, Error> {
    masked_paths::apply(plan, root)?;
    let slave = match plan.process.terminal || plan.io.terminal {
        true => {
            let slave = terminal::open(root, plan.process.terminal_size, reporter)?;
            terminal::bind_console(root, slave.as_fd())?;
            Some(slave)
        }
        false => None,
    };
    make_working_directory(&plan.process, root)?;
    if plan.root_readonly {
        let attributes = MountAttributes {
            set: 1,
            ..MountAttributes::default()
        };
        pausa_sys::mount_setattr(root, &attributes).at(Step::ReadonlyRoot)?;
    }
    Ok(slave)
}

/// Makes the working directory if it is missing. On a read-only file system chdir later reports its absence.
fn make_working_directory(plan: &ProcessPlan, root: BorrowedFd<'_>) -> Result<(), Error> {
    match resolve::make(root, process::working_directory(plan), Make::Directory) {
        Ok(_) | Err(Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::LOOP) => Ok(()),
        Err(source) => Err(Error::Call {
            step: Step::MakeDirectory((&plan.cwd).into()),
            source,
        }),
    }
}

/// Makes `root` the root and detaches the base mounts.
///
/// pivot_root(2) goes through all processes of the node, in case that one has the old root as its own. So the root stays
/// on top of the base's root directory, which is empty by then: what is below a root on top of another one cannot be
/// reached, and exec joins the upper one. In a user namespace the base cannot be unmounted alone, and a copy of the host's
/// mounts has more in it.
fn enter_root(
    plan: &ContainerPlan,
    base: Base<'_>,
    root: BorrowedFd<'_>,
    in_user_namespace: bool,
) -> Result<(), Error> {
    if in_user_namespace || matches!(base, Base::Host(_)) {
        fchdir(root).at(Step::EnterRoot("fchdir(root)"))?;
        // With both arguments equal, the old root ends up on top of the new one and is unmounted from there (pivot_root(2)).
        pivot_root(".", ".").at(Step::EnterRoot("pivot_root(., .)"))?;
        unmount(".", UnmountFlags::DETACH).at(Step::EnterRoot("umount2(., MNT_DETACH)"))?;
    } else {
        pausa_sys::forget_host().at(Step::EnterRoot("umount2(/host, MNT_DETACH)"))?;
        fchdir(root).at(Step::EnterRoot("fchdir(root)"))?;
        chroot(".").at(Step::EnterRoot("chroot(.)"))?;
    }
    chdir("/").at(Step::EnterRoot("chdir(/)"))?;
    if plan.root_propagation != Propagation::Private {
        // Not recursive, since each mount has its own propagation. Not earlier, since pivot_root(2) refuses shared mounts.
        mount_change("/", propagation_flag(plan.root_propagation))
            .at(Step::EnterRoot("mount(/, propagation)"))?;
    }
    Ok(())
}
