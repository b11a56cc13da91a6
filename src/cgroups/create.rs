//! Makes and opens cgroups.
//!
//! Parents that are missing are made; another container's end may remove the default one at any moment, so
//! making starts over when a parent goes away. On v1 a new cpuset has neither CPUs nor memory nodes and takes its
//! parent's; on v2 controllers are switched on from the root down.

use std::io;

use rustix::io::Errno;

use super::dir::Dir;
use super::error::CgroupError;
use super::group::{Cgroup, Member};
use super::path::CgroupPath;
use super::{Cgroups, Limits, Root, apply};

/// How often a parent may vanish meanwhile.
const ATTEMPTS: usize = 16;

/// The controllers pausa wants below a v2 parent, as far as there are.
const V2_CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The controllers of v1 that usage is read from.
const COUNTERS: [&str; 3] = ["cpuacct", "memory", "pids"];

pub(super) fn create(
    cgroups: &Cgroups,
    path: &CgroupPath,
    limits: &Limits<'_>,
) -> Result<Cgroup, CgroupError> {
    let plan = apply::plan(&cgroups.layout, limits)?;
    let mut members = Vec::with_capacity(cgroups.roots.len());
    let mut made = Ok(());
    for root in &cgroups.roots {
        match make(root, path, cgroups.layout.is_v2()) {
            Ok(member) => members.push(member),
            Err(error) => {
                made = Err(error);
                break;
            }
        }
    }
    let cgroup = Cgroup::new(cgroups, path.clone(), members)?;
    match made.and_then(|()| apply::create(&cgroup, &plan, limits)) {
        Ok(()) => Ok(cgroup),
        Err(error) => {
            if let Err(left) = cgroup.remove() {
                tracing::warn!(error = %left, "a cgroup that could not be finished is left behind");
            }
            Err(error)
        }
    }
}

pub(super) fn open(cgroups: &Cgroups, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
    let mut members = Vec::with_capacity(cgroups.roots.len());
    for root in &cgroups.roots {
        let parent = match parent_of(&root.dir, path)? {
            Some(parent) => parent,
            None => continue,
        };
        if let Some(dir) = parent.open(&path.name)? {
            members.push(Member {
                controllers: root.controllers.clone(),
                parent: Some(parent),
                dir,
            });
        }
    }
    Cgroup::new(cgroups, path.clone(), found(path, members)?)
}

/// Opens only what usage is read from.
pub(super) fn open_counters(cgroups: &Cgroups, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
    let counts = |root: &&Root| {
        let mut controllers = root.controllers.iter();
        // v2 has no list.
        root.controllers.is_empty() || controllers.any(|name| COUNTERS.contains(&name.as_str()))
    };
    let relative = path.relative();
    let mut members = Vec::with_capacity(COUNTERS.len());
    for root in cgroups.roots.iter().filter(counts) {
        if let Some(dir) = root.dir.open(&relative)? {
            members.push(Member {
                controllers: root.controllers.clone(),
                parent: None,
                dir,
            });
        }
    }
    let members = found(path, members)?;
    Ok(Cgroup::to_read(cgroups, path.clone(), members))
}

fn found(path: &CgroupPath, members: Vec<Member>) -> Result<Vec<Member>, CgroupError> {
    if members.is_empty() {
        return Err(CgroupError::NotFound {
            path: path.relative().into(),
        });
    }
    Ok(members)
}

/// The directory that holds the cgroup, if it is there.
fn parent_of(root: &Dir, path: &CgroupPath) -> Result<Option<Dir>, CgroupError> {
    match path.parents.is_empty() {
        true => root.open("."),
        false => root.open(&path.parents.join("/")),
    }
}

/// One hierarchy's directory, made.
fn make(root: &Root, path: &CgroupPath, v2: bool) -> Result<Member, CgroupError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match try_make(root, path, v2) {
            Ok(Some(member)) => return Ok(member),
            Ok(None) => {}
            Err(error) if vanished(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| CgroupError::NotFound {
        path: root.dir.path().join(path.relative()),
    }))
}

