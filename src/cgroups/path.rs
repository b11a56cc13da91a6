//! The path of a cgroup: from CRI's `cgroup_parent` to directories and to the spec's form.
//!
//! | driver | `cgroup_parent` | directory | `linux.cgroupsPath` |
//! |---|---|---|---|
//! | cgroupfs | `/kubepods/pod1` | `kubepods/pod1/ID` | `/kubepods/pod1/ID` |
//! | systemd | `a-b.slice` | `a.slice/a-b.slice/pausa-ID.scope` | `a-b.slice:pausa:ID` |
//!
//! The administrator may choose another prefix of scopes than `pausa`.
//!
//! A parent has no `..` and no empty names. Reference: systemd.slice(5).

use super::Driver;
use super::error::CgroupError;
use crate::config::DEFAULT_SCOPE_PREFIX;

const FIELD: &str = "linux.cgroup_parent";

/// The parent for pods without `cgroup_parent`.
const DEFAULT_PARENT: &str = "pausa";
const DEFAULT_SLICE: &str = "pausa.slice";

/// systemd and the kernel both stop here.
const MAX_LENGTH: usize = 4096;

/// The path of a cgroup, the same in all hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath {
    /// Directories from the root of a hierarchy.
    pub(super) parents: Vec<String>,
    /// Last directory.
    pub(super) name: String,
    /// None under cgroupfs.
    pub(super) scope: Option<Scope>,
    /// The unit without prefix and suffix, under systemd; else the name.
    pub(super) id: String,
    /// The parent is pausa's own and is removed when it is empty.
    pub(super) default_parent: bool,
}

/// A scope of systemd's: `PREFIX-ID.scope` in a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope {
    pub(super) slice: String,
    prefix: String,
}

impl CgroupPath {
    /// The slice of pods without `cgroup_parent`, under systemd.
    pub(super) fn default_slice() -> Self {
        Self {
            parents: Vec::new(),
            name: DEFAULT_SLICE.to_owned(),
            scope: None,
            id: DEFAULT_SLICE.to_owned(),
            default_parent: false,
        }
    }

    pub(super) fn new(driver: Driver, cgroup_parent: &str, id: &str) -> Result<Self, CgroupError> {
        if cgroup_parent.len() > MAX_LENGTH {
            let short: String = cgroup_parent.chars().take(64).collect();
            return Err(CgroupError::invalid(FIELD, short, "it is too long"));
        }
        let plain = |name: &str| {
            !name.is_empty()
                && name != "."
                && name != ".."
                && name.len() <= 255
                && !name.contains(['/', '\0'])
        };
        if !plain(id) {
            return Err(CgroupError::invalid(
                "id",
                id,
                "it cannot be the name of a directory",
            ));
        }
        let default_parent = cgroup_parent.is_empty();
        let is_slice = cgroup_parent.ends_with(".slice");
        match driver {
            Driver::Cgroupfs if is_slice => Err(wrong(cgroup_parent, "cgroupfs")),
            Driver::Systemd if !is_slice && !default_parent => Err(wrong(cgroup_parent, "systemd")),
            Driver::Cgroupfs => {
                let parent = if default_parent {
                    DEFAULT_PARENT
                } else {
                    cgroup_parent
                };
                let relative = parent.strip_prefix('/').unwrap_or(parent);
                let relative = relative.strip_suffix('/').unwrap_or(relative);
                let parents: Vec<String> = match relative {
                    "" => Vec::new(),
                    some => some.split('/').map(str::to_owned).collect(),
                };
                if !parents.iter().all(|name| plain(name)) {
                    let reason = "it must be a path without empty names, `.` and `..`";
                    return Err(CgroupError::invalid(FIELD, cgroup_parent, reason));
                }
                Ok(Self {
                    parents,
                    name: id.to_owned(),
                    scope: None,
                    id: id.to_owned(),
                    default_parent,
                })
            }
            Driver::Systemd => {
                // kubelet sends the whole path; a slice's own name already says where it is.
                let slice = match cgroup_parent.rsplit('/').next() {
                    None | Some("") => DEFAULT_SLICE,
                    Some(last) => last,
                };
                let path = Self {
                    parents: expand(slice)?,
                    name: String::new(),
                    scope: Some(Scope {
                        slice: slice.to_owned(),
                        prefix: String::new(),
                    }),
                    id: id.to_owned(),
                    default_parent,
                };
                Ok(path.with_scope_prefix(DEFAULT_SCOPE_PREFIX))
            }
        }
    }

    /// The same with another prefix of its scope, if it is one. The prefix has characters that names of units may have.
    #[must_use]
    pub fn with_scope_prefix(mut self, prefix: &str) -> Self {
        if let Some(scope) = &mut self.scope {
            prefix.clone_into(&mut scope.prefix);
            self.name = format!("{prefix}-{}.scope", self.id);
        }
        self
    }

    /// The cgroup that this one is in, to be read: a pod's, given one of its containers'. None at a hierarchy's root.
    pub fn parent(&self) -> Option<Self> {
        let (name, parents) = self.parents.split_last()?;
        Some(Self {
            parents: parents.to_vec(),
            name: name.clone(),
            scope: None,
            id: name.clone(),
            default_parent: false,
        })
    }

    /// A cgroup in this one, which no unit of systemd's is for. `name` is a valid name of a directory.
    pub(super) fn below(&self, name: &str) -> Self {
        let parents = self.parents.iter().chain([&self.name]).cloned();
        Self {
            parents: parents.collect(),
            name: name.to_owned(),
            scope: None,
            id: name.to_owned(),
            default_parent: self.default_parent,
        }
    }

    /// `linux.cgroupsPath` of the runtime spec.
    pub fn spec_path(&self) -> String {
        match &self.scope {
            Some(Scope { slice, prefix }) => format!("{slice}:{prefix}:{}", self.id),
            None => format!("/{}", self.relative()),
        }
    }

    /// The path beneath the root of a hierarchy, without a leading slash.
    pub fn relative(&self) -> String {
        let mut path = self.parents.join("/");
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&self.name);
        path
    }
}

/// `a-b.slice` is in `a.slice`.
fn expand(slice: &str) -> Result<Vec<String>, CgroupError> {
    let invalid = || {
        let reason = "it must be the name of a systemd slice, as a-b.slice";
        CgroupError::invalid(FIELD, slice, reason)
    };
    let name = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if name == "-" {
        return Ok(Vec::new());
    }
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\0']);
    if slice.len() > 255 || !name.split('-').all(plain) {
        return Err(invalid());
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Ok(ends.map(|end| format!("{}.slice", &name[..end])).collect())
}

fn wrong(parent: &str, driver: &'static str) -> CgroupError {
    CgroupError::WrongDriver {
        parent: parent.to_owned(),
        driver,
    }
}

#[cfg(test)]
mod tests;
