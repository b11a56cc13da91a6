//! OCI hooks: programs that the node's administrator has run at stages of a container's life.
//!
//! ```text
//!   stage            run by                    namespaces   root         when
//!   createRuntime    a child of the monitor    the host's   the host's   the mounts are made
//!   createContainer  the container's process   its own      the host's   then
//!   startContainer   the container's process   its own      its own      only execve is left
//!   poststart        a child of the monitor    the host's   the host's   the command runs
//!   poststop         a child of the monitor    the host's   the host's   all has ended and the log is complete
//! ```
//!
//! A hook gets the container's state on its standard input. Its output is in the error if it fails. It dies with the
//! process that runs it, and with its descendants in its process group when its time is up.
//!
//! Programs of the first, second, fourth and fifth stage are the host's and trusted. Those of `startContainer` come from
//! the container and are confined as its command is. Hooks of `createContainer` do not enter an existing PID namespace,
//! where processes of containers would see the host's root through them.

use std::ffi::CString;
use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pausa_monitor_protocol::{HookCommand, HookPlan};
use pausa_sys::{BareCloneArgs, ChildMemory};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, chdir, kill_process_group, pidfd_open,
    set_parent_process_death_signal, setpgid, waitid,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::HostNamespaces;
use crate::error::{At, Error, Shown, Step};
use crate::process::Command;
use crate::report::Reporter;

/// How much of the end of a hook's output is in its error, in bytes.
const SHOWN_OUTPUT: u64 = 512;

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see the module's table")]
pub enum HookStage {
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookStage {
    /// The hooks of this stage.
    #[must_use]
    pub fn commands(self, plan: &HookPlan) -> &[HookCommand] {
        match self {
            Self::CreateRuntime => &plan.create_runtime,
            Self::CreateContainer => &plan.create_container,
            Self::StartContainer => &plan.start_container,
            Self::Poststart => &plan.poststart,
            Self::Poststop => &plan.poststop,
        }
    }

    /// `status` in the container's state.
    const fn status(self) -> &'static str {
        match self {
            Self::CreateRuntime | Self::CreateContainer => "creating",
            Self::StartContainer => "created",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }

    /// The container's state as a JSON object.
    fn state(self, plan: &HookPlan, pid: i32) -> Vec<u8> {
        let status = self.status();
        let head = format!(r#"{{"status":"{status}","pid":{pid},"#);
        [head.as_bytes(), &plan.state, b"}"].concat()
    }
}

impl fmt::Display for HookStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        })
    }
}

/// Whether hooks run that have to find the container's root beneath the host's.
pub(crate) fn see_the_host(plan: &HookPlan) -> bool {
    !plan.create_runtime.is_empty() || !plan.create_container.is_empty()
}

/// Runs the hooks of a stage in the host's namespaces, in a child of the monitor. `pid` is the container's first process.
pub(crate) fn run_in_host(
    stage: HookStage,
    plan: &HookPlan,
    pid: i32,
    host: &HostNamespaces<'_>,
    reporter: &Reporter,
) -> Result<(), Error> {
    // The monitor is in the pod's, and in the host's of the other kinds.
    for (namespace, kind, name) in [
        (host.network, LinkNameSpaceType::Network, "network"),
        (host.ipc, LinkNameSpaceType::InterProcessCommunication, "IPC"),
        (host.uts, LinkNameSpaceType::HostNameAndNISDomainName, "UTS"),
    ] {
        move_into_link_name_space(namespace, Some(kind)).at(Step::JoinNamespace(name))?;
    }
    pausa_sys::reset_signals().at(Step::Signals)?;
    let memory = ChildMemory::new().at(Step::ChildMemory)?;
    Hooks::prepare(stage, plan, pid, &memory)?.run(&memory, reporter)
}

/// Waits for the hooks of `createRuntime`, which the monitor has run, and runs those of `createContainer`. The host's root
/// is the root, and all of the container's mounts are in place below `HookPlan::root`.
pub(crate) fn run_before_root(plan: &HookPlan, reporter: &Reporter) -> Result<(), Error> {
    if !plan.create_runtime.is_empty() {
        reporter.created();
        reporter.wait_to_be_known().at(Step::AwaitHooks)?;
    }
    if plan.create_container.is_empty() {
        return Ok(());
    }
    pausa_sys::reset_signals().at(Step::Signals)?;
    let memory = ChildMemory::new().at(Step::ChildMemory)?;
    // This process's id in the host's PID namespace, which is that of the host's procfs.
    let pid = rustix::fs::readlink("/proc/self", Vec::new()).at(Step::AwaitHooks)?;
    let pid = pid.to_str().ok().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    Hooks::prepare(HookStage::CreateContainer, plan, pid, &memory)?.run(&memory, reporter)
}

/// Hooks that can be run without a further allocation in the child.
pub(crate) struct Hooks<'a> {
    stage: HookStage,
    list: Vec<Hook<'a>>,
}

struct Hook<'a> {
    path: Shown,
    timeout: Option<u32>,
    command: Command<'a>,
    directory: &'a std::ffi::CStr,
    state: OwnedFd,
    output: OwnedFd,
}

/// What the child does.
#[derive(Clone, Copy)]
struct Steps<'a> {
    command: Command<'a>,
    directory: &'a std::ffi::CStr,
    state: RawFd,
    output: RawFd,
}

