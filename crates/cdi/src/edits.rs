//! Edits: what devices change in the OCI spec of a container.
//!
//! The order of edits counts: a later variable, node, mount or RDT class replaces an earlier one, of other devices as well as
//! of the spec.
//!
//! Must never: change a spec in part.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{
    Hook, Hooks, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIntelRdt, LinuxNamespaceType,
    LinuxNetDevice, Mount, Spec,
};
use serde::Deserialize;

use crate::error::CdiError;
use crate::node::DeviceNode;

/// All edits for the devices of one container. None is the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edits {
    pub(crate) env: Vec<String>,
    pub(crate) devices: Vec<Device>,
    /// Names in the container by those on the host.
    pub(crate) net_devices: BTreeMap<String, String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) hooks: Vec<(HookStage, Hook)>,
    pub(crate) intel_rdt: Option<LinuxIntelRdt>,
    /// 0 is there to be ignored.
    pub(crate) additional_gids: Vec<u32>,
}

/// A device node and what a container may do with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Device {
    pub(crate) device: LinuxDevice,
    /// Some of `rwm`, or None for no access.
    pub(crate) access: Option<String>,
}

/// When a hook runs, by its name in the OCI runtime specification, config.md, "POSIX-platform Hooks".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the specification says what they are")]
pub enum HookStage {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookStage {
    /// The hooks of this stage in a spec.
    pub fn list(self, hooks: &mut Hooks) -> &mut Option<Vec<Hook>> {
        match self {
            Self::Prestart => hooks.prestart_mut(),
            Self::CreateRuntime => hooks.create_runtime_mut(),
            Self::CreateContainer => hooks.create_container_mut(),
            Self::StartContainer => hooks.start_container_mut(),
            Self::Poststart => hooks.poststart_mut(),
            Self::Poststop => hooks.poststop_mut(),
        }
    }
}

/// `containerEdits` of a spec file, for all of its devices or for one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ContainerEdits {
    /// They become devices when the edits are asked for.
    pub(crate) nodes: Vec<DeviceNode>,
    /// Everything else. It is the same at any time.
    pub(crate) rest: Edits,
}

impl Edits {
    /// Adds edits after those that are there.
    ///
    /// # Errors
    /// The host does not have a device node.
    pub(crate) fn add(&mut self, edits: &ContainerEdits) -> Result<(), CdiError> {
        let ContainerEdits { nodes, rest } = edits;
        for node in nodes {
            self.devices.push(node.device()?);
        }
        self.env.extend_from_slice(&rest.env);
        self.net_devices.extend(rest.net_devices.clone());
        self.mounts.extend_from_slice(&rest.mounts);
        self.hooks.extend_from_slice(&rest.hooks);
        if rest.intel_rdt.is_some() {
            self.intel_rdt.clone_from(&rest.intel_rdt);
        }
        self.additional_gids.extend_from_slice(&rest.additional_gids);
        Ok(())
    }

