//! A node to run pods on: its daemon, clients, images, and the ids of everything the test made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pausa::proto::v1;
use pausa::proto::v1::image_service_client::ImageServiceClient;
use pausa::proto::v1::runtime_service_client::RuntimeServiceClient;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::daemon::Daemon;
use super::registry::{self, Registry};
use super::slot::Slot;
use super::{eventually, leaks, ok, sweep};

pub(crate) type Runtime = RuntimeServiceClient<Channel>;
pub(crate) type Images = ImageServiceClient<Channel>;

/// What kubelet's client takes at most.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// One node under test.
#[derive(Debug)]
pub(crate) struct Node {
    channel: Channel,
    daemon: Mutex<Option<Daemon>>,
    ids: Mutex<BTreeSet<String>>,
    socket: PathBuf,
    name: String,
    slot: Slot,
    dir: TempDir,
}

impl Node {
    /// A node for a test: one of its own, or the one that `PAUSA_CRITEST_SOCKET` names.
    pub(crate) async fn start() -> Self {
        match std::env::var_os("PAUSA_CRITEST_SOCKET") {
            Some(socket) => Self::at(PathBuf::from(socket)).await,
            None => Self::own("debug").await,
        }
    }

    /// A node with a daemon of its own that says what happens down to `log_level`.
    pub(crate) async fn own(log_level: &str) -> Self {
        let (slot, dir) = Self::place();
        let daemon = Daemon::start(dir.path(), &slot, Registry::get(), log_level);
        let socket = daemon.socket();
        Self::connected(Some(daemon), socket, slot, dir).await
    }

    /// Somebody else's node.
    pub(crate) async fn at(socket: PathBuf) -> Self {
        Registry::get();
        let (slot, dir) = Self::place();
        Self::connected(None, socket, slot, dir).await
    }

    fn place() -> (Slot, TempDir) {
        let slot = Slot::take();
        // What the last user of this slot left, if it was killed.
        sweep::slot(&slot);
        let dir = tempfile::Builder::new().prefix("pct").tempdir();
        (slot, dir.expect("a temporary directory"))
    }

    async fn connected(daemon: Option<Daemon>, socket: PathBuf, slot: Slot, dir: TempDir) -> Self {
        let mut node = Self {
            channel: connect(&socket),
            daemon: Mutex::new(daemon),
            ids: Mutex::default(),
            socket,
            name: String::new(),
            slot,
            dir,
        };
        node.name = node.until_it_answers().await;
        node
    }

    /// Waits until the daemon answers Version, and returns its name.
    pub(crate) async fn until_it_answers(&self) -> String {
        eventually("the daemon answers", async || {
            if let Some(daemon) = self.daemon_mut().as_mut()
                && let Some(status) = daemon.ended()
            {
                panic!("the daemon ended with {status}:\n{}", daemon.log());
            }
            let answer = self.runtime().version(v1::VersionRequest::default()).await;
            answer.ok().map(|version| version.into_inner().runtime_name)
        })
        .await
    }

    /// A client for pods and containers.
    pub(crate) fn runtime(&self) -> Runtime {
        RuntimeServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
    }

