//! What plugins make of the resources of containers that exist.
//!
//! A request is about one container, whose change each plugin sees with what plugins before it made of it. In the
//! response to that request, and to those to create and stop a container, a plugin may change any other container as
//! well. All of it is merged by container, field by field.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use crate::owners::{Claims, Conflict};
use crate::proto::{
    ContainerEviction, ContainerUpdate, Field, LinuxContainerUpdate, LinuxResources, OwningPlugins,
    UpdateContainerRequest, UpdateContainerResponse,
};

/// Changes of containers, of all plugins together. That is all of StopContainer.
#[derive(Debug, Default)]
pub struct Updates {
    pub(crate) owners: OwningPlugins,
    /// In the order in which plugins first spoke of a container.
    updates: Vec<ContainerUpdate>,
    /// Places in `updates`, by container.
    places: BTreeMap<String, usize>,
}

impl Updates {
    /// Merges what a plugin wants. Of a change whose failure may be ignored, nothing remains if it conflicts.
    ///
    /// # Errors
    /// If another plugin has set the same field of the same container, or this one did in an earlier response.
    pub fn apply(&mut self, plugin: &str, updates: Vec<ContainerUpdate>) -> Result<(), Conflict> {
        for update in updates {
            let id = update.container_id;
            let place = *self.places.entry(id.clone()).or_insert(self.updates.len());
            if place == self.updates.len() {
                self.updates.push(ContainerUpdate {
                    container_id: id.clone(),
                    linux: None,
                    ignore_failure: true,
                });
            }
            let merged = &mut self.updates[place];
            merged.ignore_failure &= update.ignore_failure;
            let Some(wanted) = update.linux.and_then(|linux| linux.resources) else {
                continue;
            };
            let known = self.owners.owners.entry(id.clone()).or_default();
            let mut owners = known.clone();
            let mut claims = Claims {
                owners: &mut owners,
                container: &id,
                plugin,
            };
            match claim(&mut claims, &wanted) {
                Ok(()) => {
                    *known = owners;
                    let linux = merged.linux.get_or_insert_default();
                    overlay(linux.resources.get_or_insert_default(), &wanted);
                }
                Err(_) if update.ignore_failure => {}
                Err(conflict) => return Err(conflict),
            }
        }
        Ok(())
    }

    /// One change for each container.
    pub fn finish(self) -> Vec<ContainerUpdate> {
        self.updates
    }
}

/// An UpdateContainer request on its way through the plugins.
#[derive(Debug)]
pub struct Updating {
    request: UpdateContainerRequest,
    /// The first is that of the request's container.
    updates: Updates,
    evictions: Vec<ContainerEviction>,
}

/// What is to be done for an UpdateContainer request.
#[derive(Debug)]
pub struct Updated {
    /// The change of the request's container.
    pub resources: LinuxResources,
    /// Changes of others.
    pub updates: Vec<ContainerUpdate>,
    /// Containers to stop.
    pub evictions: Vec<ContainerEviction>,
}

impl Updating {
    /// Begins with what the client asks for.
    pub fn new(request: UpdateContainerRequest) -> Self {
        let id = request.container.as_ref().map(|container| container.id.clone());
        let id = id.unwrap_or_default();
        let asked = ContainerUpdate {
            container_id: id.clone(),
            linux: Some(LinuxContainerUpdate {
                resources: Some(request.linux_resources.clone().unwrap_or_default()),
            }),
            ignore_failure: false,
        };
        let updates = Updates {
            updates: vec![asked],
            places: [(id, 0)].into(),
            ..Updates::default()
        };
        Self {
            request,
            updates,
            evictions: Vec::new(),
        }
    }

    /// The request for the next plugin.
    pub fn request(&self) -> &UpdateContainerRequest {
        &self.request
    }

    /// Merges the response of a plugin.
    ///
    /// # Errors
    /// As [`Updates::apply`]; the client may set what plugins set, too.
    pub fn apply(&mut self, plugin: &str, response: UpdateContainerResponse) -> Result<(), Conflict> {
        self.updates.apply(plugin, response.update)?;
        let own = self.updates.updates[0].linux.as_ref();
        self.request.linux_resources = own.and_then(|linux| linux.resources.clone());
        evict(&mut self.evictions, response.evict);
        Ok(())
    }

    /// Ends with what all plugins made of it.
    pub fn finish(self) -> Updated {
        let mut updates = self.updates.finish();
        updates.remove(0);
        Updated {
            resources: self.request.linux_resources.unwrap_or_default(),
            updates,
            evictions: self.evictions,
        }
    }
}