    /// Makes the edits.
    ///
    /// Devices without an owner get the user of the process, unless that is root. If there are new mounts, all are sorted by
    /// depth. With a user namespace, new bind mounts become ID-mapped.
    ///
    /// # Errors
    /// The OCI spec has no process or is not for Linux. Nothing is changed then.
    pub fn apply(&self, spec: &mut Spec) -> Result<(), CdiError> {
        let Some(process) = spec.process() else {
            return Err(CdiError::Incomplete { part: "process" });
        };
        let unless_root = |id: u32| Some(id).filter(|id| *id > 0);
        let user = process.user();
        let owner = (unless_root(user.uid()), unless_root(user.gid()));
        let Some(linux) = spec.linux_mut() else {
            return Err(CdiError::Incomplete { part: "linux" });
        };
        let mut namespaces = linux.namespaces().iter().flatten();
        let mapped = namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        if !self.devices.is_empty() {
            let devices = self.devices.iter().map(|one| owned(&one.device, owner));
            let all = linux.devices_mut().get_or_insert_default();
            replace(all, devices.collect(), |device| device.path());
            let resources = linux.resources_mut().get_or_insert_default();
            let rules = resources.devices_mut().get_or_insert_default();
            rules.extend(self.devices.iter().filter_map(rule));
        }
        for (host, name) in &self.net_devices {
            let mut device = LinuxNetDevice::default();
            device.set_name(Some(name.clone()));
            let devices = linux.net_devices_mut().get_or_insert_default();
            devices.insert(host.clone(), device);
        }
        if self.intel_rdt.is_some() {
            linux.set_intel_rdt(self.intel_rdt.clone());
        }
        if let Some(process) = spec.process_mut() {
            if !self.env.is_empty() {
                set_variables(process.env_mut().get_or_insert_default(), &self.env);
            }
            let gids = process.user().additional_gids();
            let mut present: HashSet<u32> = gids.iter().flatten().copied().collect();
            let new = |gid: &u32| *gid != 0 && present.insert(*gid);
            let new: Vec<u32> = self.additional_gids.iter().copied().filter(new).collect();
            if !new.is_empty() {
                let gids = process.user_mut().additional_gids_mut();
                gids.get_or_insert_default().extend(new);
            }
        }
        if !self.mounts.is_empty() {
            let mut mounts = self.mounts.clone();
            if mapped {
                mounts.iter_mut().for_each(map_ids);
            }
            let all = spec.mounts_mut().get_or_insert_default();
            replace(all, mounts, |mount| mount.destination());
            all.sort_by_key(|mount| depth(mount.destination()));
        }
        if !self.hooks.is_empty() {
            let hooks = spec.hooks_mut().get_or_insert_default();
            for (stage, hook) in &self.hooks {
                stage.list(hooks).get_or_insert_default().push(hook.clone());
            }
        }
        Ok(())
    }
}

/// A variable that is there keeps its place.
fn set_variables(env: &mut Vec<String>, variables: &[String]) {
    let name = |variable: &str| match variable.split_once('=') {
        Some((name, _)) => name.to_owned(),
        None => variable.to_owned(),
    };
    let mut places: HashMap<String, usize> = env
        .iter()
        .enumerate()
        .map(|(at, variable)| (name(variable), at))
        .collect();
    for variable in variables {
        let at = *places.entry(name(variable)).or_insert(env.len());
        match env.get_mut(at) {
            Some(old) => old.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
}

fn owned(device: &LinuxDevice, (uid, gid): (Option<u32>, Option<u32>)) -> LinuxDevice {
    let (uid, gid) = (device.uid().or(uid), device.gid().or(gid));
    let mut device = device.clone();
    device.set_uid(uid).set_gid(gid);
    device
}

/// None if nothing is allowed: a rule without access is not the same for all who read it.
fn rule(device: &Device) -> Option<LinuxDeviceCgroup> {
    let Device { device, access } = device;
    if ![LinuxDeviceType::B, LinuxDeviceType::C].contains(&device.typ()) {
        return None;
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(device.typ()))
        .set_major(Some(device.major()))
        .set_minor(Some(device.minor()))
        .set_access(Some(access.clone()?));
    Some(rule)
}

/// Appends what is new; it replaces what has the same path, and the last of those counts.
fn replace<T>(all: &mut Vec<T>, mut new: Vec<T>, path: fn(&T) -> &PathBuf) {
    let mut paths = BTreeSet::new();
    new.reverse();
    new.retain(|one| paths.insert(path(one).clone()));
    new.reverse();
    all.retain(|one| !paths.contains(path(one)));
    all.append(&mut new);
}

/// Adds what makes a bind mount ID-mapped, unless it is.
fn map_ids(mount: &mut Mount) {
    let options = mount.options().as_deref().unwrap_or_default();
    let has = |option: &str| options.iter().any(|one| one == option);
    if has("idmap") || has("ridmap") {
        return;
    }
    let last = options
        .iter()
        .rfind(|option| ["bind", "rbind"].contains(&option.as_str()));
    let option = match last.map(String::as_str) {
        Some("rbind") => "ridmap",
        Some(_) => "idmap",
        None if mount.typ().as_deref() == Some("bind") => "idmap",
        None => return,
    };
    mount
        .options_mut()
        .get_or_insert_default()
        .push(option.to_owned());
}

/// How many directories a path goes down, when `..` goes up: parents come before what is in them.
fn depth(path: &Path) -> usize {
    path.components()
        .fold(0, |depth: usize, component| match component {
            Component::Normal(_) => depth + 1,
            Component::ParentDir => depth.saturating_sub(1),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => depth,
        })
}

#[cfg(test)]
mod tests;
