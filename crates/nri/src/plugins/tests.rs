//! The whole set, over real sockets.

mod events;
mod launched;

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::connection::code;
use crate::proto::{
    ConfigureRequest, ConfigureResponse, Empty, SynchronizeRequest, SynchronizeResponse,
    UpdateContainersRequest, UpdateContainersResponse,
};
use crate::testing::{FakePlugin, LIMIT, until};

/// A runtime that has what a test gives it, and reports what plugins ask for.
#[derive(Debug)]
struct FakeRuntime {
    pods: Mutex<Vec<PodSandbox>>,
    containers: Mutex<Vec<Container>>,
    asked: mpsc::UnboundedSender<(String, Vec<ContainerUpdate>, Vec<ContainerEviction>)>,
}

impl Runtime for FakeRuntime {
    fn snapshot(&self) -> (Vec<PodSandbox>, Vec<Container>) {
        (self.pods.lock().clone(), self.containers.lock().clone())
    }

    fn update(
        &self,
        plugin: String,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Pin<Box<dyn Future<Output = Vec<ContainerUpdate>> + Send + '_>> {
        let failed = updates
            .iter()
            .filter(|update| !update.ignore_failure)
            .cloned()
            .collect();
        self.asked.send((plugin, updates, evictions)).ok();
        Box::pin(async { failed })
    }
}

pub(super) struct Node {
    pub(super) plugins: Arc<Plugins>,
    runtime: Arc<FakeRuntime>,
    asked: mpsc::UnboundedReceiver<(String, Vec<ContainerUpdate>, Vec<ContainerEviction>)>,
    directory: TempDir,
}

fn settings(directory: &TempDir) -> Settings {
    Settings {
        plugin_path: directory.path().join("plugins"),
        plugin_config_path: directory.path().join("conf.d"),
        socket_path: directory.path().join("run/nri.sock"),
        // Tests of limits have their own.
        registration_timeout: LIMIT,
        request_timeout: LIMIT,
        ..Settings::new("pausa", "1.2.3")
    }
}

impl Node {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut settings = settings(&directory);
        change(&mut settings);
        Self::start_in(directory, settings).await
    }

    async fn start_in(directory: TempDir, settings: Settings) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let runtime = Arc::new(FakeRuntime {
            pods: Mutex::default(),
            containers: Mutex::default(),
            asked: sender,
        });
        let plugins = Plugins::start(settings, Arc::clone(&runtime) as Arc<dyn Runtime>)
            .await
            .unwrap();
        Self {
            plugins,
            runtime,
            asked,
            directory,
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/nri.sock")
    }

    /// A plugin in the set.
    pub(super) async fn join(&self, index: &str, name: &str, events: i32) -> FakePlugin {
        let before = self.plugins.list().len();
        let (plugin, _) = FakePlugin::join(&self.socket(), index, name, events).await;
        until("the plugin is in the set", || self.plugins.list().len() > before).await;
        plugin
    }

    fn names(&self) -> Vec<String> {
        let name = |status: PluginStatus| format!("{}-{}", status.index, status.name);
        self.plugins.list().into_iter().map(name).collect()
    }
}

/// The mask of some events.
pub(super) fn mask(events: &[Event]) -> i32 {
    events.iter().map(|event| 1 << (i32::from(*event) - 1)).sum()
}

fn pod(id: &str) -> PodSandbox {
    let id = id.to_owned();
    PodSandbox {
        id,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_plugin_is_configured_synchronized_and_listed() {
    let node = Node::start().await;
    node.runtime.pods.lock().push(pod("p"));
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("07", "a").await.unwrap();
    let call = plugin
        .answer_next("Configure", &ConfigureResponse { events: 1 })
        .await;
    assert_eq!(
        call.decode::<ConfigureRequest>(),
        ConfigureRequest {
            config: String::new(),
            runtime_name: "pausa".to_owned(),
            runtime_version: "1.2.3".to_owned(),
            registration_timeout: 60_000,
            request_timeout: 60_000,
            nri_version: "v0.12.0".to_owned(),
        }
    );
    assert!(!node.plugins.wants(Event::RunPodSandbox));
    let call = plugin
        .answer_next("Synchronize", &SynchronizeResponse::default())
        .await;
    assert_eq!(call.decode::<SynchronizeRequest>().pods, [pod("p")]);
    until("the plugin is in the set", || {
        node.plugins.wants(Event::RunPodSandbox)
    })
    .await;
    assert!(!node.plugins.wants(Event::StopPodSandbox));
    let status = PluginStatus {
        index: "07".to_owned(),
        name: "a".to_owned(),
        pid: Some(std::process::id()),
        origin: Origin::External,
    };
    assert_eq!(node.plugins.list(), [status]);
    drop(plugin);
    until("the plugin is gone", || node.plugins.list().is_empty()).await;
    assert!(!node.plugins.wants(Event::RunPodSandbox));
}

#[tokio::test]
async fn the_socket_is_private_replaces_a_stale_one_and_goes_at_the_end() {
    let node = Node::start().await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let socket = node.socket();
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    // The daemon that made it has died.
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join("run")).unwrap();
    let stale = std::os::unix::net::UnixListener::bind(directory.path().join("run/nri.sock")).unwrap();
    drop(stale);
    let settings = settings(&directory);
    let other = Node::start_in(directory, settings).await;
    drop(other.join("10", "a", 0).await);
    for node in [node, other] {
        node.plugins.stop().await;
        assert!(!node.socket().exists());
    }
}

#[tokio::test]
async fn a_file_in_place_of_the_socket_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let mut settings = settings(&directory);
    settings.socket_path = directory.path().join("file");
    std::fs::write(&settings.socket_path, "precious").unwrap();
    let (asked, _) = mpsc::unbounded_channel();
    let runtime = FakeRuntime {
        pods: Mutex::default(),
        containers: Mutex::default(),
        asked,
    };
    let path = settings.socket_path.clone();
    let failed = Plugins::start(settings, Arc::new(runtime)).await.unwrap_err();
    assert!(
        matches!(
            failed,
            NriError::Socket {
                operation: "bind",
                ..
            }
        ),
        "{failed:?}"
    );
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}

