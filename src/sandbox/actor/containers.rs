//! Containers: made, started, updated.

use super::{Actor, Answer, Done, Goal, PodError, PodState, answer, answer_all};
use crate::container::{ExitInfo, RunState};
use crate::id::Id;
use crate::proto::v1;
use crate::sandbox::registry::CONTAINER;
use crate::sandbox::slot::{Busy, Making, Slot};
use crate::sandbox::work::{self, ContainerMade, Started};

impl Actor {
    /// Makes a container, joins the making of the same one, or gives the one that is there already.
    pub(super) fn create_container(&mut self, config: Box<v1::ContainerConfig>, waiter: Answer<Id>) {
        let metadata = config.metadata.clone().unwrap_or_default();
        let name = (metadata.name, metadata.attempt);
        if self.record.state != PodState::Ready || self.goal != Goal::Run {
            return answer(
                waiter,
                Err(self.not_ready("containers are only made in a ready pod")),
            );
        }
        if let Some(making) = self.making.get_mut(&name) {
            if making.config == config {
                return making.waiters.push(waiter);
            }
            return answer(waiter, Err(taken(&name, "one that is being made")));
        }
        if let Some(slot) = self.containers.values().find(|slot| slot.record.name() == name) {
            let same = slot.record.config == *config && slot.record.run == RunState::Created;
            let id = slot.record.id.clone();
            let result = if same {
                Ok(id)
            } else {
                Err(taken(&name, id.as_str()))
            };
            return answer(waiter, result);
        }
        let (services, pod) = (self.services.clone(), self.record.clone());
        let target = self.target_pid(&config);
        self.making.insert(
            name.clone(),
            Making {
                config: config.clone(),
                waiters: vec![waiter],
            },
        );
        let steps = self.handle.begin("CreateContainer", &name.0);
        self.work.spawn(async move {
            let made = work::make_container(&services, &pod, *config, target, &steps).await;
            Done::ContainerMade(name, made.map(Box::new))
        });
    }

    /// The process whose PID namespace a debug container joins, where it joins one of this pod.
    fn target_pid(&self, config: &v1::ContainerConfig) -> Option<i32> {
        let security = config.linux.as_ref()?.security_context.as_ref()?;
        let target = &security.namespace_options.as_ref()?.target_id;
        let slot = self.containers.get(&Id::try_from(target.clone()).ok()?)?;
        match slot.record.run {
            RunState::Running { pid, .. } => Some(pid),
            RunState::Created | RunState::Exited(_) => None,
        }
    }

    pub(super) fn container_made(
        &mut self,
        name: &(String, u32),
        result: Result<Box<ContainerMade>, PodError>,
    ) {
        let mut waiters = self
            .making
            .remove(name)
            .map(|making| making.waiters)
            .unwrap_or_default();
        let outcome = result.and_then(|made| {
            let ContainerMade {
                record,
                parts,
                leases,
            } = *made;
            self.save_container(&record)?;
            let id = record.id.clone();
            self.containers
                .insert(id.clone(), Box::new(Slot::new(record, Some(parts), leases)));
            self.registry.enter_container(id.clone(), self.handle.clone());
            self.publish();
            Ok(id)
        });
        answer_all(&mut waiters, &outcome);
    }

    /// Starts a container that was made; joins a start under way.
    pub(super) fn start_container(&mut self, id: &Id, waiter: Answer<()>) {
        let ready = self.record.state == PodState::Ready && self.goal == Goal::Run;
        let not_ready = self.not_ready("containers are only started in a ready pod");
        let Some(slot) = self.containers.get_mut(id) else {
            return answer(waiter, Err(unknown(id)));
        };
        let refusal = |state, hint| {
            Err(PodError::State {
                what: CONTAINER,
                id: id.to_string(),
                state,
                hint,
            })
        };
        match (&slot.record.run, slot.busy) {
            (_, Some(Busy::Starting)) => return slot.start_waiters.push(waiter),
            (_, Some(Busy::Removing)) => return answer(waiter, refusal("being removed", "make a new one")),
            (RunState::Created, _) if !ready => return answer(waiter, Err(not_ready)),
            (RunState::Created, _) => {}
            (RunState::Running { .. }, _) => {
                return answer(
                    waiter,
                    refusal("running", "only a created container can be started"),
                );
            }
            (RunState::Exited(_), _) => {
                return answer(
                    waiter,
                    refusal(
                        "exited",
                        "a container starts only once: make a new one with the next attempt",
                    ),
                );
            }
        }
        slot.start_waiters.push(waiter);
        slot.busy = Some(Busy::Starting);
        let parts = slot.parts.take();
        let (services, pod, record) = (self.services.clone(), self.record.clone(), slot.record.clone());
        let (handle, id) = (self.handle.clone(), id.clone());
        let steps = self.handle.begin("StartContainer", id.short());
        self.work.spawn(async move {
            Done::Started(
                id,
                work::start_container(&services, &pod, &record, parts, &handle, &steps).await,
            )
        });
    }

