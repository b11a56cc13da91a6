//! The set of plugins: who is in it, and events for all of them.
//!
//! ```text
//!   socket ──▶ connects ─┐                       shared side: Operation        exclusive side
//!                        ├─▶ registers ─▶ is configured ─▶ waits until no operation is under way ─▶ is synchronized
//!   file ────▶ is started┘                                                                                │
//!                 cut off, or gone ◀──────────────────────────────── in the set: gets events ◀────────────┘
//! ```
//!
//! Each plugin has a task ([`member`]) that takes it through this. Events are one after the other, and plugins get each
//! one in the order of their index and name. A plugin answers within the time limit of requests, or it is cut off and
//! the event goes on.
//!
//! A plugin learns of every pod and container exactly once: those that exist when it is synchronized by
//! [`Runtime::snapshot`], later ones by events. For this the runtime holds an [`Operation`] from the first event of
//! what it does until the result is in its snapshot.
//!
//! It must never let a plugin hold up the node for longer than the time limit of requests for each event, nor let an
//! operation that hangs hold up others by a plugin that waits for it.

mod listen;
mod member;
mod requests;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, OwnedRwLockReadGuard, RwLock, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::NriError;
use crate::launch;
pub use crate::plugin::Origin;
use crate::plugin::{Events, Plugin};
use crate::proto::{
    Container, ContainerEviction, ContainerUpdate, Event, PodSandbox, PostCreateContainerRequest,
    PostStartContainerRequest, PostUpdateContainerRequest, PostUpdatePodSandboxRequest,
    RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest, UpdatePodSandboxRequest,
};
use crate::validator::DefaultValidator;

/// How plugins are found and treated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the runtime, for plugins.
    pub runtime_name: String,
    /// The version of the runtime, for plugins.
    pub runtime_version: String,
    /// The directory of plugins that the runtime starts, executable files named `NN-name`. It may be missing.
    pub plugin_path: PathBuf,
    /// The directory of their configurations, files named `NN-name.conf` or `name.conf`.
    pub plugin_config_path: PathBuf,
    /// Where other plugins connect. Its directory is made if it is missing.
    pub socket_path: PathBuf,
    /// There is no socket: the only plugins are those that the runtime starts.
    pub disable_connections: bool,
    /// How long a plugin has to register, and then to take in what there is, all parts of its synchronization together.
    pub registration_timeout: Duration,
    /// How long a plugin has to answer, and how long operations have to end for it to be synchronized.
    pub request_timeout: Duration,
    /// What adjustments of containers are refused, and which plugins have to be there.
    pub validator: DefaultValidator,
}

impl Settings {
    /// The paths and time limits that NRI has by default.
    #[must_use]
    pub fn new(runtime_name: &str, runtime_version: &str) -> Self {
        Self {
            runtime_name: runtime_name.to_owned(),
            runtime_version: runtime_version.to_owned(),
            plugin_path: "/opt/nri/plugins".into(),
            plugin_config_path: "/etc/nri/conf.d".into(),
            socket_path: "/var/run/nri/nri.sock".into(),
            disable_connections: false,
            registration_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(2),
            validator: DefaultValidator::default(),
        }
    }
}

/// What plugins need of the runtime.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// All pods and containers. Called while there is no [`Operation`], on a thread that may block.
    fn snapshot(&self) -> (Vec<PodSandbox>, Vec<Container>);

    /// Makes changes that a plugin asks for outside of any event. Returns those that failed and may not. Calls for one
    /// plugin do not overlap, and no lock is held: it may hold an [`Operation`] and lead to events.
    fn update(
        &self,
        plugin: String,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Pin<Box<dyn Future<Output = Vec<ContainerUpdate>> + Send + '_>>;
}

/// No plugin is synchronized as long as this exists. An operation holds one at a time: a second one would wait for a
/// plugin that waits for the first one.
#[derive(Debug)]
pub struct Operation {
    _shared: OwnedRwLockReadGuard<()>,
}