#[tokio::test]
async fn without_connections_there_is_no_socket() {
    let node = Node::start_with(|settings| settings.disable_connections = true).await;
    assert!(!node.socket().exists());
}

#[tokio::test]
async fn plugins_with_other_names_are_refused() {
    let node = Node::start().await;
    for (index, name) in [
        ("7", "a"),
        ("007", "a"),
        ("a1", "a"),
        ("07", ""),
        ("07", "a/b"),
        ("07", "ä"),
    ] {
        let mut plugin = FakePlugin::connect(&node.socket()).await;
        let status = plugin.register(index, name).await.unwrap_err();
        assert_eq!(status.code, code::INVALID_ARGUMENT, "{index} {name}");
        plugin.closed().await;
    }
    assert!(node.plugins.list().is_empty());
}

#[tokio::test]
async fn a_plugin_registers_first_and_once() {
    let node = Node::start().await;
    let mut hasty = FakePlugin::connect(&node.socket()).await;
    let request = UpdateContainersRequest::default();
    let status = hasty
        .call::<Empty>("UpdateContainers", &request)
        .await
        .unwrap_err();
    assert_eq!(status.code, code::FAILED_PRECONDITION);
    hasty.closed().await;
    let mut twice = node.join("10", "a", 0).await;
    let status = twice.register("11", "b").await.unwrap_err();
    assert_eq!(status.code, code::FAILED_PRECONDITION);
    assert_eq!(node.names(), ["10-a"]);
}

#[tokio::test]
async fn a_plugin_has_limited_time_to_register() {
    let node = Node::start_with(|settings| settings.registration_timeout = Duration::from_millis(20)).await;
    let mut silent = FakePlugin::connect(&node.socket()).await;
    silent.closed().await;
}

#[tokio::test]
async fn a_plugin_that_does_not_let_itself_be_configured_is_refused() {
    let node = Node::start_with(|settings| settings.request_timeout = Duration::from_millis(200)).await;
    for events in [1 << 14, -1] {
        let mut plugin = FakePlugin::connect(&node.socket()).await;
        plugin.register("10", "a").await.unwrap();
        plugin
            .answer_next("Configure", &ConfigureResponse { events })
            .await;
        plugin.closed().await;
    }
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("10", "a").await.unwrap();
    let stream = plugin.called().await.stream;
    plugin.fail(stream, 2, "no").await;
    plugin.closed().await;
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("10", "a").await.unwrap();
    plugin.called().await;
    plugin.closed().await;
    assert!(node.plugins.list().is_empty());
}

/// 20 pods with a megabyte each.
fn large(node: &Node) -> Vec<PodSandbox> {
    let large = |id: u32| PodSandbox {
        name: "a".repeat(1 << 20),
        ..pod(&id.to_string())
    };
    let pods: Vec<_> = (0..20).map(large).collect();
    node.runtime.pods.lock().clone_from(&pods);
    pods
}

#[tokio::test]
async fn pods_beyond_one_message_are_told_in_parts() {
    let node = Node::start().await;
    let pods = large(&node);
    let (_plugin, told) = FakePlugin::join(&node.socket(), "10", "a", 0).await;
    assert!(told.pods == pods);
}

#[tokio::test]
async fn a_plugin_that_does_not_know_parts_is_refused() {
    let node = Node::start().await;
    large(&node);
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("10", "a").await.unwrap();
    plugin
        .answer_next("Configure", &ConfigureResponse::default())
        .await;
    plugin
        .answer_next("Synchronize", &SynchronizeResponse::default())
        .await;
    plugin.closed().await;
    assert!(node.plugins.list().is_empty());
}

