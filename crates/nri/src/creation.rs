//! A CreateContainer request on its way through the plugins: each sees the container as plugins before it adjusted it.
//!
//! ```text
//! CreateContainerRequest ─new─▶ Creation ─request─▶ plugin ─apply─▶ Creation … ─finish─▶ Merged ──▶ validators
//! ```
//!
//! A key with `-` in front takes an entry away: one that the container has, or one that a plugin added. A
//! plugin that removes an entry and adds it in the same response replaces it, whoever owns it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::owners::{Claims, Conflict, REMOVAL};
use crate::proto::{
    Container, ContainerAdjustment, ContainerEviction, CreateContainerRequest, CreateContainerResponse,
    Field, Hooks, LinuxContainer, LinuxContainerAdjustment, LinuxRdt, PluginInstance,
    ValidateContainerAdjustmentRequest,
};
use crate::update::{self, Updates, evict, overlay, set};

/// The request, and what plugins have wanted so far.
#[derive(Debug)]
pub struct Creation {
    request: CreateContainerRequest,
    /// Before any adjustment.
    pristine: Container,
    adjust: ContainerAdjustment,
    /// Its owners are those of the container's fields too.
    updates: Updates,
    evictions: Vec<ContainerEviction>,
}

/// What all plugins want together.
#[derive(Debug)]
pub struct Merged {
    /// For the validators, and then to be done. `adjust`, for the container, is always there; `update` is for others.
    pub validation: ValidateContainerAdjustmentRequest,
    /// Containers to stop. Validators do not see them.
    pub evictions: Vec<ContainerEviction>,
}

impl Creation {
    /// Begins with the container as the client asks for it.
    pub fn new(request: CreateContainerRequest) -> Self {
        Self {
            pristine: request.container.clone().unwrap_or_default(),
            request,
            adjust: ContainerAdjustment::default(),
            updates: Updates::default(),
            evictions: Vec::new(),
        }
    }

    /// The request for the next plugin. It does not show what earlier ones want of CDI devices, RDT and memory policy.
    pub fn request(&self) -> &CreateContainerRequest {
        &self.request
    }

    /// Merges the response of a plugin. After an error the creation must fail.
    ///
    /// # Errors
    /// If a field has been set before and is not removed first, or if it updates the container.
    pub fn apply(&mut self, plugin: &str, response: CreateContainerResponse) -> Result<(), Conflict> {
        if let Some(adjust) = response.adjust {
            self.adjust(plugin, adjust)?;
        }
        let id = &self.pristine.id;
        if response.update.iter().any(|update| update.container_id == *id) {
            return Err(Conflict::NotCreated {
                container: id.clone(),
                plugin: plugin.to_owned(),
            });
        }
        self.updates.apply(plugin, response.update)?;
        evict(&mut self.evictions, response.evict);
        Ok(())
    }

    /// Ends with what all plugins want. The plugins are all that were asked, whether they wanted something or not.
    pub fn finish(mut self, plugins: Vec<PluginInstance>) -> Merged {
        let owners = std::mem::take(&mut self.updates.owners);
        let validation = ValidateContainerAdjustmentRequest {
            pod: self.request.pod,
            container: Some(self.pristine),
            adjust: Some(self.adjust),
            update: self.updates.finish(),
            owners: Some(owners),
            plugins,
        };
        Merged {
            validation,
            evictions: self.evictions,
        }
    }

