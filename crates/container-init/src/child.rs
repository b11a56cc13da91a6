//! The child's life from clone3 to `execve`: what it does in which order, and why in that order.
//!
//! * Undumpable first: until `execve` this process has the monitor's memory in it (CVE-2019-5736).
//! * cgroups before anything is allocated, so that the container pays for its own set-up, and before the
//!   cgroup namespace, which is rooted where the process is when it is made.
//! * oom_score_adj and labels through the host's procfs, while that is the one in sight.
//! * Bind sources before the mounts are cut off from the host's; then the root; then everything in it.
//! * Descriptors are closed before the first path of the container's choice is followed
//!   (working directory, command): there is no `/proc/self/fd/N` left to leave by (CVE-2024-21626).

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{ContainerPlan, ProcessPlan, Propagation};
use pausa_sys::{MountAttributes, NamespaceKinds};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::process::{DumpableBehavior, chdir, fchdir, pivot_root, set_dumpable_behavior, umask};

use crate::error::{At, Error, Step};
use crate::report::Reporter;
use crate::resolve::{self, Make};
use crate::{
    ContainerFds, PodContext, Streams, devices, masked_paths, mounts, namespaces, process, terminal, userns,
};

/// A container's first process.
pub(crate) fn run_init(
    plan: &ContainerPlan,
    root: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    pod: &PodContext<'_>,
    reporter: &mut Reporter,
) -> Result<Infallible, Error> {
    begin(&fds.cgroup_tasks)?;
    process::set_labels(&plan.process)?;
    {
        let prepared = match &fds.users {
            None => {
                namespaces::join(&plan.namespaces, pod)?;
                mounts::prepare(plan, fds, reporter)?
            }
            Some(inside) => {
                userns::give_streams(streams, inside.range, plan.process.uid);
                let prepared = mounts::prepare(plan, fds, reporter)?;
                userns::go_on_inside(inside, &plan.namespaces, pod, reporter)?;
                namespaces::join(&plan.namespaces, pod)?;
                prepared
            }
        };
        let slave = build_root(plan, root, prepared, fds.users.is_some(), reporter)?;
        let null = terminal::null(root, host_null()?);
        pivot(plan, root)?;
        terminal::install(streams, slave.as_ref(), null.as_fd(), plan.process.uid)?;
    }
    process::run(&plan.process, reporter)
}

/// One more process of a running container.
pub(crate) fn run_exec(
    plan: &ProcessPlan,
    container: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    reporter: &mut Reporter,
) -> Result<Infallible, Error> {
    begin(&fds.cgroup_tasks)?;
    process::set_labels(plan)?;
    {
        let host_null = host_null()?;
        if let Some(inside) = &fds.users {
            userns::give_streams(streams, inside.range, plan.uid);
        }
        // This also makes the container's root our root and working directory.
        let all = NamespaceKinds {
            mount: true,
            pid: false,
            ipc: true,
            uts: true,
            network: true,
            cgroup: true,
            user: fds.users.is_some(),
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
        let null = terminal::null(root.as_fd(), host_null);
        terminal::install(streams, slave.as_ref(), null.as_fd(), plan.uid)?;
    }
    process::run(plan, reporter)
}

fn begin(cgroup_tasks: &[BorrowedFd<'_>]) -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Undumpable)?;
    // Modes in the plan are meant as they are; the process's own mask comes last.
    umask(Mode::empty());
    for (index, tasks) in cgroup_tasks.iter().enumerate() {
        rustix::io::write(tasks, b"0").at_with(|| Step::EnterCgroup(index))?;
    }
    Ok(())
}

fn host_null() -> Result<OwnedFd, Error> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(Step::Streams("open(/dev/null)"))
}

/// Mounts, devices, hidden paths, terminal, working directory: everything that needs the host's view or
/// a writable root. Returns the terminal's slave.
fn build_root(
    plan: &ContainerPlan,
    root: BorrowedFd<'_>,
    prepared: mounts::PreparedMounts<'_>,
    in_user_namespace: bool,
    reporter: &Reporter,
) -> Result<Option<OwnedFd>, Error> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).at(Step::Detach)?;
    // On top of our own root directory, which pivot_root then takes away from below it; paths still
    // begin at the old one, so the host stays in view and no directory of it serves as a mount point.
    move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at(Step::AttachRoot)?;
    mounts::attach_all(plan, prepared, root)?;
    devices::populate(plan, root, in_user_namespace)?;
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

/// Makes the working directory where it is missing. On a read-only file system its absence shows at chdir.
fn make_working_directory(plan: &ProcessPlan, root: BorrowedFd<'_>) -> Result<(), Error> {
    match resolve::make(root, process::working_directory(plan), Make::Directory) {
        Ok(_) | Err(Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::LOOP) => Ok(()),
        Err(source) => Err(Error::Call {
            step: Step::MakeDirectory((&plan.cwd).into()),
            source,
        }),
    }
}

/// Makes `root` the root and lets go of the host's tree.
fn pivot(plan: &ContainerPlan, root: BorrowedFd<'_>) -> Result<(), Error> {
    fchdir(root).at(Step::Pivot("fchdir(root)"))?;
    // Both at the same place: the old root ends up on top of the new one, and "." is what is beneath.
    pivot_root(".", ".").at(Step::Pivot("pivot_root(., .)"))?;
    unmount(".", UnmountFlags::DETACH).at(Step::Pivot("umount2(., MNT_DETACH)"))?;
    chdir("/").at(Step::Pivot("chdir(/)"))?;
    if plan.root_propagation != Propagation::Private {
        // Not recursive: the mounts have their own. Only now, since pivot_root refuses shared mounts.
        mount_change("/", mounts::propagation_flag(plan.root_propagation))
            .at(Step::Pivot("mount(/, propagation)"))?;
    }
    Ok(())
}
