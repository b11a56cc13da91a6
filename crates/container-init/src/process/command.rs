//! Finding and executing the command inside the container.
//!
//! Everything that this needs is prepared beforehand in a [`ChildMemory`], failures included: after a seccomp filter or a
//! limit an allocation may be refused, and a bare child has no allocator.

use std::ffi::{CStr, CString};

use pausa_sys::{ArgumentVector, ChildMemory, execve};
use rustix::fs::{FileType, stat};
use rustix::io::Errno;

use crate::error::{At, Error, Shown, Step};

/// The search path if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The arguments of `execve`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command<'a> {
    candidates: &'a [Candidate<'a>],
    /// Set if `PATH` is searched, as it is for a name without a slash: the step that fails if nothing is found.
    not_found: Option<&'a str>,
    arguments: ArgumentVector<'a>,
    environment: ArgumentVector<'a>,
}

/// A file that may be the command.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    path: &'a CStr,
    /// The step that fails if it cannot be executed.
    step: &'a str,
}

/// Why the command was not executed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotExecuted<'a> {
    pub(crate) errno: Errno,
    pub(crate) step: &'a str,
    /// Follows the step.
    pub(crate) hint: &'static str,
}

impl<'a> Command<'a> {
    /// `name` is a path, or is searched if it has no slash.
    pub(crate) fn prepare(
        name: &[u8],
        args: &[Vec<u8>],
        env: &[Vec<u8>],
        memory: &'a ChildMemory,
    ) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::NoCommand);
        }
        let arguments = vector(args, "an argument", memory)?;
        let environment = vector(env, "an environment variable", memory)?;
        let shown = || Shown::from(name);
        let path = (!name.contains(&b'/')).then(|| search_path(env));
        let files = match path {
            None => vec![name.to_vec()],
            Some(path) => candidates(name, path),
        };
        let too_big = || Step::Arguments;
        let mut prepared = Vec::with_capacity(files.len());
        for file in files {
            let step = Step::Exec {
                command: shown(),
                path: (&file).into(),
            };
            let file = CString::new(file).map_err(|_| Error::ZeroByte("PATH"))?;
            prepared.push(Candidate {
                path: memory.copy_c_str(&file).at_with(too_big)?,
                step: memory.copy_str(&step.to_string()).at_with(too_big)?,
            });
        }
        let not_found = path.map(|path| {
            let step = Step::NotInPath {
                command: shown(),
                path: path.into(),
            };
            memory.copy_str(&step.to_string()).at_with(too_big)
        });
        Ok(Self {
            candidates: memory.copy(&prepared).at_with(too_big)?,
            not_found: not_found.transpose()?,
            arguments,
            environment,
        })
    }

    /// Executes the first candidate that can be executed, and returns only if there is none. As in execvp(3), the search
    /// continues after EACCES, which takes precedence over "not found" in the end.
    pub(crate) fn exec(&self) -> NotExecuted<'a> {
        let mut refused = None;
        for candidate in self.candidates {
            match execve(candidate.path, self.arguments, self.environment) {
                Errno::NOENT | Errno::NOTDIR if self.not_found.is_some() && stat(candidate.path).is_err() => {
                }
                Errno::ACCESS => {
                    refused.get_or_insert(candidate);
                }
                errno => return candidate.failed(errno),
            }
        }
        match refused {
            Some(candidate) => candidate.failed(Errno::ACCESS),
            None => NotExecuted {
                errno: Errno::NOENT,
                step: self.not_found.unwrap_or_default(),
                hint: "",
            },
        }
    }
}

impl<'a> Candidate<'a> {
    fn failed(&self, errno: Errno) -> NotExecuted<'a> {
        let kind = stat(self.path)
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
        NotExecuted {
            errno,
            step: self.step,
            hint,
        }
    }
}

fn vector<'a>(
    strings: &[Vec<u8>],
    kind: &'static str,
    memory: &'a ChildMemory,
) -> Result<ArgumentVector<'a>, Error> {
    ArgumentVector::new(strings, memory).map_err(|errno| match errno {
        Errno::INVAL => Error::ZeroByte(kind),
        source => Error::Call {
            step: Step::Arguments,
            source,
        },
    })
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