    pub(super) fn started(&mut self, id: &Id, result: Result<Started, PodError>) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        slot.busy = None;
        slot.inherited_start = false;
        let outcome = match result {
            Ok(Started { pid, at }) => {
                slot.change().run = match slot.early_exit.take() {
                    Some(exit) => RunState::Exited(ExitInfo::of(at, &exit)),
                    None => RunState::Running { pid, started_at: at },
                };
                Ok(())
            }
            Err(error) => {
                slot.change().run =
                    RunState::Exited(ExitInfo::start_error(crate::state::now(), error.text()));
                Err(error)
            }
        };
        let mut waiters = std::mem::take(&mut slot.start_waiters);
        let ended = !slot.running();
        self.save_news(id);
        self.publish();
        if ended {
            self.after_exit(id);
        }
        answer_all(&mut waiters, &outcome);
    }

    /// Changes the resources of a container, one change after the other.
    pub(super) fn update_resources(
        &mut self,
        id: &Id,
        resources: Box<v1::LinuxContainerResources>,
        waiter: Answer<()>,
    ) {
        let Some(slot) = self.containers.get_mut(id) else {
            return answer(waiter, Err(unknown(id)));
        };
        if let RunState::Exited(_) = slot.record.run {
            let hint = "only a created or running container has resources to change";
            return answer(
                waiter,
                Err(PodError::State {
                    what: CONTAINER,
                    id: id.to_string(),
                    state: "exited",
                    hint,
                }),
            );
        }
        slot.updates.push_back((resources, waiter));
    }

    /// Begins the next change of a container's resources. One that changes nothing puts those back into force that it
    /// has.
    pub(super) fn advance_update(&mut self, id: &Id) {
        let Some(slot) = self.containers.get_mut(id).filter(|slot| slot.busy.is_none()) else {
            return;
        };
        let Some((resources, waiter)) = slot.updates.pop_front() else {
            return;
        };
        slot.busy = Some(Busy::Updating);
        let (services, pod, record, id) = (
            self.services.clone(),
            self.record.clone(),
            slot.record.clone(),
            id.clone(),
        );
        self.work.spawn(async move {
            let merged = Box::new(work::merge_resources(&record.resources, &resources));
            let result = if *resources == v1::LinuxContainerResources::default() {
                work::restore_resources(&services, &pod, &record).await
            } else {
                work::update_resources(&services, &pod, &record, &merged).await
            };
            Done::Updated(id, merged, waiter, result)
        });
    }

    pub(super) fn updated(
        &mut self,
        id: &Id,
        resources: v1::LinuxContainerResources,
        waiter: Answer<()>,
        result: Result<(), PodError>,
    ) {
        if let Some(slot) = self.containers.get_mut(id) {
            slot.busy = None;
            if result.is_ok() && slot.record.resources != resources {
                slot.change().resources = resources;
                self.save_news(id);
                self.publish();
            }
        }
        answer(waiter, result);
    }

    /// Begins a new log file for a running container.
    pub(super) fn reopen_log(&mut self, id: &Id, waiter: Answer<()>) {
        let Some(slot) = self.containers.get(id) else {
            return answer(waiter, Err(unknown(id)));
        };
        if !slot.running() {
            let hint = "only the log of a running container can be reopened";
            return answer(
                waiter,
                Err(PodError::State {
                    what: CONTAINER,
                    id: id.to_string(),
                    state: "not running",
                    hint,
                }),
            );
        }
        let (record, monitor) = (slot.record.clone(), self.handle.monitor());
        self.work.spawn(async move {
            answer(waiter, work::reopen_log(&record, monitor).await);
            Done::Told
        });
    }
}

pub(super) fn unknown(id: &Id) -> PodError {
    PodError::Lookup(crate::id::LookupError::NotFound {
        what: CONTAINER,
        id: id.to_string(),
    })
}

fn taken(name: &(String, u32), id: &str) -> PodError {
    PodError::Taken {
        what: CONTAINER,
        name: format!("{}_{}", name.0, name.1),
        id: id.to_owned(),
    }
}