impl<'a> Hooks<'a> {
    pub(crate) fn prepare(
        stage: HookStage,
        plan: &HookPlan,
        pid: i32,
        memory: &'a ChildMemory,
    ) -> Result<Self, Error> {
        let directory: &[u8] = match stage {
            HookStage::StartContainer => b"/",
            _ => &plan.bundle,
        };
        let directory = CString::new(directory).map_err(|_| Error::ZeroByte("the bundle's path"))?;
        let directory = memory.copy_c_str(&directory).at(Step::Arguments)?;
        let state = stage.state(plan, pid);
        let list = stage.commands(plan).iter().map(|hook| {
            Ok(Hook {
                path: (&hook.path).into(),
                timeout: hook.timeout,
                command: Command::prepare(&hook.path, &hook.args, &hook.env, memory)?,
                directory,
                state: file_of(&state).at(Step::HookFiles)?,
                output: file_of(b"").at(Step::HookFiles)?,
            })
        });
        Ok(Self {
            stage,
            list: list.collect::<Result<_, Error>>()?,
        })
    }

    /// Runs one after the other. The first that fails is the last.
    pub(crate) fn run(self, memory: &ChildMemory, reporter: &Reporter) -> Result<(), Error> {
        for hook in self.list {
            reporter.step(&Step::Hook {
                stage: self.stage,
                path: hook.path.clone(),
            });
            hook.run(memory).map_err(|how| Error::Hook {
                stage: self.stage,
                path: hook.path,
                how,
            })?;
        }
        Ok(())
    }
}

impl Hook<'_> {
    fn run(&self, memory: &ChildMemory) -> Result<(), String> {
        let failed = |call: &str, errno: Errno| format!("{call}: {errno}");
        let steps = Steps {
            command: self.command,
            directory: self.directory,
            state: self.state.as_raw_fd(),
            output: self.output.as_raw_fd(),
        };
        #[expect(unsafe_code, reason = "a child that may lack memory")]
        // SAFETY: this process has one thread, see `continue_in_sibling`. `steps` refers only to `memory`. `take_steps` makes
        // system calls through rustix, which does not use the C library, and allocates nothing.
        let child = unsafe { pausa_sys::clone_bare(BareCloneArgs::default(), memory, steps, take_steps) };
        let pid = child.map_err(|errno| failed("clone(2)", errno))?;
        let pid = Pid::from_raw(pid).ok_or("clone(2) has returned no process id")?;
        let in_time = wait(pid, self.timeout);
        if in_time != Ok(true) {
            // ESRCH: it has ended just now.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let status =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).map_err(|errno| failed("waitid(2)", errno))?;
        let how = match (in_time, status) {
            (Err(errno), _) => failed("pidfd_open(2), poll(2)", errno),
            (Ok(false), _) => format!("it has not ended within {} s", self.timeout.unwrap_or_default()),
            (Ok(true), Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(0), _) => return Ok(()),
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
            },
            (Ok(true), None) => "its end is unknown".to_owned(),
        };
        Err(match self.end_of_output() {
            output if output.is_empty() => how,
            output => format!("{how}: {output}"),
        })
    }

    fn end_of_output(&self) -> String {
        let mut text = Vec::new();
        let mut read = || -> std::io::Result<()> {
            let mut file = std::fs::File::from(self.output.try_clone()?);
            let length = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(length.saturating_sub(SHOWN_OUTPUT)))?;
            file.take(SHOWN_OUTPUT).read_to_end(&mut text).map(drop)
        };
        // What could not be read is left out: the failure itself is known.
        read().ok();
        plain(&String::from_utf8_lossy(&text))
    }
}

/// A hook's output as one line that cannot drive a terminal: some hooks are programs of the container.
fn plain(output: &str) -> String {
    let lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    line.replace(char::is_control, " ")
}

/// Waits for the end of a child without reaping it. Returns whether it has ended in time.
fn wait(pid: Pid, timeout: Option<u32>) -> Result<bool, Errno> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = timeout.map(|seconds| Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    });
    let ended =
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()))?;
    Ok(ended > 0)
}

/// A file in memory, at its beginning.
fn file_of(content: &[u8]) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create("pausa-hook", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    let write = file.write_all(content).and_then(|()| file.rewind());
    write.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(file.into())
}

/// Runs in the child. Returns the exit status.
fn take_steps(steps: &Steps<'_>) -> i32 {
    #[expect(unsafe_code, reason = "descriptors by number")]
    // SAFETY: both were open when this child was cloned, and nothing here closes them.
    let (state, output) = unsafe {
        (
            BorrowedFd::borrow_raw(steps.state),
            BorrowedFd::borrow_raw(steps.output),
        )
    };
    let begin = || -> Result<(), Errno> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        setpgid(None, None)?;
        rustix::stdio::dup2_stdin(state)?;
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(output)?;
        chdir(steps.directory)
    };
    if begin().is_err() {
        let _ = rustix::io::write(
            output,
            b"cannot set up its process group, streams or working directory",
        );
        return 126;
    }
    let failed = steps.command.exec();
    for part in [failed.step, failed.hint, ": ", name(failed.errno)] {
        let _ = rustix::io::write(output, part.as_bytes());
    }
    127
}

/// The text of an errno that execve(2) returns, without an allocation.
fn name(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "no such file or directory",
        Errno::ACCESS => "permission denied",
        Errno::NOEXEC => "not a program",
        Errno::PERM => "operation not permitted",
        _ => "execve(2) has failed",
    }
}

#[cfg(test)]
mod tests;
