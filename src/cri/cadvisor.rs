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

use tonic::{Request, Status, async_trait};

use super::call::{Reply, call};
use crate::error::{ErrorKind, Failure};
use crate::proto::cadvisor::containers::containers_server::Containers;
use crate::proto::cadvisor::containers::{self, Container, GetContainerRequest, GetContainerResponse};
use crate::proto::cadvisor::tasks::tasks_server::Tasks;
use crate::proto::cadvisor::tasks::{self, GetRequest, GetResponse};
use crate::proto::cadvisor::version::version_server::Version;
use crate::proto::cadvisor::version::{VersionRequest, VersionResponse};
use crate::sandbox::{Pods, Workload};

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

/// The three services.
#[derive(Debug, Clone)]
pub(super) struct Cadvisor {
    pub(super) pods: Pods,
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

impl Cadvisor {
    fn container(&self, id: &str) -> Result<Container, Failure> {
        const NANOS: i64 = 1_000_000_000;
        let found = self.pods.workload(id).ok_or_else(|| not_found(CONTAINER, id))?;
        let Workload {
            is_pod,
            mut labels,
            image,
            created_at,
            ..
        } = found;
        let kind = if is_pod { SANDBOX } else { CONTAINER };
        labels.insert(KIND.to_owned(), kind.to_owned());
        let created_at = containers::Timestamp {
            seconds: created_at / NANOS,
            nanos: i32::try_from(created_at % NANOS).unwrap_or_default(),
        };
        Ok(Container {
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
        })
    }
}

#[async_trait]
impl Containers for Cadvisor {
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
impl Tasks for Cadvisor {
    /// A container or pod that does not run has no task, as in containerd: cAdvisor tries again for a moment.
    async fn get(&self, request: Request<GetRequest>) -> Reply<GetResponse> {
        let GetRequest {
            container_id,
            exec_id,
        } = in_namespace(request)?;
        let get = async {
            let found = self.pods.workload(&container_id).filter(|_| exec_id.is_empty());
            let pid = found.and_then(|found| u32::try_from(found.pid?).ok());
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
impl Version for Cadvisor {
    async fn version(&self, _: Request<VersionRequest>) -> Reply<VersionResponse> {
        let version = VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        };
        call("containerd.Version", "", async { Ok::<_, Failure>(version) }).await
    }
}
