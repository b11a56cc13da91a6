//! The last steps, in the finished root: limits, identity, capabilities, seccomp filter, exec.
//!
//! Without no_new_privs, loading a seccomp filter needs CAP_SYS_ADMIN. So it is loaded before user and capabilities
//! change, and has to allow the calls for that (setgroups, setresgid, setresuid, capset, prctl). With no_new_privs it is
//! loaded last, and only has to allow `execve`.

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

/// Sets oom_score_adj and security labels through procfs, while that is the host's. Labels take effect at `execve`.
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
        // AppArmor's own directory exists since Linux 5.8. Before, AppArmor uses the common file.
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

/// Becomes the plan's process. Root, mounts and streams are in place, and the caller holds no descriptor of its own.
pub(crate) fn run(plan: &ProcessPlan, reporter: &mut Reporter) -> Result<Infallible, Error> {
    let command = command::Command::prepare(plan)?;
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
    umask(Mode::from_raw_mode(plan.umask & 0o777));
    let held = capabilities::drop_bounding(plan)?;
    // First as root, since a directory that only root may enter is allowed. If that fails, again as the user: on some
    // network file systems only the user may enter.
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