/// A plugin of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginStatus {
    /// Two digits.
    pub index: String,
    /// The name without the index.
    pub name: String,
    /// The process, if it is in a PID namespace that this process sees.
    pub pid: Option<u32>,
    /// Where it comes from.
    pub origin: Origin,
}

/// The set of plugins.
#[derive(Debug)]
pub struct Plugins {
    settings: Settings,
    runtime: Arc<dyn Runtime>,
    /// In the order of their calls.
    members: Mutex<Vec<Arc<Plugin>>>,
    /// What `members` subscribed to.
    wanted: AtomicU32,
    /// Held during an event.
    turn: tokio::sync::Mutex<()>,
    operations: Arc<RwLock<()>>,
    /// The task that accepts connections, and one for each plugin.
    tasks: Mutex<JoinSet<()>>,
    stopping: watch::Sender<bool>,
}

impl Plugins {
    /// Listens for plugins, and starts those that are installed. Returns when each of them is in the set or has failed,
    /// which is only logged.
    ///
    /// # Errors
    /// The directory of plugins cannot be read, or the socket cannot be made.
    pub async fn start(settings: Settings, runtime: Arc<dyn Runtime>) -> Result<Arc<Self>, NriError> {
        let (path, configs) = (settings.plugin_path.clone(), settings.plugin_config_path.clone());
        let found = tokio::task::spawn_blocking(move || launch::installed(&path, &configs)).await;
        let installed = found.map_err(|panic| NriError::ReadPlugins {
            path: settings.plugin_path.clone(),
            source: std::io::Error::other(panic),
        })??;
        let listener = if settings.disable_connections {
            None
        } else {
            Some(listen::bind(&settings.socket_path)?)
        };
        let plugins = Arc::new(Self {
            settings,
            runtime,
            members: Mutex::default(),
            wanted: AtomicU32::new(0),
            turn: tokio::sync::Mutex::default(),
            operations: Arc::default(),
            tasks: Mutex::default(),
            stopping: watch::Sender::new(false),
        });
        let mut waiting = Vec::new();
        for plugin in installed {
            let (ready, settled) = oneshot::channel();
            waiting.push(settled);
            plugins.spawn(Arc::clone(&plugins).serve_launched(plugin, ready));
        }
        for settled in waiting {
            // The sender is dropped when the plugin is in the set or has failed.
            settled.await.ok();
        }
        if let Some(listener) = listener {
            plugins.spawn(Arc::clone(&plugins).accept(listener));
        }
        Ok(plugins)
    }

    /// Tells all plugins that the runtime ends, ends those that it has started, and removes the socket. Takes at most
    /// twice the time limit of requests, and a moment.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let ended = async { while tasks.join_next().await.is_some() {} };
        let limit = self.settings.request_timeout * 2 + Duration::from_secs(2);
        // What is left, such as an update that the runtime does not finish, is dropped with the set of tasks.
        drop(timeout(limit, ended).await);
    }

    /// Begins an operation that tells plugins of events.
    pub async fn operation(&self) -> Operation {
        let _shared = Arc::clone(&self.operations).read_owned().await;
        Operation { _shared }
    }

    /// Whether some plugin subscribed to an event. If not, there is no need for building the request.
    #[must_use]
    pub fn wants(&self, event: Event) -> bool {
        Events::from_bits(self.wanted.load(Ordering::Acquire)).contains(event)
    }

    /// The plugins in the set, in the order of their calls.
    #[must_use]
    pub fn list(&self) -> Vec<PluginStatus> {
        let members = self.members.lock();
        let status = |plugin: &Arc<Plugin>| PluginStatus {
            index: plugin.name.index.clone(),
            name: plugin.name.base.clone(),
            pid: plugin.pid,
            origin: plugin.origin,
        };
        members.iter().map(status).collect()
    }

    /// Waits for the events before, and begins one.
    pub(crate) async fn round(&self) -> Round<'_> {
        let _turn = self.turn.lock().await;
        Round {
            _turn,
            members: self.members.lock().clone(),
        }
    }

    async fn notify(
        &self,
        event: Event,
        request: &impl prost::Message,
        pod: &Option<PodSandbox>,
        container: &Option<Container>,
    ) -> Result<(), NriError> {
        if self.wants(event) {
            for plugin in self.round().await.interested(event) {
                plugin.tell(event, request, pod, container).await?;
            }
        }
        Ok(())
    }

    /// Waits until the set stops.
    async fn stopping(&self) {
        self.stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await
            .ok();
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn insert(&self, plugin: Arc<Plugin>) {
        let mut members = self.members.lock();
        let place = members.partition_point(|member| member.name <= plugin.name);
        members.insert(place, plugin);
        self.note_wanted(&members);
    }

    fn remove(&self, plugin: &Arc<Plugin>) {
        let mut members = self.members.lock();
        members.retain(|member| !Arc::ptr_eq(member, plugin));
        self.note_wanted(&members);
    }

    fn note_wanted(&self, members: &[Arc<Plugin>]) {
        let events = members.iter().map(|plugin| plugin.events);
        let wanted = events.fold(Events::NONE, Events::union);
        self.wanted.store(wanted.bits(), Ordering::Release);
    }
}

