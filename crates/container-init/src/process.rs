//! The last steps, in the finished root: limits, identity, capabilities, seccomp filter, exec.
//!
//! Without no_new_privs, loading a seccomp filter needs CAP_SYS_ADMIN. So it is loaded before user and capabilities
//! change, and has to allow the calls for that (setgroups, setresgid, setresuid, capset, prctl). With no_new_privs it is
//! loaded last, and only has to allow `execve`.
//!
//! # Entering a PID namespace
//! A process in a PID namespace with other processes is at their mercy from its first instruction: with CAP_SYS_PTRACE they
//! can take its descriptors, follow its root, read its memory and make it do what it may do. So nothing happens inside:
//!
//! ```text
//!   child, outside of the PID namespace                  last child, inside
//!   root, streams, limits, user, capabilities, filter
//!   clone(CLONE_PARENT) ─────────────────────────────▶   waits until the monitor knows it
//!   reports its process id, exits                        setsid, execve
//! ```
//!
//! The last child has root, identity and filter of the container, no descriptor but its streams and the report socket, and
//! no memory of the monitor's (`pausa_sys::clone_bare`).
//!
//! A filter that forbids any of these few calls is loaded by the last child itself, which until then may do more than the
//! container. Such a profile is only of use for programs that never fork.

mod capabilities;
mod command;
mod filter;
mod limits;
mod scheduling;

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};

use pausa_monitor_protocol::{ExtendedPlan, ProcessPlan};
use pausa_sys::{BareCloneArgs, ChildMemory, CloneArgs};
use rustix::fs::{Gid, Mode, OFlags, Uid, open};
use rustix::io::Errno;
use rustix::process::{chdir, getcwd, getpid, umask};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{At, Error, Step};
use crate::hooks::{HookStage, Hooks};
use crate::pending::continue_in_sibling;
use crate::report::{self, Reporter, Stage};
use crate::terminal::start_session;
pub(crate) use command::Command;

/// Which process executes the command.
#[derive(Debug)]
pub(crate) enum LastProcess {
    /// This one.
    This,
    /// A child in a PID namespace with other processes, which this process has joined. With the host's `/proc/self/maps`.
    Child { maps: File },
}

