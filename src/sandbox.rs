//! Pods: what is asked of them, in which order it happens, and what is known of them.
//!
//! ```text
//!   Pods ──── registry: id, prefix, name ─▶ handle
//!     │                                       │ queue            │ view (immutable, replaced)
//!     │ commands                              ▼                  ▼
//!     └───────────────────────────────▶ actor, one a pod     list, status, exec
//!                                             │ begins
//!                                             ▼
//!                                        work: steps that take time
//! ```
//!
//! Invariants: a pod and its containers are changed by their actor only; a record is saved before anybody
//! sees or is told what is in it; an operation, once accepted, goes on whether or not its client still
//! waits, and asking for the same again joins it or gets its result; readers never wait.
//!
//! This room never looks into an image, never forms an OCI spec, never speaks CNI: it calls the rooms that do.
//! States of pods are drawn in `actor/pod.rs`, those of containers in [`crate::container`].
//! Sources: CRI v1 RuntimeService; kubelet's expectations of idempotency.

mod actor;
mod care;
mod error;
mod handle;
mod link;
mod reading;
mod record;
mod recover;
mod registry;
mod services;
mod slot;
mod stats;
mod status;
mod streaming;
mod validate;
mod work;

use std::sync::Arc;
use std::time::Duration;

pub use care::Care;
pub use error::PodError;
pub use record::{PodName, PodRecord, PodState};
pub use recover::Recovered;
pub use services::{Services, Settings};

use actor::Actor;
use handle::{Command, PodHandle};
use registry::Registry;

use crate::container;
use crate::error::Kinded;
use crate::id::{Id, LookupError};
use crate::proto::v1;

/// All pods of this node.
#[derive(Debug, Clone)]
pub struct Pods {
    services: Arc<Services>,
    registry: Arc<Registry>,
    stats: Arc<stats::Memory>,
}

impl Pods {
    /// Takes over what is on disk and in the kernel, and says what was found.
    pub async fn open(services: Services) -> (Self, Recovered) {
        let pods = Self {
            stats: Arc::new(stats::Memory::new(&services)),
            services: Arc::new(services),
            registry: Arc::new(Registry::default()),
        };
        let recovered = recover::recover(&pods).await;
        (pods, recovered)
    }

    /// The rooms that pods are made with.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Makes a pod, or joins the making of the same one, or finds it made.
    ///
    /// # Errors
    /// Why it could not be made; then nothing of it is left, unless a debt of the network, which shows as a
    /// pod that is not ready.
    pub async fn run(&self, config: v1::PodSandboxConfig, handler: String) -> Result<Id, PodError> {
        validate::pod(&config)?;
        let name = PodName::of(&config);
        let parent = config
            .linux
            .as_ref()
            .map_or("", |linux| linux.cgroup_parent.as_str());
        // Refused now rather than when the first container needs it.
        self.services
            .cgroups
            .monitor_path(parent, "0")
            .map_err(|error| PodError::failed("use config.linux.cgroup_parent", error))?;
        loop {
            let (handle, queue) = PodHandle::new(Id::random(), name.clone());
            match self.registry.enter(&handle) {
                Ok(()) => {
                    self.begin(&handle, queue, config, handler);
                    handle.ask(Command::AwaitReady).await?;
                    return Ok(handle.id.clone());
                }
                Err(holder) => match holder.ask(Command::AwaitReady).await {
                    // It was on its way out, and has left: its name is free now.
                    Err(PodError::Gone { .. }) if !self.registry.knows(&holder.id) => {}
                    Err(error) => return Err(error),
                    Ok(()) => return same_as(&holder, &config, &handler),
                },
            }
        }
    }

    /// Gives a pod its actor, which begins to make it.
    fn begin(
        &self,
        handle: &Arc<PodHandle>,
        queue: tokio::sync::mpsc::UnboundedReceiver<Command>,
        config: v1::PodSandboxConfig,
        handler: String,
    ) {
        let record = self.draft(handle.id.clone(), config, handler);
        let mut actor = Actor::new(
            self.services.clone(),
            self.registry.clone(),
            handle.clone(),
            record,
            queue,
        );
        actor.make();
        tokio::spawn(actor.run());
    }

    fn draft(&self, id: Id, config: v1::PodSandboxConfig, handler: String) -> PodRecord {
        let mut record = PodRecord {
            version: PodRecord::VERSION,
            config,
            handler,
            created_at: crate::state::now(),
            state: PodState::Creating,
            netns: None,
            network: None,
            network_debt: false,
            monitor_cgroup: true,
            monitor_pid: 0,
            boot_id: crate::state::boot_id(),
            id,
        };
        if !record.host_network() {
            record.netns = Some(self.services.settings.netns(&record.id));
            record.network_debt = true;
        }
        record
    }

    /// Ends everything in a pod. Of one that is not there: done.
    ///
    /// # Errors
    /// The first step that failed; the others were done. Asked again, the rest is.
    pub async fn stop(&self, id: &str) -> Result<(), PodError> {
        match self.registry.pod(id) {
            Ok(handle) => gone_is_fine(handle.ask(Command::Stop).await),
            Err(error) => absent_is_fine(error),
        }
    }

    /// Ends a pod and removes all that is left of it. Of one that is not there: done.
    ///
    /// # Errors
    /// As [`Pods::stop`].
    pub async fn remove(&self, id: &str) -> Result<(), PodError> {
        match self.registry.pod(id) {
            Ok(handle) => gone_is_fine(handle.ask(Command::Remove).await),
            Err(error) => absent_is_fine(error),
        }
    }

