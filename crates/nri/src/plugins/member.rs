//! The task of one plugin: from its connection to its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Origin, Plugins};
use crate::VERSION;
use crate::connection::{Connection, Incoming, code};
use crate::error::{CallError, End, Refusal, chain, clean};
use crate::launch::{Installed, Process};
use crate::name::Name;
use crate::plugin::{Events, Plugin};
use crate::proto::{ConfigureRequest, ConfigureResponse, ContainerUpdate, Empty, UpdateContainersResponse};

/// What is known of a plugin before it registers.
struct Candidate {
    /// The name of one that was started, whatever it registers with.
    name: Option<Name>,
    config: String,
    pid: Option<u32>,
    origin: Origin,
}

impl Plugins {
    /// Serves a plugin that has connected.
    pub(super) async fn serve_external(self: Arc<Self>, stream: UnixStream, pid: Option<u32>) {
        let candidate = Candidate {
            name: None,
            config: String::new(),
            pid,
            origin: Origin::External,
        };
        if let Err(refusal) = self.serve(stream, candidate, None).await {
            tracing::warn!(pid, error = chain(&refusal), "an NRI plugin is refused");
        }
    }

    /// Starts a plugin, serves it, and ends it. Drops `ready` when it is in the set or has failed.
    pub(super) async fn serve_launched(self: Arc<Self>, installed: Installed, ready: oneshot::Sender<()>) {
        let name = installed.name.clone();
        let refused = |refusal: &Refusal| {
            tracing::error!(
                plugin = %name,
                error = chain(refusal),
                "an NRI plugin that the runtime starts is not in use; it is not started again before the runtime is"
            );
        };
        let (process, stream) = match Process::launch(&installed).await {
            Ok(launched) => launched,
            Err(refusal) => return refused(&refusal),
        };
        let candidate = Candidate {
            name: Some(installed.name),
            config: installed.config,
            pid: Some(process.id()),
            origin: Origin::Launched,
        };
        if let Err(refusal) = self.serve(stream, candidate, Some(ready)).await {
            refused(&refusal);
        }
        // Only one that has been told of the end can be expected to end.
        let told = *self.stopping.borrow();
        let time = if told {
            self.settings.request_timeout
        } else {
            Duration::ZERO
        };
        process.end(time).await;
    }