impl LastProcess {
    /// `/proc` must be the host's.
    pub(crate) fn new(joins_pid_namespace: bool) -> Result<Self, Error> {
        if !joins_pid_namespace {
            return Ok(Self::This);
        }
        let maps = open("/proc/self/maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let maps = maps.at(Step::ChildMemory)?.into();
        Ok(Self::Child { maps })
    }
}

/// Sets oom_score_adj through procfs, while that is the host's and the process is the host's root.
pub(crate) fn set_oom_score(plan: &ProcessPlan) -> Result<(), Error> {
    plan.oom_score_adj.map_or(Ok(()), limits::set_oom_score)
}

/// Sets security labels through procfs, while that is the host's. They take effect at every `execve` from now on.
pub(crate) fn set_labels(plan: &ProcessPlan) -> Result<(), Error> {
    if let Some(profile) = &plan.apparmor {
        let label = || Step::Label {
            kind: "AppArmor profile",
            label: profile.clone(),
            file: "apparmor/exec",
        };
        let text = format!("exec {profile}");
        // AppArmor's own directory exists since Linux 5.8. Before, AppArmor uses the common file.
        match write_attribute("/proc/thread-self/attr/apparmor/exec", &text) {
            Err(Errno::NOENT) => write_attribute("/proc/thread-self/attr/exec", &text).at_with(label)?,
            other => other.at_with(label)?,
        }
    }
    if let Some(label) = &plan.selinux {
        // `keycreate` is for the session keyring that is made below: the process could not use one with our label.
        for file in ["exec", "keycreate"] {
            let path = format!("/proc/thread-self/attr/{file}");
            write_attribute(&path, label).at_with(|| Step::Label {
                kind: "SELinux label",
                label: label.clone(),
                file,
            })?;
        }
    }
    Ok(())
}

fn write_attribute(path: &str, text: &str) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// Becomes the plan's process. Root, mounts and streams are in place, and the caller holds no descriptor of its own.
pub(crate) fn run(
    plan: &ProcessPlan,
    extensions: Option<&ExtendedPlan>,
    terminal: bool,
    last: LastProcess,
    reporter: &mut Reporter,
) -> Result<Infallible, Error> {
    let memory = ChildMemory::new().at(Step::ChildMemory)?;
    let name = plan.args.first().ok_or(Error::NoCommand)?;
    let command = Command::prepare(name, &plan.args, &plan.env, &memory)?;
    let in_bare_child = match last {
        LastProcess::This => false,
        LastProcess::Child { maps } if permits_bare_child(plan, terminal) => {
            #[expect(unsafe_code, reason = "later children lack memory")]
            // SAFETY: the only child made from here on is the bare one below.
            let withheld = unsafe { memory.withhold_the_rest(maps) };
            withheld.at(Step::ChildMemory)?;
            true
        }
        LastProcess::Child { .. } => {
            continue_in_sibling(&CloneArgs::default(), Stage::Last, reporter)?;
            false
        }
    };
    if !in_bare_child {
        start_session(terminal).map_err(|(errno, step)| Error::NotExecuted {
            errno,
            step: step.to_owned(),
        })?;
    }
    #[expect(unsafe_code, reason = "closes descriptors by number")]
    // SAFETY: in the child the only values that own descriptors above 2 are the reporter, which keeps its own, and copies
    // of the parent's values, which the child never uses or drops: it ends by execve or exit_now. `child` has
    // closed its own descriptors before this call.
    let closed = unsafe { reporter.keep_only() };
    closed.at(Step::CloseAll(4))?;
    match pausa_sys::new_session_keyring() {
        // The kernel has no keyrings, or an outer seccomp filter forbids them: then there are no keys to hide.
        Err(Errno::NOSYS | Errno::PERM) => {}
        other => other.at(Step::Keyring)?,
    }
    pausa_sys::reset_signals().at(Step::Signals)?;
    for limit in &plan.rlimits {
        limits::set(limit)?;
    }
    if let Some(extensions) = extensions {
        scheduling::apply(&extensions.scheduling)?;
    }
    let hooks = match extensions {
        Some(extensions) if !extensions.hooks.start_container.is_empty() => {
            // Of a process that is not made yet there is no id.
            let pid = if in_bare_child { 0 } else { getpid().as_raw_pid() };
            Some(Hooks::prepare(
                HookStage::StartContainer,
                &extensions.hooks,
                pid,
                &memory,
            )?)
        }
        _ => None,
    };
    umask(Mode::from_raw_mode(plan.umask & 0o777));
    let held = capabilities::drop_bounding(plan)?;
    // First as root, since a directory that only root may enter is allowed. If that fails, again as the user: on some
    // network file systems only the user may enter.
    let entered = enter_directory(plan);
    if !plan.no_new_privs {
        report_ready(reporter, hooks.as_ref());
        load_filter(plan)?;
    }
    become_user(plan)?;
    capabilities::set(plan, held)?;
    if matches!(entered, Err(Error::Call { .. })) {
        enter_directory(plan)?;
    } else {
        entered?;
    }
    if plan.no_new_privs {
        set_no_new_privs(true).at(Step::NoNewPrivileges)?;
        report_ready(reporter, hooks.as_ref());
        load_filter(plan)?;
    }
    if let Some(hooks) = hooks {
        hooks.run(&memory, reporter)?;
        reporter.ready();
    }
    if in_bare_child {
        exec_in_bare_child(command, terminal, &memory, reporter)
    } else {
        let failed = command.exec();
        Err(Error::NotExecuted {
            errno: failed.errno,
            step: [failed.step, failed.hint].concat(),
        })
    }
}

/// Before a filter that may forbid it. With hooks, more than execve is left.
fn report_ready(reporter: &Reporter, hooks: Option<&Hooks<'_>>) {
    if hooks.is_none() {
        reporter.ready();
    }
}

fn permits_bare_child(plan: &ProcessPlan, terminal: bool) -> bool {
    let filter = plan.seccomp.as_ref();
    filter.is_none_or(|filter| filter::permits_bare_child(filter, terminal))
}

fn load_filter(plan: &ProcessPlan) -> Result<(), Error> {
    plan.seccomp.as_ref().map_or(Ok(()), filter::load)
}

/// What a bare child has to do.
#[derive(Debug, Clone, Copy)]
struct LastSteps<'a> {
    command: Command<'a>,
    terminal: bool,
    reports: RawFd,
}