#[tokio::test]
async fn synchronization_has_one_limit_for_all_parts() {
    let node = Node::start_with(|settings| settings.registration_timeout = Duration::from_millis(300)).await;
    large(&node);
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("10", "a").await.unwrap();
    plugin
        .answer_next("Configure", &ConfigureResponse::default())
        .await;
    while let Some(call) = plugin.next_call().await {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (update, more) = (Vec::new(), true);
        plugin
            .answer(call.stream, &SynchronizeResponse { update, more })
            .await;
    }
    // Operations go on.
    let _operation = timeout(LIMIT, node.plugins.operation()).await.unwrap();
    assert!(node.plugins.list().is_empty());
}

#[tokio::test]
async fn a_plugin_waits_for_operations_and_they_for_it() {
    let node = Node::start().await;
    let operation = node.plugins.operation().await;
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("10", "a").await.unwrap();
    plugin
        .answer_next("Configure", &ConfigureResponse::default())
        .await;
    // What the operation makes is in what the plugin is told, whenever that is.
    tokio::task::yield_now().await;
    node.runtime.pods.lock().push(pod("made"));
    drop(operation);
    let call = plugin.called().await;
    assert_eq!(call.decode::<SynchronizeRequest>().pods, [pod("made")]);
    let later = node.plugins.operation();
    tokio::pin!(later);
    assert!(timeout(Duration::from_millis(10), &mut later).await.is_err());
    plugin.answer(call.stream, &SynchronizeResponse::default()).await;
    drop(later.await);
    assert_eq!(
        node.names(),
        ["10-a"],
        "the plugin gets the events of the later operation"
    );
}

#[tokio::test]
async fn an_operation_that_hangs_holds_up_a_plugin_but_no_other_operation() {
    let node = Node::start_with(|settings| settings.request_timeout = Duration::from_millis(50)).await;
    let hangs = node.plugins.operation().await;
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("10", "a").await.unwrap();
    plugin
        .answer_next("Configure", &ConfigureResponse::default())
        .await;
    plugin.closed().await;
    drop(timeout(LIMIT, node.plugins.operation()).await.unwrap());
    drop(hangs);
    node.join("10", "a", 0).await;
}

#[tokio::test]
async fn updates_reach_the_runtime_whenever_a_plugin_asks() {
    let mut node = Node::start().await;
    let update = |id: &str, ignore_failure| ContainerUpdate {
        container_id: id.to_owned(),
        linux: None,
        ignore_failure,
    };
    let mut plugin = FakePlugin::connect(&node.socket()).await;
    plugin.register("10", "a").await.unwrap();
    plugin
        .answer_next("Configure", &ConfigureResponse { events: 1 })
        .await;
    let synchronized = SynchronizeResponse {
        update: vec![update("s", false)],
        more: false,
    };
    plugin.answer_next("Synchronize", &synchronized).await;
    let (name, updates, evictions) = node.asked.recv().await.unwrap();
    assert_eq!(
        (&*name, updates, evictions.len()),
        ("10-a", vec![update("s", false)], 0)
    );

    let eviction = ContainerEviction {
        container_id: "e".to_owned(),
        reason: "why".to_owned(),
    };
    let request = UpdateContainersRequest {
        update: vec![update("u", false), update("v", true)],
        evict: vec![eviction.clone()],
    };
    // In the middle of an event, too.
    let event = RunPodSandboxRequest { pod: Some(pod("p")) };
    let (outcome, ()) = tokio::join!(node.plugins.run_pod_sandbox(event), async {
        let stream = plugin.called().await.stream;
        let answer = plugin
            .call::<UpdateContainersResponse>("UpdateContainers", &request)
            .await;
        assert_eq!(answer.unwrap().failed, [update("u", false)]);
        plugin.answer(stream, &Empty {}).await;
    });
    outcome.unwrap();
    let (_, updates, evictions) = node.asked.recv().await.unwrap();
    assert_eq!((updates, evictions), (request.update, vec![eviction]));
}

#[tokio::test]
async fn plugins_are_told_of_the_end() {
    let node = Node::start().await;
    let (mut first, mut second) = (node.join("10", "a", 0).await, node.join("20", "b", 0).await);
    let mut candidate = FakePlugin::connect(&node.socket()).await;
    let told = async |plugin: &mut FakePlugin| {
        plugin.answer_next("Shutdown", &Empty {}).await;
        plugin.closed().await;
    };
    let ((), (), (), ()) = tokio::join!(
        node.plugins.stop(),
        told(&mut first),
        told(&mut second),
        candidate.closed()
    );
    assert!(node.plugins.list().is_empty());
}

#[tokio::test]
async fn a_plugin_that_hangs_does_not_hold_up_the_end() {
    let node = Node::start_with(|settings| settings.request_timeout = Duration::from_millis(200)).await;
    let _plugin = node.join("10", "a", 0).await;
    timeout(LIMIT, node.plugins.stop()).await.unwrap();
    assert!(node.plugins.list().is_empty());
}
