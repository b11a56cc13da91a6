//! OCI hooks that the node's administrator configures by files, as oci-hooks(5) of the containers tools describes them.
//!
//! A file says which containers a hook is for. It is read for every container, so that a change counts at once. A file that
//! cannot be used refuses containers: a hook may be there for security, and must not be left out unnoticed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Hooks, Spec};
use pausa_cdi::HookStage;
use regex::bytes::RegexBuilder;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::proto::v1;

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HookFileError {
    #[error("{call} of {} failed", path.display())]
    Io {
        path: PathBuf,
        call: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not of the form of oci-hooks(5)", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{}: {field} is {value:?}: {reason}", path.display())]
    Invalid {
        path: PathBuf,
        field: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("{}: {field} has a pattern that is no regular expression", path.display())]
    Pattern {
        path: PathBuf,
        field: &'static str,
        #[source]
        source: Box<regex::Error>,
    },
}

/// The content of a file.
#[derive(Debug, Deserialize)]
struct File {
    version: String,
    hook: Hook,
    when: When,
    stages: Vec<HookStage>,
}

/// The containers that a hook is for: those that meet all conditions, and there is at least one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct When {
    always: Option<bool>,
    /// A pattern for the key, and one for the value, of one annotation.
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// Patterns for the program, of which one must match.
    #[serde(default)]
    commands: Vec<String>,
    has_bind_mounts: Option<bool>,
}

/// A file that was read, and its path.
#[derive(Debug)]
pub struct HookFile {
    path: PathBuf,
    file: File,
}

/// Reads the files of all directories, in the order of their names. A file hides those of the same name in earlier
/// directories. A directory that does not exist is an empty one.
///
/// # Errors
/// The first file that cannot be used.
pub fn read_all(directories: &[PathBuf]) -> Result<Vec<HookFile>, HookFileError> {
    let mut paths: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        let failed = |source| HookFileError::Io {
            path: directory.clone(),
            call: "readdir",
            source,
        };
        let entries = match std::fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(name) = path.file_name()
            {
                paths.insert(name.to_owned(), path);
            }
        }
    }
    paths.into_values().map(read).collect()
}

fn read(path: PathBuf) -> Result<HookFile, HookFileError> {
    let mut text = Vec::new();
    // What is no regular file neither blocks nor ends.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, flags, Mode::empty()).map_err(std::io::Error::from);
    let read = opened.and_then(|file| std::fs::File::from(file).take(FILE_MAX).read_to_end(&mut text));
    if let Err(source) = read {
        return Err(HookFileError::Io {
            path,
            call: "read",
            source,
        });
    }
    let file: File = match serde_json::from_slice(&text) {
        Ok(file) => file,
        Err(source) => return Err(HookFileError::Json { path, source }),
    };
    let invalid = |field, value: String, reason| HookFileError::Invalid {
        path: path.clone(),
        field,
        value,
        reason,
    };
    if file.version != "1.0.0" {
        return Err(invalid("version", file.version, "only 1.0.0 is supported"));
    }
    if !file.hook.path().is_absolute() {
        let value = file.hook.path().display().to_string();
        return Err(invalid("hook.path", value, "it must be an absolute path"));
    }
    if file.stages.is_empty() {
        return Err(invalid(
            "stages",
            String::new(),
            "a hook needs at least one stage",
        ));
    }
    Ok(HookFile { path, file })
}

/// Adds the hooks that are for this container to its spec.
///
/// # Errors
/// A pattern that is no regular expression.
pub(crate) fn add(
    files: &[HookFile],
    config: &v1::ContainerConfig,
    spec: &mut Spec,
) -> Result<(), HookFileError> {
    for HookFile { path, file } in files {
        let args = spec
            .process()
            .as_ref()
            .and_then(|process| process.args().as_deref());
        let program = args.and_then(|args| args.first()).map_or("", String::as_str);
        if file.when.is_met(config, program, path)? {
            let hooks = spec.hooks_mut().get_or_insert_with(Hooks::default);
            for stage in &file.stages {
                stage.list(hooks).get_or_insert_default().push(file.hook.clone());
            }
        }
    }
    Ok(())
}

impl When {
    fn is_met(
        &self,
        config: &v1::ContainerConfig,
        program: &str,
        path: &Path,
    ) -> Result<bool, HookFileError> {
        let matches = |field, pattern: &str, text: &str| {
            // As the patterns of Go, for which they are written: classes such as \d are of ASCII.
            let built = RegexBuilder::new(pattern).unicode(false).build();
            let regex = built.map_err(|source| HookFileError::Pattern {
                path: path.to_path_buf(),
                field,
                source: Box::new(source),
            })?;
            Ok(regex.is_match(text.as_bytes()))
        };
        let mut conditions = Vec::new();
        conditions.extend(self.always);
        conditions.extend(
            self.has_bind_mounts
                .map(|wanted| wanted && !config.mounts.is_empty()),
        );
        for (key_pattern, value_pattern) in &self.annotations {
            let mut found = false;
            for (key, value) in &config.annotations {
                found |= matches("when.annotations", key_pattern, key)?
                    && matches("when.annotations", value_pattern, value)?;
            }
            conditions.push(found);
        }
        if !self.commands.is_empty() {
            let mut found = false;
            for pattern in &self.commands {
                found |= matches("when.commands", pattern, program)?;
            }
            conditions.push(found);
        }
        Ok(!conditions.is_empty() && conditions.into_iter().all(|met| met))
    }
}

#[cfg(test)]
mod tests;
