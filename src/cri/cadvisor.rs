//! What cAdvisor asks of containerd: three of its services, to read, on a socket of their own.
//!
//! cAdvisor is part of kubelet. It finds cgroups, and asks containerd or CRI-O which container one belongs to: without an
//! answer, `/metrics/cadvisor` has no labels of pods, and `/stats/summary` no network of pods. This answers what it asks, with
//! the ids, labels and process ids that it uses, and nothing else of containerd's API: any other method is UNIMPLEMENTED.
//!
//! A pod counts as a container whose label says that it is a sandbox. Its process is the monitor: cAdvisor reads the pod's
//! traffic in the network namespace of that.
//!
//! Reference: `container/containerd` of cAdvisor.

use std::collections::BTreeMap;

use tonic::transport::Server;
use tonic::{Request, Status, async_trait};

use super::call::{Reply, call};
use super::server::{BudgetLayer, Listening, connections};
use crate::error::{ErrorKind, Failure};
use crate::proto::cadvisor::containers::containers_server::{Containers, ContainersServer};
use crate::proto::cadvisor::containers::{self, GetContainerRequest, GetContainerResponse};
use crate::proto::cadvisor::tasks::tasks_server::{Tasks, TasksServer};
use crate::proto::cadvisor::tasks::{self, GetRequest, GetResponse};
use crate::proto::cadvisor::version::version_server::{Version, VersionServer};
use crate::proto::cadvisor::version::{VersionRequest, VersionResponse};
use crate::proto::v1;
use crate::sandbox::Pods;

/// The one namespace of containerd that kubelet's containers are in, and the header that names it.
const NAMESPACE: &str = "k8s.io";
const HEADER: &str = "containerd-namespace";
/// Tells pods from containers, with one of the two values.
const KIND: &str = "io.cri-containerd.kind";
const SANDBOX: &str = "sandbox";
const CONTAINER: &str = "container";
/// A specification with all that cAdvisor looks for in one; the containers' own are in their bundles.
const SPEC: &[u8] = br#"{"ociVersion":"1.2.0","process":{"cwd":"/","env":[]}}"#;
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

#[derive(Debug, Clone)]
struct Facade {
    pods: Pods,
}

/// Serves until it is aborted.
pub async fn serve(listening: Listening, pods: Pods) {
    let (listener, _held) = listening.into_parts();
    let facade = Facade { pods };
    let served = Server::builder()
        .layer(BudgetLayer)
        .add_service(ContainersServer::new(facade.clone()))
        .add_service(TasksServer::new(facade.clone()))
        .add_service(VersionServer::new(facade))
        .serve_with_incoming(connections(listener))
        .await;
    if let Err(error) = served {
        let error = crate::error::chain(&error);
        tracing::error!(
            error,
            "the server for cAdvisor has ended; kubelet's metrics have no labels of pods until a restart"
        );
    }
}

fn in_namespace<T>(request: Request<T>) -> Result<T, Status> {
    match request.metadata().get(HEADER).map(|value| value.as_bytes()) {
        Some(name) if name == NAMESPACE.as_bytes() => Ok(request.into_inner()),
        Some(_) => Err(Status::not_found(format!(
            "there is no namespace but {NAMESPACE}"
        ))),
        None => Err(Status::failed_precondition(format!(
            "the header {HEADER} is required"
        ))),
    }
}

fn not_found(what: &str, id: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("{what} {id:?}: not found"))
}

impl Facade {
    /// A pod or container by its whole id, never by a prefix of it.
    fn container(&self, id: &str) -> Result<containers::Container, Failure> {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        if let Ok(found) = self.pods.container_status(&request)
            && let Some(status) = found.status.filter(|status| status.id == id)
        {
            let image = status.image.unwrap_or_default();
            return Ok(container(
                id,
                CONTAINER,
                status.labels,
                image.user_specified_image,
                status.created_at,
            ));
        }
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        if let Ok(found) = self.pods.pod_sandbox_status(&request)
            && let Some(status) = found.status.filter(|status| status.id == id)
        {
            return Ok(container(
                id,
                SANDBOX,
                status.labels,
                String::new(),
                status.created_at,
            ));
        }
        Err(not_found(CONTAINER, id))
    }
}

fn container(
    id: &str,
    kind: &str,
    mut labels: BTreeMap<String, String>,
    image: String,
    created_at: i64,
) -> containers::Container {
    const NANOS: i64 = 1_000_000_000;
    labels.insert(KIND.to_owned(), kind.to_owned());
    let created_at = containers::Timestamp {
        seconds: created_at / NANOS,
        nanos: i32::try_from(created_at % NANOS).unwrap_or_default(),
    };
    containers::Container {
        id: id.to_owned(),
        labels,
        image,
        // cAdvisor reads its name without asking whether it is there.
        runtime: Some(containers::container::Runtime {
            name: "pausa".to_owned(),
        }),
        spec: Some(containers::Any {
            type_url: SPEC_TYPE.to_owned(),
            value: SPEC.to_vec(),
        }),
        created_at: Some(created_at),
        updated_at: Some(created_at),
        sandbox: String::new(),
    }
}

#[async_trait]
impl Containers for Facade {
    async fn get(&self, request: Request<GetContainerRequest>) -> Reply<GetContainerResponse> {
        let GetContainerRequest { id } = in_namespace(request)?;
        let get = async {
            let container = self.container(&id)?;
            Ok::<_, Failure>(GetContainerResponse {
                container: Some(container),
            })
        };
        call("containerd.Containers.Get", &id, get).await
    }
}

#[async_trait]
impl Tasks for Facade {
    /// A container or pod that does not run has no task, as in containerd: cAdvisor tries again for a moment.
    async fn get(&self, request: Request<GetRequest>) -> Reply<GetResponse> {
        let GetRequest {
            container_id,
            exec_id,
        } = in_namespace(request)?;
        let get = async {
            let pid = self.pods.pid(&container_id).filter(|_| exec_id.is_empty());
            let pid = pid.ok_or_else(|| not_found("a task of container", &container_id))?;
            Ok::<_, Failure>(GetResponse {
                process: Some(tasks::Process {
                    id: container_id.clone(),
                    pid,
                    status: tasks::Status::Running.into(),
                    exit_status: 0,
                }),
            })
        };
        call("containerd.Tasks.Get", &container_id, get).await
    }
}

#[async_trait]
impl Version for Facade {
    async fn version(&self, _: Request<VersionRequest>) -> Reply<VersionResponse> {
        let version = VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        };
        call("containerd.Version", "", async { Ok::<_, Failure>(version) }).await
    }
}