/// One event. There is no other one at the same time.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    _turn: MutexGuard<'a, ()>,
    members: Vec<Arc<Plugin>>,
}

impl Round<'_> {
    /// The plugins that subscribed to an event, in the order of their calls.
    pub(crate) fn interested(&self, event: Event) -> impl Iterator<Item = &Arc<Plugin>> {
        self.members
            .iter()
            .filter(move |plugin| plugin.events.contains(event))
    }
}

/// Methods for events of pods, and for events of containers, that plugins have no answer to.
macro_rules! notifications {
    (pod { $($pod_method:ident($pod_request:ty) $pod_event:ident $pod_text:literal)* }
     container { $($method:ident($request:ty) $event:ident $text:literal)* }) => {
        /// Events. An error is that of the first plugin that fails the event; later plugins do not get it.
        impl Plugins {
            $(
                #[doc = $pod_text]
                ///
                /// # Errors
                /// A plugin answers with an error, or the request is too large.
                pub async fn $pod_method(&self, request: $pod_request) -> Result<(), NriError> {
                    self.notify(Event::$pod_event, &request, &request.pod, &None).await
                }
            )*
            $(
                #[doc = $text]
                ///
                /// # Errors
                /// A plugin answers with an error, or the request is too large.
                pub async fn $method(&self, request: $request) -> Result<(), NriError> {
                    self.notify(Event::$event, &request, &request.pod, &request.container).await
                }
            )*
        }
    };
}

notifications! {
    pod {
    run_pod_sandbox(RunPodSandboxRequest) RunPodSandbox
        "A pod's sandbox has been made, its containers have not."
    update_pod_sandbox(UpdatePodSandboxRequest) UpdatePodSandbox
        "A pod's resources are about to change."
    post_update_pod_sandbox(PostUpdatePodSandboxRequest) PostUpdatePodSandbox
        "A pod's resources have changed."
    stop_pod_sandbox(StopPodSandboxRequest) StopPodSandbox
        "A pod has stopped."
    remove_pod_sandbox(RemovePodSandboxRequest) RemovePodSandbox
        "A pod is forgotten."
    }
    container {
    post_create_container(PostCreateContainerRequest) PostCreateContainer
        "A container has been created."
    start_container(StartContainerRequest) StartContainer
        "A container's command is about to run."
    post_start_container(PostStartContainerRequest) PostStartContainer
        "A container's command runs."
    post_update_container(PostUpdateContainerRequest) PostUpdateContainer
        "A container's resources have changed."
    remove_container(RemoveContainerRequest) RemoveContainer
        "A container is forgotten."
    }
}

#[cfg(test)]
mod tests;