    /// Makes a container in a pod that is ready, or joins the making of the same one, or finds it made.
    ///
    /// # Errors
    /// Why it could not be made; then nothing of it is left.
    pub async fn create_container(&self, pod: &str, config: v1::ContainerConfig) -> Result<Id, PodError> {
        validate::container(&config)?;
        self.check_target(pod, &config)?;
        let handle = self.registry.pod(pod)?;
        handle
            .ask(|answer| Command::CreateContainer(Box::new(config), answer))
            .await
    }

    /// A debug container's target must be a running container of the same pod.
    fn check_target(&self, pod: &str, config: &v1::ContainerConfig) -> Result<(), PodError> {
        const FIELD: &str = "config.linux.security_context.namespace_options.target_id";
        let options = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref());
        let options = options.and_then(|context| context.namespace_options.as_ref());
        let Some(options) = options.filter(|options| options.pid() == v1::NamespaceMode::Target) else {
            return Ok(());
        };
        let invalid = |problem: String| PodError::Invalid {
            field: FIELD,
            problem,
        };
        let (view, target) = self
            .container(&options.target_id)
            .map_err(|error| invalid(format!("leads nowhere: {error}")))?;
        if view.pod.id != self.registry.pod(pod)?.id {
            return Err(invalid(format!(
                "{:?} is a container of another pod",
                options.target_id
            )));
        }
        match target.run {
            container::RunState::Running { .. } => Ok(()),
            _ => Err(PodError::State {
                what: registry::CONTAINER,
                id: target.id.to_string(),
                state: "not running",
                hint: "only a running container's PID namespace can be joined",
            }),
        }
    }

    /// Starts a container that was made.
    ///
    /// # Errors
    /// Why it could not be started; then it is exited, with code 128.
    pub async fn start_container(&self, id: &str) -> Result<(), PodError> {
        let (id, handle) = self.registry.container(id)?;
        handle.ask(|answer| Command::StartContainer(id, answer)).await
    }

    /// Ends a container: its stop signal now, KILL after `grace`. Of one that is not there, or not running: done.
    ///
    /// # Errors
    /// It does not die.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), PodError> {
        match self.registry.container(id) {
            Ok((id, handle)) => gone_is_fine(
                handle
                    .ask(|answer| Command::StopContainer(id, grace, answer))
                    .await,
            ),
            Err(error) => absent_is_fine(error),
        }
    }

    /// Removes a container, ending it first if need be. Of one that is not there: done.
    ///
    /// # Errors
    /// It does not die, or something of it cannot be removed; asked again, the rest is.
    pub async fn remove_container(&self, id: &str) -> Result<(), PodError> {
        match self.registry.container(id) {
            Ok((id, handle)) => gone_is_fine(handle.ask(|answer| Command::RemoveContainer(id, answer)).await),
            Err(error) => absent_is_fine(error),
        }
    }

    /// Changes the resources of a container.
    ///
    /// # Errors
    /// It has exited, or the kernel refuses.
    pub async fn update_resources(
        &self,
        id: &str,
        resources: v1::LinuxContainerResources,
    ) -> Result<(), PodError> {
        let (id, handle) = self.registry.container(id)?;
        handle
            .ask(|answer| Command::UpdateResources(id, Box::new(resources), answer))
            .await
    }

    /// Begins a new log file for a running container, at the path of the old one.
    ///
    /// # Errors
    /// It is not running, or the file cannot be opened.
    pub async fn reopen_log(&self, id: &str) -> Result<(), PodError> {
        let (id, handle) = self.registry.container(id)?;
        handle.ask(|answer| Command::ReopenLog(id, answer)).await
    }

    /// Runs a command in a container and waits for it; `timeout` zero waits as long as it takes.
    ///
    /// # Errors
    /// The container is not running, the command cannot be started, or it did not end in time and was killed.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, PodError> {
        let (full, handle) = self.registry.container(id)?;
        let (_, record) = self.container(full.as_str())?;
        let output = work::exec_sync(&self.services, &handle, &record, command, timeout).await?;
        let work::ExecOutput {
            stdout,
            stderr,
            exit_code,
        } = output;
        Ok(v1::ExecSyncResponse {
            stdout,
            stderr,
            exit_code,
        })
    }
}

/// The pod that has the name, if it is the one asked for.
fn same_as(holder: &PodHandle, config: &v1::PodSandboxConfig, handler: &str) -> Result<Id, PodError> {
    let same = holder
        .view()
        .is_some_and(|view| view.pod.config == *config && view.pod.handler == handler);
    let taken = || PodError::Taken {
        what: registry::POD,
        name: holder.name.to_string(),
        id: holder.id.to_string(),
    };
    if same { Ok(holder.id.clone()) } else { Err(taken()) }
}

/// Stop and remove of what is not there are done.
fn absent_is_fine(error: LookupError) -> Result<(), PodError> {
    match error {
        LookupError::NotFound { .. } => Ok(()),
        other => Err(other.into()),
    }
}

/// What was removed while this waited is stopped and removed.
fn gone_is_fine(result: Result<(), PodError>) -> Result<(), PodError> {
    match result {
        Err(error) if error.kind() == crate::error::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