    /// Takes a plugin into the set, and serves it until its end. An error if it did not come into the set.
    async fn serve(
        self: &Arc<Self>,
        stream: UnixStream,
        candidate: Candidate,
        ready: Option<oneshot::Sender<()>>,
    ) -> Result<(), Refusal> {
        let (connection, mut incoming) = Connection::start(stream, self.settings.request_timeout);
        let admitted = tokio::select! {
            admitted = self.admit(&connection, &mut incoming, candidate) => admitted,
            () = self.stopping() => Err(Refusal::Stopping),
        };
        drop(ready);
        let (plugin, updates) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                connection.end(End::Stopped);
                return Err(refusal);
            }
        };
        if !updates.is_empty() {
            let failed = self
                .runtime
                .update(plugin.name.to_string(), updates, Vec::new())
                .await;
            if !failed.is_empty() {
                tracing::warn!(
                    plugin = %plugin.name,
                    failed = failed.len(),
                    "updates that an NRI plugin asked for when it was synchronized failed"
                );
            }
        }
        loop {
            let call = tokio::select! {
                call = incoming.recv() => call,
                () = self.stopping() => {
                    // What the plugin answers does not matter, and it may end at once.
                    let told = plugin.connection.call::<Empty>("Shutdown", &Empty {}).await;
                    if let Err(CallError::Lost(end)) = told
                        && !matches!(*end, End::Closed)
                    {
                        tracing::warn!(
                            plugin = %plugin.name,
                            error = chain(&*end),
                            "an NRI plugin has not been told that the runtime ends"
                        );
                    }
                    plugin.connection.end(End::Stopped);
                    self.remove(&plugin);
                    return Ok(());
                }
            };
            match call {
                Some(Incoming::Update { stream, request }) => {
                    let name = plugin.name.to_string();
                    let failed = self.runtime.update(name, request.update, request.evict).await;
                    plugin
                        .connection
                        .answer(stream, &UpdateContainersResponse { failed });
                }
                Some(Incoming::Register { stream, .. }) => {
                    let message = "the plugin has registered already".to_owned();
                    plugin
                        .connection
                        .refuse(stream, code::FAILED_PRECONDITION, message);
                }
                None => break,
            }
        }
        self.remove(&plugin);
        log_end(&plugin);
        Ok(())
    }

    /// Lets a plugin register, configures it, synchronizes it, and puts it into the set. Returns what it wants to be
    /// updated, too.
    async fn admit(
        &self,
        connection: &Connection,
        incoming: &mut mpsc::Receiver<Incoming>,
        candidate: Candidate,
    ) -> Result<(Arc<Plugin>, Vec<ContainerUpdate>), Refusal> {
        let Candidate {
            name,
            config,
            pid,
            origin,
        } = candidate;
        let settings = &self.settings;
        let limit = settings.registration_timeout;
        let first = timeout(limit, incoming.recv()).await;
        let (stream, request) = match first.map_err(|_| Refusal::RegistrationTimeout(limit))? {
            Some(Incoming::Register { stream, request }) => (stream, request),
            Some(Incoming::Update { stream, .. }) => {
                let message = "the plugin has not registered".to_owned();
                connection.refuse(stream, code::FAILED_PRECONDITION, message);
                return Err(Refusal::NotRegistered);
            }
            None => return Err(Refusal::Lost(connection.reason())),
        };
        let name = match name {
            Some(name) => name,
            None => Name::new(&request.plugin_idx, &request.plugin_name).inspect_err(|refusal| {
                connection.refuse(stream, code::INVALID_ARGUMENT, refusal.to_string());
            })?,
        };
        connection.answer(stream, &Empty {});

        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let configure = ConfigureRequest {
            config,
            runtime_name: settings.runtime_name.clone(),
            runtime_version: settings.runtime_version.clone(),
            registration_timeout: milliseconds(settings.registration_timeout),
            request_timeout: milliseconds(settings.request_timeout),
            nri_version: VERSION.to_owned(),
        };
        let method = "Configure";
        let configured = connection.call::<ConfigureResponse>(method, &configure).await;
        let configured = configured.map_err(|source| Refusal::Call { method, source })?;
        let plugin = Arc::new(Plugin {
            name,
            events: Events::subscribed(configured.events)?,
            pid,
            origin,
            connection: connection.clone(),
            old: AtomicBool::new(false),
        });

        let limit = settings.request_timeout;
        let alone = timeout(limit, self.operations.write()).await;
        let alone = alone.map_err(|_| Refusal::Busy(limit))?;
        let runtime = Arc::clone(&self.runtime);
        let snapshot = tokio::task::spawn_blocking(move || runtime.snapshot()).await;
        let (pods, containers) = snapshot.map_err(|_| Refusal::Stopping)?;
        let counts = (pods.len(), containers.len());
        // It may have as much to do as for its start. New operations wait meanwhile.
        let limit = settings.registration_timeout;
        let synchronized = timeout(limit, plugin.synchronize(pods, containers, limit)).await;
        let updates = synchronized.unwrap_or_else(|_| {
            let method = "Synchronize";
            connection.end(End::Timeout { method, limit });
            let source = CallError::Lost(connection.reason());
            Err(Refusal::Call { method, source })
        })?;
        self.insert(Arc::clone(&plugin));
        drop(alone);
        tracing::info!(
            plugin = %plugin.name,
            pid,
            version = clean(&request.nri_version),
            pods = counts.0,
            containers = counts.1,
            "an NRI plugin is in use"
        );
        Ok((plugin, updates))
    }
}

fn log_end(plugin: &Plugin) {
    let reason = plugin.connection.reason();
    let again = match plugin.origin {
        Origin::Launched => "the runtime is started again",
        Origin::External => "it connects again",
    };
    let plugin = &plugin.name;
    match &*reason {
        End::Closed => tracing::warn!(
            %plugin,
            "an NRI plugin has closed its connection; it gets no events before {again}"
        ),
        end => {
            let event = match end {
                End::Timeout { method, .. } => Some(*method),
                _ => None,
            };
            let error = chain(end);
            tracing::error!(%plugin, event, error, "an NRI plugin is cut off; it gets no events before {again}");
        }
    }
}