/// One attempt. None, or an error that says so, if a parent vanished under it.
fn try_make(root: &Root, path: &CgroupPath, v2: bool) -> Result<Option<Member>, CgroupError> {
    let cpuset = root.controllers.iter().any(|name| name == "cpuset");
    // kubelet's parents are there: one look-up instead of one a level.
    let parent = match parent_of(&root.dir, path)? {
        Some(parent) => parent,
        None => match make_parents(&root.dir, path, cpuset)? {
            Some(parent) => parent,
            None => return Ok(None),
        },
    };
    if v2 {
        enable(&root.dir, path)?;
    }
    parent.make(&path.name)?;
    let Some(dir) = parent.open(&path.name)? else {
        return Ok(None);
    };
    if cpuset && !inherit_cpuset(&parent, &dir)? {
        fill_parents(&root.dir, path)?;
        inherit_cpuset(&parent, &dir)?;
    }
    Ok(Some(Member {
        controllers: root.controllers.clone(),
        parent: Some(parent),
        dir,
    }))
}

/// Makes the parents one by one; none if one of them vanished.
fn make_parents(root: &Dir, path: &CgroupPath, cpuset: bool) -> Result<Option<Dir>, CgroupError> {
    let mut here = match root.open(".")? {
        Some(here) => here,
        None => return Ok(None),
    };
    for name in &path.parents {
        here.make(name)?;
        let Some(next) = here.open(name)? else {
            return Ok(None);
        };
        if cpuset {
            inherit_cpuset(&here, &next)?;
        }
        here = next;
    }
    Ok(Some(here))
}

/// Whether an error says that a directory is gone: before its file was opened, or between that and its use.
fn vanished(error: &CgroupError) -> bool {
    let CgroupError::System { source, .. } = error else {
        return false;
    };
    source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Copies CPUs and memory nodes where the child has none; false if the parent has none either.
fn inherit_cpuset(parent: &Dir, child: &Dir) -> Result<bool, CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if child.read(file)?.is_some_and(|value| !value.is_empty()) {
            continue;
        }
        let value = parent.read(file)?.unwrap_or_default();
        if value.is_empty() {
            return Ok(false);
        }
        child.write(file, &value).map_err(|source| CgroupError::System {
            call: "write",
            path: child.path().join(file),
            source,
        })?;
    }
    Ok(true)
}

/// A parent without CPUs lets nothing run in it: it gets those of its own parent.
fn fill_parents(root: &Dir, path: &CgroupPath) -> Result<(), CgroupError> {
    let Some(mut here) = root.open(".")? else {
        return Ok(());
    };
    for name in &path.parents {
        let Some(next) = here.open(name)? else {
            return Ok(());
        };
        inherit_cpuset(&here, &next)?;
        here = next;
    }
    Ok(())
}

/// Switches the controllers on for the children of every parent, the root first. Those that a parent does not
/// offer, or that cannot be switched on now, are left: whoever needs one of their files gets the error.
fn enable(root: &Dir, path: &CgroupPath) -> Result<(), CgroupError> {
    let Some(mut here) = root.open(".")? else {
        return Ok(());
    };
    for name in path.parents.iter().map(Some).chain([None]) {
        let offered = here.read("cgroup.controllers")?.unwrap_or_default();
        let on = here.read("cgroup.subtree_control")?.unwrap_or_default();
        let has = |list: &str, one: &str| list.split(' ').any(|name| name == one);
        for controller in V2_CONTROLLERS {
            if has(&offered, controller) && !has(&on, controller) {
                switch_on(&here, controller);
            }
        }
        let Some(name) = name else { break };
        match here.open(name)? {
            Some(next) => here = next,
            None => break,
        }
    }
    Ok(())
}

fn switch_on(here: &Dir, controller: &str) {
    if let Err(error) = here.write("cgroup.subtree_control", &format!("+{controller}")) {
        let busy = error.raw_os_error() == Some(Errno::BUSY.raw_os_error());
        let path = here.path().display();
        tracing::warn!(%path, controller, %error, busy, "a cgroup controller cannot be switched on");
    }
}
