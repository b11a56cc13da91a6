//! The devices of all spec files.
//!
//! ```text
//!   directories ─▶ files: read again if changed ─▶ definitions: last directory first ─▶ edits
//! ```
//!
//! Everything is looked at for each use, so that there is no watch that could fail or be late: a driver writes a spec file
//! and kubelet asks for its device in the next moment. A file that has not changed costs one system call.
//!
//! Must never: let a broken file hide what is in others, give a container some of its devices only, or hold the lock across
//! a system call.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use self::files::{Content, Known, SpecFile};
use crate::edits::{ContainerEdits, Edits};
use crate::error::{CdiError, Problem, Unavailable};
use crate::name;
use crate::spec::Spec;

/// Directories of spec files.
#[derive(Debug)]
pub struct Registry {
    /// Later ones take precedence.
    directories: Vec<PathBuf>,
    /// What was read for the last use.
    known: Mutex<Arc<Known>>,
}

/// What there is at one time.
#[derive(Debug, Default)]
pub struct Listing {
    /// Devices that containers can have, in the order of their names.
    pub devices: Vec<ListedDevice>,
    /// What is not used, and why.
    pub problems: Vec<Problem>,
}

/// A device that containers can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    /// The fully qualified name, `vendor.com/class=device`.
    pub name: String,
    /// The file that defines it.
    pub file: PathBuf,
}

/// One device of a spec file.
struct Definition<'a> {
    directory: usize,
    file: &'a SpecFile,
    spec: &'a Spec,
    edits: &'a ContainerEdits,
}

/// Definitions by kind and name; those of the last directory that has any.
type Definitions<'a> = BTreeMap<(&'a str, &'a str), Vec<Definition<'a>>>;

impl Registry {
    /// Directories in ascending precedence. They need not exist.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>) -> Self {
        let known = Mutex::default();
        Self { directories, known }
    }

    /// The edits for devices with fully qualified names: in the order of the names, each once, and those of a spec file
    /// before those of its first device. Blocking work.
    ///
    /// # Errors
    /// One of the devices cannot be used.
    pub fn edits(&self, devices: &[String]) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        if devices.is_empty() {
            return Ok(edits);
        }
        let content = self.read();
        let definitions = definitions(&content);
        let (mut seen, mut chosen, mut unavailable) = (BTreeSet::new(), Vec::new(), Vec::new());
        for device in devices {
            let name = name::split(device).ok_or_else(|| CdiError::Name {
                name: device.chars().take(64).collect(),
            })?;
            if !seen.insert(name) {
                continue;
            }
            match definitions.get(&name).map(Vec::as_slice) {
                Some([one]) => chosen.push(one),
                Some(several) => unavailable.push(Unavailable::Conflict {
                    device: device.clone(),
                    files: several.iter().map(|one| one.file.path.clone()).collect(),
                }),
                None => unavailable.push(unknown(&definitions, device, name.0)),
            }
        }
        if !unavailable.is_empty() {
            return Err(CdiError::Unavailable {
                devices: unavailable,
                broken: content.problems,
            });
        }
        let mut used = BTreeSet::new();
        for definition in chosen {
            if used.insert(&definition.file.path) {
                edits.add(&definition.spec.edits)?;
            }
            edits.add(definition.edits)?;
        }
        Ok(edits)
    }

    /// All devices, and what is wrong. Blocking work.
    #[must_use]
    pub fn list(&self) -> Listing {
        let content = self.read();
        let mut listing = Listing::default();
        for ((kind, device), definitions) in definitions(&content) {
            let name = format!("{kind}={device}");
            let mut files: Vec<PathBuf> = definitions.iter().map(|one| one.file.path.clone()).collect();
            match (files.pop(), files.is_empty()) {
                (Some(file), true) => listing.devices.push(ListedDevice { name, file }),
                (last, _) => {
                    files.extend(last);
                    listing.problems.push(Problem::Conflict { device: name, files });
                }
            }
        }
        listing.problems.extend(content.problems);
        listing
    }

    fn read(&self) -> Content {
        let known = Arc::clone(&self.known.lock());
        let (content, now) = Content::read(&self.directories, &known);
        *self.known.lock() = Arc::new(now);
        content
    }
}

fn definitions(content: &Content) -> Definitions<'_> {
    let mut all = Definitions::new();
    for (directory, file) in &content.files {
        let Ok(spec) = &file.spec else { continue };
        for (device, edits) in &spec.devices {
            let found = all.entry((&spec.kind, device)).or_default();
            found.retain(|one| one.directory == *directory);
            found.push(Definition {
                directory: *directory,
                file,
                spec,
                edits,
            });
        }
    }
    all
}

/// What there is instead.
fn unknown(definitions: &Definitions<'_>, device: &str, kind: &str) -> Unavailable {
    fn vendor(kind: &str) -> &str {
        kind.split('/').next().unwrap_or_default()
    }
    fn owned<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let names: BTreeSet<&str> = names.collect();
        names.into_iter().map(str::to_owned).collect()
    }
    let device = device.to_owned();
    let names = definitions.keys().filter(|(other, _)| *other == kind);
    let known = owned(names.map(|(_, name)| *name));
    if !known.is_empty() {
        return Unavailable::Device { device, known };
    }
    let kinds = definitions.keys().map(|(kind, _)| *kind);
    let known = owned(kinds.clone().filter(|other| vendor(other) == vendor(kind)));
    if !known.is_empty() {
        return Unavailable::Class { device, known };
    }
    let known = owned(kinds.map(vendor));
    Unavailable::Vendor { device, known }
}

#[cfg(test)]
mod tests;
