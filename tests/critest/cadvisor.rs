//! What cAdvisor asks of containerd, see `container/containerd` in its sources: answered on a socket of its own.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use pausa::proto::cadvisor::containers::GetContainerRequest;
use pausa::proto::cadvisor::containers::containers_client::ContainersClient;
use pausa::proto::cadvisor::tasks::tasks_client::TasksClient;
use pausa::proto::cadvisor::tasks::{GetRequest, Status as TaskStatus};
use pausa::proto::cadvisor::version::VersionRequest;
use pausa::proto::cadvisor::version::version_client::VersionClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tower::service_fn;

use crate::harness::pod::monitor_of;
use crate::harness::{Node, ok, on_own_node, refused};

async fn configured(node: &Node) -> PathBuf {
    let socket = node.dir().join("cadvisor/containerd.sock");
    node.pull("base").await;
    node.restart_with(Some(&format!("[cadvisor]\nlisten = \"{}\"\n", socket.display())))
        .await;
    socket
}

async fn connect(socket: PathBuf) -> Channel {
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint
        .connect_with_connector(connector)
        .await
        .expect("a connection")
}

/// A request as cAdvisor sends it.
fn in_namespace<T>(message: T, name: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    let value = name.parse().expect("a header");
    request.metadata_mut().insert("containerd-namespace", value);
    request
}

fn container(id: &str) -> Request<GetContainerRequest> {
    in_namespace(GetContainerRequest { id: id.to_owned() }, "k8s.io")
}

fn task(id: &str) -> Request<GetRequest> {
    let request = GetRequest {
        container_id: id.to_owned(),
        ..Default::default()
    };
    in_namespace(request, "k8s.io")
}

/// The labels that `/metrics/cadvisor` shows, and the process whose network `/stats/summary` shows.
#[test]
#[ignore = "needs root"]
fn containers_and_pods_are_found_by_their_cgroups() {
    on_own_node(async |node| {
        let channel = connect(configured(node).await).await;
        let mut containers = ContainersClient::new(channel.clone());
        let mut tasks = TasksClient::new(channel.clone());
        let version = VersionClient::new(channel).version(VersionRequest {}).await;
        assert!(!ok("Version", version).version.is_empty());

        let pod = node.pod().await;
        let running = pod.start(|_| {}).await;
        let found = ok("Get", containers.get(container(&running.id)).await);
        let found = found.container.expect("a container");
        assert_eq!(found.id, running.id);
        assert_eq!(found.labels["io.cri-containerd.kind"], "container");
        assert!(
            running
                .config
                .labels
                .iter()
                .all(|label| found.labels.get(label.0) == Some(label.1))
        );
        assert_eq!(
            found.image,
            running
                .status()
                .await
                .image
                .expect("an image")
                .user_specified_image
        );
        let spec = found.spec.expect("a specification").value;
        assert!(
            serde_json::from_slice::<serde_json::Value>(&spec).expect("JSON")["process"]["env"].is_array()
        );
        assert!(
            found.runtime.is_some(),
            "cAdvisor does not ask whether it is there"
        );
        let process = ok("Get", tasks.get(task(&running.id)).await)
            .process
            .expect("a process");
        assert_eq!(i64::from(process.pid), i64::from(running.pid().await));
        assert_eq!(process.status(), TaskStatus::Running);

        let found = ok("Get", containers.get(container(&pod.id)).await);
        let found = found.container.expect("a pod");
        assert_eq!(found.labels["io.cri-containerd.kind"], "sandbox");
        assert_eq!(found.labels["io.kubernetes.pod.namespace"], "critest");
        let process = ok("Get", tasks.get(task(&pod.id)).await)
            .process
            .expect("a process");
        let monitor = monitor_of(node, &pod);
        assert_eq!(i64::from(process.pid), i64::from(monitor.as_raw_nonzero().get()));
        // cAdvisor takes the id from the name of the cgroup.
        let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).expect("its cgroups");
        let has_id = |line: &str| line.trim_end_matches(".scope").rsplit('-').next() == Some(&*pod.id);
        assert!(cgroups.lines().any(has_id), "{cgroups}");
    });
}

/// cAdvisor tries again where there is no task, and leaves alone what there is not.
#[test]
#[ignore = "needs root"]
fn what_does_not_run_is_not_found() {
    on_own_node(async |node| {
        let channel = connect(configured(node).await).await;
        let mut containers = ContainersClient::new(channel.clone());
        let mut tasks = TasksClient::new(channel);
        let pod = node.pod().await;
        let created = pod.create(pod.container_config()).await;
        ok("Get", containers.get(container(&created.id)).await);
        refused(Code::NotFound, tasks.get(task(&created.id)).await);
        for unknown in ["0".repeat(64), created.id[..12].to_owned(), String::new()] {
            refused(Code::NotFound, containers.get(container(&unknown)).await);
            refused(Code::NotFound, tasks.get(task(&unknown)).await);
        }
        let elsewhere = GetContainerRequest {
            id: created.id.clone(),
        };
        let request = in_namespace(elsewhere.clone(), "moby");
        refused(Code::NotFound, containers.get(request).await);
        let request = Request::new(elsewhere);
        refused(Code::FailedPrecondition, containers.get(request).await);
        pod.stop().await;
        refused(Code::NotFound, tasks.get(task(&pod.id)).await);
    });
}

/// containerd itself may run on the node: its socket is its own.
#[test]
#[ignore = "needs root"]
fn a_socket_that_is_in_use_stops_the_start() {
    on_own_node(async |node| {
        let socket = node.dir().join("taken.sock");
        let _taken = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        node.configure(Some(&format!("[cadvisor]\nlisten = \"{}\"\n", socket.display())));
        node.daemon(|daemon| {
            daemon.terminate();
            daemon.restart();
        });
        crate::harness::eventually("the daemon gives up", async || {
            node.daemon(|daemon| daemon.ended())
        })
        .await;
        let log = node.daemon_log();
        assert!(
            log.contains("[cadvisor] listen") && log.contains("taken.sock"),
            "{log}"
        );
        node.configure(None);
        node.daemon(|daemon| {
            daemon.forget();
            daemon.restart();
        });
        node.until_it_answers().await;
    });
}
