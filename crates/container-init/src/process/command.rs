//! Finding and executing the command inside the container.

use std::ffi::CString;

use pausa_monitor_protocol::ProcessPlan;
use pausa_sys::{CStrings, execve};
use rustix::fs::{FileType, stat};
use rustix::io::Errno;

use crate::error::{Error, Shown, Step};

/// The search path if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The arguments of `execve`, prepared before a seccomp filter or a limit could forbid the allocation.
#[derive(Debug)]
pub(super) struct Command {
    name: Shown,
    /// The `PATH` to search; none if the name has a slash.
    searched: Option<Shown>,
    candidates: Vec<CString>,
    args: CStrings,
    env: CStrings,
}

impl Command {
    pub(super) fn prepare(plan: &ProcessPlan) -> Result<Self, Error> {
        let name = plan
            .args
            .first()
            .filter(|name| !name.is_empty())
            .ok_or(Error::NoCommand)?;
        let args = CStrings::new(&plan.args).map_err(|_| Error::ZeroByte("an argument"))?;
        let env = CStrings::new(&plan.env).map_err(|_| Error::ZeroByte("an environment variable"))?;
        let path = (!name.contains(&b'/')).then(|| search_path(&plan.env));
        let candidates = match path {
            None => vec![name.clone()],
            Some(path) => candidates(name, path),
        };
        let candidates = candidates
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| Error::ZeroByte("PATH"))?;
        Ok(Self {
            name: name.into(),
            searched: path.map(Shown::from),
            candidates,
            args,
            env,
        })
    }

    /// Executes the first candidate that can be executed, and returns only if there is none. As in execvp(3), the search
    /// continues after EACCES, which takes precedence over "not found" in the end.
    pub(super) fn exec(&self) -> Error {
        let mut refused = None;
        for candidate in &self.candidates {
            match execve(candidate, &self.args, &self.env) {
                Errno::NOENT | Errno::NOTDIR if self.searched.is_some() && !exists(candidate) => {}
                Errno::ACCESS => {
                    refused.get_or_insert((candidate, Errno::ACCESS));
                    if self.searched.is_none() {
                        break;
                    }
                }
                errno => return self.failed(candidate, errno),
            }
        }
        match (refused, &self.searched) {
            (Some((candidate, errno)), _) => self.failed(candidate, errno),
            (None, path) => {
                let path = path.clone().unwrap_or_else(|| Shown::from(&b""[..]));
                let step = Step::NotInPath {
                    command: self.name.clone(),
                    path,
                };
                Error::Call {
                    step,
                    source: Errno::NOENT,
                }
            }
        }
    }

    fn failed(&self, candidate: &CString, errno: Errno) -> Error {
        let kind = stat(candidate.as_c_str())
            .ok()
            .map(|stat| FileType::from_raw_mode(stat.st_mode));
        let hint = match (errno, kind) {
            (Errno::NOENT, Some(_)) => {
                "; the file is there, but the interpreter it names (#! line or ELF loader) is not"
            }
            (Errno::ACCESS, Some(FileType::Directory)) => "; it is a directory",
            (Errno::ACCESS, Some(_)) => "; is it executable for this user, and not on a noexec mount?",
            (Errno::NOEXEC, _) => "; neither a program for this machine nor a script with a #! line",
            _ => "",
        };
        let path = candidate.as_bytes().into();
        Error::Call {
            step: Step::Exec {
                command: self.name.clone(),
                path,
                hint,
            },
            source: errno,
        }
    }
}

fn exists(path: &CString) -> bool {
    stat(path.as_c_str()).is_ok()
}

fn search_path(env: &[Vec<u8>]) -> &[u8] {
    env.iter()
        .rev()
        .find_map(|variable| variable.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH)
}

/// Leaves out relative elements, which would make the working directory part of the search.
fn candidates(name: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b':')
        .filter(|directory| directory.first() == Some(&b'/'))
        .map(|directory| [directory, b"/", name].concat())
        .collect()
}

#[cfg(test)]
mod tests;