/// Each container once, for the reason that the first plugin gave.
pub(crate) fn evict(evictions: &mut Vec<ContainerEviction>, wanted: Vec<ContainerEviction>) {
    evictions.extend(wanted);
    let mut known = std::collections::BTreeSet::new();
    evictions.retain(|one| known.insert(one.container_id.clone()));
}

/// Claims all fields that are given.
pub(crate) fn claim(claims: &mut Claims<'_>, wanted: &LinuxResources) -> Result<(), Conflict> {
    if let Some(memory) = &wanted.memory {
        for (given, field) in [
            (memory.limit.is_some(), Field::MemLimit),
            (memory.reservation.is_some(), Field::MemReservation),
            (memory.swap.is_some(), Field::MemSwapLimit),
            (memory.kernel.is_some(), Field::MemKernelLimit),
            (memory.kernel_tcp.is_some(), Field::MemTcpLimit),
            (memory.swappiness.is_some(), Field::MemSwappiness),
            (memory.disable_oom_killer.is_some(), Field::MemDisableOomKiller),
            (memory.use_hierarchy.is_some(), Field::MemUseHierarchy),
        ] {
            if given {
                claims.claim(field)?;
            }
        }
    }
    if let Some(cpu) = &wanted.cpu {
        for (given, field) in [
            (cpu.shares.is_some(), Field::CpuShares),
            (cpu.quota.is_some(), Field::CpuQuota),
            (cpu.period.is_some(), Field::CpuPeriod),
            (cpu.realtime_runtime.is_some(), Field::CpuRealtimeRuntime),
            (cpu.realtime_period.is_some(), Field::CpuRealtimePeriod),
            (!cpu.cpus.is_empty(), Field::CpuSetCpUs),
            (!cpu.mems.is_empty(), Field::CpuSetMems),
        ] {
            if given {
                claims.claim(field)?;
            }
        }
    }
    for limit in &wanted.hugepage_limits {
        claims.claim_entry(Field::HugepageLimits, &limit.page_size)?;
    }
    for file in wanted.unified.keys() {
        claims.claim_entry(Field::CgroupsUnified, file)?;
    }
    for (given, field) in [
        (wanted.blockio_class.is_some(), Field::BlockioClass),
        (wanted.rdt_class.is_some(), Field::RdtClass),
        (wanted.pids.is_some(), Field::PidsLimit),
    ] {
        if given {
            claims.claim(field)?;
        }
    }
    Ok(())
}

/// Writes what is given over what is there. Device rules have no owner and cannot be updated: creation adds them.
pub(crate) fn overlay(target: &mut LinuxResources, wanted: &LinuxResources) {
    if let Some(memory) = &wanted.memory {
        let target = target.memory.get_or_insert_default();
        set(&mut target.limit, &memory.limit);
        set(&mut target.reservation, &memory.reservation);
        set(&mut target.swap, &memory.swap);
        set(&mut target.kernel, &memory.kernel);
        set(&mut target.kernel_tcp, &memory.kernel_tcp);
        set(&mut target.swappiness, &memory.swappiness);
        set(&mut target.disable_oom_killer, &memory.disable_oom_killer);
        set(&mut target.use_hierarchy, &memory.use_hierarchy);
    }
    if let Some(cpu) = &wanted.cpu {
        let target = target.cpu.get_or_insert_default();
        set(&mut target.shares, &cpu.shares);
        set(&mut target.quota, &cpu.quota);
        set(&mut target.period, &cpu.period);
        set(&mut target.realtime_runtime, &cpu.realtime_runtime);
        set(&mut target.realtime_period, &cpu.realtime_period);
        for (target, list) in [(&mut target.cpus, &cpu.cpus), (&mut target.mems, &cpu.mems)] {
            if !list.is_empty() {
                target.clone_from(list);
            }
        }
    }
    for limit in &wanted.hugepage_limits {
        target
            .hugepage_limits
            .retain(|known| known.page_size != limit.page_size);
        target.hugepage_limits.push(limit.clone());
    }
    target.unified.extend(wanted.unified.clone());
    set(&mut target.blockio_class, &wanted.blockio_class);
    set(&mut target.rdt_class, &wanted.rdt_class);
    set(&mut target.pids, &wanted.pids);
}

pub(crate) fn set<T: Clone>(target: &mut Option<T>, wanted: &Option<T>) {
    if wanted.is_some() {
        target.clone_from(wanted);
    }
}