    /// A client for images.
    pub(crate) fn images(&self) -> Images {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn is_pausa(&self) -> bool {
        self.name == "pausa"
    }

    pub(crate) fn is_own(&self) -> bool {
        self.daemon_mut().is_some()
    }

    pub(crate) fn runtime_name(&self) -> &str {
        &self.name
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The test's own directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    fn daemon_mut(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the daemon's process; only with [`super::on_own_node`].
    pub(crate) fn daemon<T>(&self, act: impl FnOnce(&mut Daemon) -> T) -> T {
        act(self.daemon_mut().as_mut().expect("a daemon of our own"))
    }

    /// Kills the daemon, starts the next one, and waits until it answers; only with [`super::on_own_node`].
    pub(crate) async fn kill_and_restart_daemon(&self) {
        self.daemon(|daemon| {
            daemon.kill();
            daemon.restart();
        });
        self.until_it_answers().await;
    }

    /// Kills the daemon and starts the next one with more configuration, or with what it had at first; only with
    /// [`super::on_own_node`].
    pub(crate) async fn restart_with(&self, configuration: Option<&str>) {
        self.configure(configuration);
        self.kill_and_restart_daemon().await;
    }

    /// Writes more configuration for the next daemon, or takes it away.
    pub(crate) fn configure(&self, configuration: Option<&str>) {
        let directory = self.dir().join("config.d");
        let file = directory.join("test.toml");
        match configuration {
            Some(text) => {
                std::fs::create_dir_all(&directory).expect("a directory for drop-ins");
                std::fs::write(file, text).expect("a drop-in");
            }
            None => std::fs::remove_file(file).expect("a drop-in"),
        }
    }

    pub(crate) fn daemon_log(&self) -> String {
        self.daemon_mut().as_ref().map_or_else(String::new, Daemon::log)
    }

    /// Remembers an id: nothing on the node may carry it when the test is over.
    pub(crate) fn remember(&self, id: &str) {
        self.ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned());
    }

    fn remembered(&self) -> BTreeSet<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pulls an image of the suite, `name` or `name:tag`, and returns what PullImage answered.
    pub(crate) async fn pull(&self, image: &str) -> String {
        let request = v1::PullImageRequest {
            image: Some(spec(&reference(image))),
            ..Default::default()
        };
        ok("PullImage", self.images().pull_image(request).await).image_ref
    }

    /// What ImageStatus says about a reference.
    pub(crate) async fn image(&self, reference: &str) -> Option<v1::Image> {
        let request = v1::ImageStatusRequest {
            image: Some(spec(reference)),
            ..Default::default()
        };
        ok("ImageStatus", self.images().image_status(request).await).image
    }

    /// Removes every pod the test made.
    pub(crate) async fn clean_up(&self) {
        let mut runtime = self.runtime();
        let ids = self.remembered();
        let pods = ok(
            "ListPodSandbox",
            runtime
                .list_pod_sandbox(v1::ListPodSandboxRequest::default())
                .await,
        );
        for pod in pods.items {
            if !self.is_own() && !ids.contains(&pod.id) {
                continue;
            }
            let mut request = tonic::Request::new(v1::StopPodSandboxRequest {
                pod_sandbox_id: pod.id.clone(),
            });
            request.set_timeout(Duration::from_secs(60));
            ok("StopPodSandbox", runtime.stop_pod_sandbox(request).await);
            let mut request = tonic::Request::new(v1::RemovePodSandboxRequest {
                pod_sandbox_id: pod.id,
            });
            request.set_timeout(Duration::from_secs(60));
            ok("RemovePodSandbox", runtime.remove_pod_sandbox(request).await);
        }
    }

    /// Stops the daemon, says what is left behind, and removes it.
    pub(crate) fn finish(self) -> Vec<String> {
        let ids = self.remembered();
        let mut left = leaks::of(&ids, self.dir.path(), &self.slot);
        // The kernel takes network namespaces and what is in them apart in its own time.
        for _ in 0..100 {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(30));
            left = leaks::of(&ids, self.dir.path(), &self.slot);
        }
        if let Some(mut daemon) = self.daemon_mut().take() {
            let status = daemon.terminate();
            if !status.success() {
                left.push(format!("the daemon ended with {status} on SIGTERM"));
            }
            left.extend(leaks::of_stopped(self.dir.path()));
        }
        sweep::slot(&self.slot);
        sweep::mounts_below(self.dir.path());
        sweep::namespaces(ids, self.dir.path());
        left
    }
}

/// The full name of an image of the suite; tag `1` unless it has one.
pub(crate) fn reference(image: &str) -> String {
    let named = registry::named(image);
    if image.contains(':') || image.contains('@') {
        named
    } else {
        format!("{named}:1")
    }
}

pub(crate) fn spec(reference: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: reference.to_owned(),
        ..Default::default()
    }
}

/// A channel that connects when it is first used, and again after the daemon was away.
fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }))
}
