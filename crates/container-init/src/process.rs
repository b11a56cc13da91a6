//! From a finished root to the command: limits, identity, capabilities, filter, exec.
//!
//! The seccomp filter of a process that may gain privileges needs CAP_SYS_ADMIN to be loaded and so goes
//! before the user and the capabilities, which it has to allow (setgroups, setresgid, setresuid, capset,
//! prctl); with no_new_privs it goes last, and has to allow `execve` only.

mod capabilities;
mod command;
mod limits;

use std::convert::Infallible;

use pausa_monitor_protocol::ProcessPlan;
use pausa_sys::SeccompError;
use rustix::fs::{Gid, Mode, OFlags, Uid, open};
use rustix::io::Errno;
use rustix::process::{chdir, getcwd, umask};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{At, Error, Step};
use crate::report::Reporter;

/// Sets what is set through procfs, while that is the host's. Labels only count from the next `execve` on.
pub(crate) fn set_labels(plan: &ProcessPlan) -> Result<(), Error> {
    if let Some(score) = plan.oom_score_adj {
        limits::set_oom_score(score)?;
    }
    if let Some(profile) = &plan.apparmor {
        let label = || Step::Label {
            kind: "AppArmor profile",
            label: profile.clone(),
            file: "apparmor/exec",
        };
        let text = format!("exec {profile}");
        // The directory of its own is there since 5.8, unless AppArmor is the only module anyway.
        match write_attribute("/proc/thread-self/attr/apparmor/exec", &text) {
            Err(Errno::NOENT) => write_attribute("/proc/thread-self/attr/exec", &text).at_with(label)?,
            other => other.at_with(label)?,
        }
    }
    if let Some(label) = &plan.selinux {
        write_attribute("/proc/thread-self/attr/exec", label).at_with(|| Step::Label {
            kind: "SELinux label",
            label: label.clone(),
            file: "exec",
        })?;
    }
    Ok(())
}

fn write_attribute(path: &str, text: &str) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// Becomes the plan's process. The root, the mounts and the streams are in place.
pub(crate) fn run(plan: &ProcessPlan, reporter: &mut Reporter) -> Result<Infallible, Error> {
    let command = command::Command::prepare(plan)?;
    reporter.keep_only().at(Step::CloseAll(4))?;
    match pausa_sys::new_session_keyring() {
        // No keyrings in this kernel, or a filter around us forbids them: then there are no keys to see.
        Err(Errno::NOSYS | Errno::PERM) => {}
        other => other.at(Step::Keyring)?,
    }
    pausa_sys::reset_signals().at(Step::Signals)?;
    for limit in &plan.rlimits {
        limits::set(limit)?;
    }
    umask(Mode::from_raw_mode(plan.umask & 0o777));
    let held = capabilities::drop_bounding(plan)?;
    // As root first: a directory that only root may enter is a legal place to start in. Then again as
    // the user: on some network file systems only the user may.
    let entered = enter_directory(plan);
    if !plan.no_new_privs {
        reporter.ready();
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
        reporter.ready();
        load_filter(plan)?;
    }
    Err(command.exec())
}

/// Enters the working directory and makes sure that it lies inside the root.
fn enter_directory(plan: &ProcessPlan) -> Result<(), Error> {
    chdir(working_directory(plan)).at_with(|| Step::WorkingDirectory((&plan.cwd).into()))?;
    stay_inside(plan)
}

/// The plan's working directory; where it has none, the root.
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

/// The kernel names a working directory outside the root "(unreachable)…".
fn stay_inside(plan: &ProcessPlan) -> Result<(), Error> {
    match getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().first() != Some(&b'/') => {
            Err(Error::OutsideDirectory((&plan.cwd).into()))
        }
        // ENOENT: deleted meanwhile; ENAMETOOLONG, EACCES: not to be told. None of them is outside.
        Err(Errno::NOENT | Errno::NAMETOOLONG | Errno::ACCESS) | Ok(_) => Ok(()),
        Err(source) => Err(Error::Call {
            step: Step::WorkingDirectory((&plan.cwd).into()),
            source,
        }),
    }
}

fn load_filter(plan: &ProcessPlan) -> Result<(), Error> {
    let Some((program, flags)) = &plan.seccomp else {
        return Ok(());
    };
    match pausa_sys::load_seccomp(program, *flags) {
        Ok(()) => Ok(()),
        Err(SeccompError::Malformed) => Err(Error::MalformedSeccomp),
        Err(SeccompError::Kernel(source)) => Err(Error::Call {
            step: Step::Seccomp,
            source,
        }),
    }
}