    fn adjust(&mut self, plugin: &str, wanted: ContainerAdjustment) -> Result<(), Conflict> {
        let id = &self.pristine.id;
        let claims = &mut Claims {
            owners: self.updates.owners.owners.entry(id.clone()).or_default(),
            container: id,
            plugin,
        };
        let seen = self.request.container.get_or_insert_default();
        let merged = &mut self.adjust;
        let ContainerAdjustment {
            annotations,
            mounts,
            env,
            hooks,
            linux,
            rlimits,
            cdi_devices,
            args,
        } = wanted;

        map(
            claims,
            Field::Annotations,
            annotations,
            &mut seen.annotations,
            &mut merged.annotations,
        )?;

        list(
            claims,
            Field::Mounts,
            &mounts,
            |mount| &mount.destination,
            &mut merged.mounts,
        )?;
        show(
            &mounts,
            |mount| &mount.destination,
            &mut seen.mounts,
            |mount| &mount.destination,
            Clone::clone,
        );

        list(
            claims,
            Field::Env,
            &env,
            |variable| &variable.key,
            &mut merged.env,
        )?;
        show(
            &env,
            |variable| &variable.key,
            &mut seen.env,
            |text| text.split_once('=').map_or(text, |(name, _)| name),
            |variable| format!("{}={}", variable.key, variable.value),
        );

        if let Some((first, rest)) = args.split_first() {
            if first.is_empty() {
                claims.clear(Field::Args);
            }
            claims.claim(Field::Args)?;
            merged.args = if first.is_empty() { rest.to_vec() } else { args };
            seen.args.clone_from(match merged.args.is_empty() {
                true => &self.pristine.args,
                false => &merged.args,
            });
        }

        if let Some(hooks) = hooks.filter(|hooks| *hooks != Hooks::default()) {
            claims.join(Field::OciHooks);
            add(&mut seen.hooks, hooks.clone());
            add(&mut merged.hooks, hooks);
        }

        if let Some(linux) = linux {
            adjust_linux(
                claims,
                linux,
                seen.linux.get_or_insert_default(),
                merged.linux.get_or_insert_default(),
            )?;
        }

        for limit in rlimits {
            claims.claim_entry(Field::Rlimits, &limit.r#type)?;
            seen.rlimits.retain(|known| known.r#type != limit.r#type);
            seen.rlimits.push(limit.clone());
            merged.rlimits.push(limit);
        }

        for device in cdi_devices {
            claims.claim_entry(Field::CdiDevices, &device.name)?;
            merged.cdi_devices.push(device);
        }
        Ok(())
    }
}

fn adjust_linux(
    claims: &mut Claims<'_>,
    wanted: LinuxContainerAdjustment,
    seen: &mut LinuxContainer,
    merged: &mut LinuxContainerAdjustment,
) -> Result<(), Conflict> {
    let LinuxContainerAdjustment {
        devices,
        resources,
        cgroups_path,
        oom_score_adj,
        io_priority,
        seccomp_policy,
        namespaces,
        sysctl,
        net_devices,
        scheduler,
        rdt,
        memory_policy,
    } = wanted;

    list(
        claims,
        Field::Devices,
        &devices,
        |device| &device.path,
        &mut merged.devices,
    )?;
    show(
        &devices,
        |device| &device.path,
        &mut seen.devices,
        |device| &device.path,
        Clone::clone,
    );

    if let Some(resources) = resources {
        update::claim(claims, &resources)?;
        for target in [&mut seen.resources, &mut merged.resources] {
            let target = target.get_or_insert_default();
            overlay(target, &resources);
            target.devices.extend_from_slice(&resources.devices);
        }
    }

    if !cgroups_path.is_empty() {
        claims.claim(Field::CgroupsPath)?;
        seen.cgroups_path.clone_from(&cgroups_path);
        merged.cgroups_path = cgroups_path;
    }

    for (given, field) in [
        (oom_score_adj.is_some(), Field::OomScoreAdj),
        (io_priority.is_some(), Field::IoPriority),
        (seccomp_policy.is_some(), Field::SeccompPolicy),
        (scheduler.is_some(), Field::LinuxSched),
        (memory_policy.is_some(), Field::MemoryPolicy),
    ] {
        if given {
            claims.claim(field)?;
        }
    }
    set(&mut seen.oom_score_adj, &oom_score_adj);
    set(&mut merged.oom_score_adj, &oom_score_adj);
    set(&mut seen.io_priority, &io_priority);
    set(&mut merged.io_priority, &io_priority);
    set(&mut seen.seccomp_policy, &seccomp_policy);
    set(&mut merged.seccomp_policy, &seccomp_policy);
    set(&mut seen.scheduler, &scheduler);
    set(&mut merged.scheduler, &scheduler);
    set(&mut merged.memory_policy, &memory_policy);

    for namespace in namespaces {
        let kind = bare(&namespace.r#type);
        claims.claim_entry(Field::Namespace, kind)?;
        seen.namespaces.retain(|known| known.r#type != kind);
        if kind == namespace.r#type {
            seen.namespaces.push(namespace.clone());
        }
        merged.namespaces.push(namespace);
    }

    map(
        claims,
        Field::Sysctl,
        sysctl,
        &mut seen.sysctl,
        &mut merged.sysctl,
    )?;
    map(
        claims,
        Field::LinuxNetDevices,
        net_devices,
        &mut seen.net_devices,
        &mut merged.net_devices,
    )?;

    if let Some(rdt) = rdt {
        adjust_rdt(claims, &rdt, merged.rdt.get_or_insert_default())?;
    }
    Ok(())
}

fn adjust_rdt(claims: &mut Claims<'_>, wanted: &LinuxRdt, merged: &mut LinuxRdt) -> Result<(), Conflict> {
    const FIELDS: [Field; 3] = [Field::RdtClosId, Field::RdtSchemata, Field::RdtEnableMonitoring];
    if wanted.remove {
        for field in FIELDS {
            claims.clear(field);
        }
        *merged = LinuxRdt {
            remove: true,
            ..LinuxRdt::default()
        };
    }
    let given = [
        wanted.clos_id.is_some(),
        wanted.schemata.is_some(),
        wanted.enable_monitoring.is_some(),
    ];
    for (_, field) in given.into_iter().zip(FIELDS).filter(|(given, _)| *given) {
        claims.claim(field)?;
        merged.remove = false;
    }
    set(&mut merged.clos_id, &wanted.clos_id);
    set(&mut merged.schemata, &wanted.schemata);
    set(&mut merged.enable_monitoring, &wanted.enable_monitoring);
    Ok(())
}

/// Merges entries of a map, removals before all others. A removal stays in the result: the container may have the entry.
fn map<V: Clone + Default>(
    claims: &mut Claims<'_>,
    field: Field,
    wanted: BTreeMap<String, V>,
    seen: &mut BTreeMap<String, V>,
    merged: &mut BTreeMap<String, V>,
) -> Result<(), Conflict> {
    for marked in wanted.keys().filter(|key| key.starts_with(REMOVAL)) {
        let key = bare(marked);
        // Without an owner there is nobody whose place to take.
        if merged.remove(key).is_some() || wanted.contains_key(key) {
            claims.clear_entry(field, key);
        }
        seen.remove(key);
        merged.insert(marked.clone(), V::default());
    }
    for (key, value) in wanted.into_iter().filter(|(key, _)| !key.starts_with(REMOVAL)) {
        claims.claim_entry(field, &key)?;
        seen.insert(key.clone(), value.clone());
        merged.insert(key, value);
    }
    Ok(())
}

/// Merges entries of a list, removals before all others. A removal without a new entry stays in the result.
fn list<T: Clone>(
    claims: &mut Claims<'_>,
    field: Field,
    wanted: &[T],
    key: fn(&T) -> &str,
    merged: &mut Vec<T>,
) -> Result<(), Conflict> {
    let (removals, additions): (Vec<_>, Vec<_>) =
        wanted.iter().partition(|entry| key(entry).starts_with(REMOVAL));
    let removed: BTreeSet<_> = removals.iter().map(|entry| bare(key(entry))).collect();
    let added: BTreeSet<_> = additions.iter().map(|entry| key(entry)).collect();
    let known: BTreeSet<_> = merged.iter().map(key).collect();
    for &key in &removed {
        if known.contains(key) || added.contains(key) {
            claims.clear_entry(field, key);
        }
    }
    merged.retain(|entry| !removed.contains(bare(key(entry))));
    for entry in additions {
        claims.claim_entry(field, key(entry))?;
        merged.push(entry.clone());
    }
    let alone = removals
        .into_iter()
        .filter(|entry| !added.contains(bare(key(entry))));
    merged.extend(alone.cloned());
    Ok(())
}

/// Does to a list of the container what [`list`] will do in the end.
fn show<T, S>(
    wanted: &[T],
    key: fn(&T) -> &str,
    seen: &mut Vec<S>,
    seen_key: fn(&S) -> &str,
    entry: fn(&T) -> S,
) {
    let touched: BTreeSet<_> = wanted.iter().map(|entry| bare(key(entry))).collect();
    seen.retain(|known| !touched.contains(seen_key(known)));
    let additions = wanted.iter().filter(|entry| !key(entry).starts_with(REMOVAL));
    seen.extend(additions.map(entry));
}

fn add(target: &mut Option<Hooks>, hooks: Hooks) {
    let target = target.get_or_insert_default();
    let Hooks {
        prestart,
        create_runtime,
        create_container,
        start_container,
        poststart,
        poststop,
    } = hooks;
    target.prestart.extend(prestart);
    target.create_runtime.extend(create_runtime);
    target.create_container.extend(create_container);
    target.start_container.extend(start_container);
    target.poststart.extend(poststart);
    target.poststop.extend(poststop);
}

/// The key without the marker for removal.
pub(crate) fn bare(key: &str) -> &str {
    key.strip_prefix(REMOVAL).unwrap_or(key)
}