/// Executes the command in a child in the PID namespace that was joined. Returns only if there is no child.
fn exec_in_bare_child(
    command: Command<'_>,
    terminal: bool,
    memory: &ChildMemory,
    reporter: &Reporter,
) -> Result<Infallible, Error> {
    let steps = LastSteps {
        command,
        terminal,
        reports: reporter.socket().ok_or(Errno::BADF).at(Step::HandOver)?,
    };
    let args = BareCloneArgs {
        sibling: true,
        ..BareCloneArgs::default()
    };
    #[expect(unsafe_code, reason = "the child lacks most memory")]
    // SAFETY: this process has one thread, see `continue_in_sibling`. `steps` refers only to `memory`. `take_last_steps` makes
    // system calls through rustix, which does not use the C library, and allocates nothing.
    let child = unsafe { pausa_sys::clone_bare(args, memory, steps, take_last_steps) };
    let pid = child.at(Step::Clone("CLONE_PARENT, in the PID namespace"))?;
    reporter.hand_over(pid, Stage::Last);
    pausa_sys::exit_now(0)
}

/// Runs in the bare child. Returns the exit status.
fn take_last_steps(steps: &LastSteps<'_>) -> i32 {
    #[expect(unsafe_code, reason = "a descriptor by number")]
    // SAFETY: the reporter's socket was open when this child was cloned, and nothing here closes it.
    let reports = unsafe { BorrowedFd::borrow_raw(steps.reports) };
    // Fails if the parent has died.
    if report::wait_to_be_known(reports).is_err() {
        return 1;
    }
    if let Err((errno, step)) = start_session(steps.terminal) {
        report::failure_of_bare_child(reports, errno, &[step]);
        return 1;
    }
    let failed = steps.command.exec();
    report::failure_of_bare_child(reports, failed.errno, &[failed.step, failed.hint]);
    1
}

/// Enters the working directory, which must lie inside the root.
fn enter_directory(plan: &ProcessPlan) -> Result<(), Error> {
    chdir(working_directory(plan)).at_with(|| Step::WorkingDirectory((&plan.cwd).into()))?;
    stay_inside(plan)
}

/// The plan's working directory; the root if it has none.
pub(crate) fn working_directory(plan: &ProcessPlan) -> &[u8] {
    if plan.cwd.is_empty() { b"/" } else { &plan.cwd }
}

fn become_user(plan: &ProcessPlan) -> Result<(), Error> {
    let groups: Vec<Gid> = plan.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).at_with(|| Step::Groups(groups.len()))?;
    let gid = Gid::from_raw(plan.gid);
    set_thread_res_gid(gid, gid, gid).at(Step::Group(plan.gid))?;
    let uid = Uid::from_raw(plan.uid);
    set_thread_res_uid(uid, uid, uid).at(Step::User(plan.uid))
}

/// Refuses a working directory outside the root, for which getcwd(2) returns "(unreachable)…".
fn stay_inside(plan: &ProcessPlan) -> Result<(), Error> {
    match getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().first() != Some(&b'/') => {
            Err(Error::OutsideDirectory((&plan.cwd).into()))
        }
        // ENOENT: deleted meanwhile. ENAMETOOLONG, EACCES: the path cannot be returned. None of them means outside.
        Err(Errno::NOENT | Errno::NAMETOOLONG | Errno::ACCESS) | Ok(_) => Ok(()),
        Err(source) => Err(Error::Call {
            step: Step::WorkingDirectory((&plan.cwd).into()),
            source,
        }),
    }
}
