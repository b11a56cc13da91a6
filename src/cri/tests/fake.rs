//! Rooms of paper: they keep what they are told and list it again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::cri::backend::{ArchiveSink, ArchiveStream, ImageService, NotReady, PodService, StreamService};
use crate::error::{ErrorKind, Failure};
use crate::proto::{admin, v1};
use crate::streaming::target::Streams;

#[derive(Debug)]
pub(super) struct Fake {
    pub(super) pods: Mutex<Vec<v1::PodSandbox>>,
    pub(super) containers: Mutex<Vec<v1::Container>>,
    pub(super) calls: Mutex<Vec<String>>,
    /// One permit for every `exec wait` that is being served.
    pub(super) waiting: Semaphore,
    /// One permit lets one `exec wait` end.
    pub(super) release: Semaphore,
    pub(super) network: Mutex<Result<(), NotReady>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            pods: Mutex::default(),
            containers: Mutex::default(),
            calls: Mutex::default(),
            waiting: Semaphore::new(0),
            release: Semaphore::new(0),
            network: Mutex::new(Ok(())),
        }
    }
}

impl Fake {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    pub(super) fn last_call(&self) -> String {
        self.calls.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

fn not_found(what: &str, id: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("no {what} has the id {id:?}"))
}

impl PodService for Fake {
    async fn run(&self, config: v1::PodSandboxConfig, handler: String) -> Result<String, Failure> {
        let mut pods = self.pods.lock().unwrap();
        let id = format!("pod{:02}", pods.len());
        pods.push(v1::PodSandbox {
            id: id.clone(),
            metadata: config.metadata,
            labels: config.labels,
            runtime_handler: handler,
            ..Default::default()
        });
        Ok(id)
    }

    async fn stop(&self, id: String) -> Result<(), Failure> {
        self.note(format!("stop {id}"));
        Ok(())
    }

    async fn remove(&self, id: String) -> Result<(), Failure> {
        self.pods.lock().unwrap().retain(|pod| pod.id != id);
        Ok(())
    }

    async fn pods(&self, filter: v1::PodSandboxFilter) -> Result<Vec<v1::PodSandbox>, Failure> {
        let pods = self.pods.lock().unwrap();
        Ok(pods.iter().filter(|pod| filter.matches(pod)).cloned().collect())
    }

    async fn pod_status(&self, id: String, _: bool) -> Result<v1::PodSandboxStatusResponse, Failure> {
        let pods = self.pods.lock().unwrap();
        let pod = pods.iter().find(|pod| pod.id == id);
        let pod = pod.ok_or_else(|| not_found("pod sandbox", &id))?;
        Ok(v1::PodSandboxStatusResponse {
            status: Some(v1::PodSandboxStatus {
                id: pod.id.clone(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    async fn create_container(
        &self,
        pod_id: String,
        config: v1::ContainerConfig,
        _: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Failure> {
        let mut containers = self.containers.lock().unwrap();
        let id = format!("ctr{:02}", containers.len());
        containers.push(v1::Container {
            id: id.clone(),
            pod_sandbox_id: pod_id,
            labels: config.labels,
            ..Default::default()
        });
        Ok(id)
    }

    async fn start_container(&self, id: String) -> Result<(), Failure> {
        Err(not_found("container", &id))
    }

    async fn stop_container(&self, id: String, timeout_seconds: i64) -> Result<(), Failure> {
        self.note(format!("stop {id} {timeout_seconds}"));
        Ok(())
    }

    async fn remove_container(&self, _: String) -> Result<(), Failure> {
        Ok(())
    }

    async fn containers(&self, filter: v1::ContainerFilter) -> Result<Vec<v1::Container>, Failure> {
        let all = self.containers.lock().unwrap();
        Ok(all.iter().filter(|c| filter.matches(c)).cloned().collect())
    }

    async fn container_status(&self, id: String, _: bool) -> Result<v1::ContainerStatusResponse, Failure> {
        Err(not_found("container", &id))
    }

    async fn container_stats(&self, id: String) -> Result<v1::ContainerStats, Failure> {
        Err(not_found("container", &id))
    }

    async fn list_container_stats(
        &self,
        filter: v1::ContainerStatsFilter,
    ) -> Result<Vec<v1::ContainerStats>, Failure> {
        let all = self.containers.lock().unwrap();
        let matching = all
            .iter()
            .filter(|one| filter.matches(&one.id, &one.pod_sandbox_id, &one.labels));
        let stats = matching.map(|one| v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: one.id.clone(),
                ..Default::default()
            }),
            ..Default::default()
        });
        Ok(stats.collect())
    }

    async fn pod_stats(&self, id: String) -> Result<v1::PodSandboxStats, Failure> {
        Err(not_found("pod sandbox", &id))
    }

    async fn list_pod_stats(
        &self,
        filter: v1::PodSandboxStatsFilter,
    ) -> Result<Vec<v1::PodSandboxStats>, Failure> {
        let all = self.pods.lock().unwrap();
        let matching = all.iter().filter(|one| filter.matches(&one.id, &one.labels));
        let stats = matching.map(|one| v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: one.id.clone(),
                ..Default::default()
            }),
            ..Default::default()
        });
        Ok(stats.collect())
    }

    async fn update_container_resources(
        &self,
        id: String,
        resources: v1::LinuxContainerResources,
        _: BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        self.note(format!("update {id} {}", resources.cpu_quota));
        Ok(())
    }

    async fn reopen_container_log(&self, id: String) -> Result<(), Failure> {
        Err(Failure::new(
            ErrorKind::FailedPrecondition,
            format!("{id} is not running"),
        ))
    }

    async fn exec_sync(
        &self,
        _: String,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<v1::ExecSyncResponse, Failure> {
        self.note(format!("exec {timeout:?}"));
        match command[0].as_str() {
            "panic" => panic!("the fake fell over"),
            "slow" => Err(Failure::new(
                ErrorKind::DeadlineExceeded,
                "slow did not end in time",
            )),
            "wait" => {
                self.waiting.add_permits(1);
                self.release.acquire().await.expect("never closed").forget();
                Ok(v1::ExecSyncResponse::default())
            }
            _ => Ok(v1::ExecSyncResponse {
                exit_code: 7,
                ..Default::default()
            }),
        }
    }

    async fn update_pod_resources(
        &self,
        id: String,
        _: Option<v1::LinuxContainerResources>,
        _: Option<v1::LinuxContainerResources>,
    ) -> Result<(), Failure> {
        Err(not_found("pod sandbox", &id))
    }

    async fn network_readiness(&self) -> Result<(), NotReady> {
        self.network.lock().unwrap().clone()
    }

    async fn set_pod_cidr(&self, cidr: String) -> Result<(), Failure> {
        self.note(format!("cidr {cidr}"));
        Ok(())
    }

    async fn describe(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("cniconfig".into(), "{}".into())])
    }
}

impl StreamService for Fake {
    fn exec(&self, id: &str, command: Vec<String>, streams: Streams, tty: bool) -> Result<String, Failure> {
        self.note(format!("exec {id} {command:?} {streams:?} {tty}"));
        Ok("http://there/exec/1".into())
    }

    fn attach(&self, id: &str, streams: Streams, tty: bool) -> Result<String, Failure> {
        self.note(format!("attach {id} {streams:?} {tty}"));
        Ok("http://there/attach/1".into())
    }

    fn port_forward(&self, id: &str, ports: Vec<u16>) -> Result<String, Failure> {
        self.note(format!("port-forward {id} {ports:?}"));
        Ok("http://there/portforward/1".into())
    }
}

impl ImageService for Fake {
    async fn pull(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        _: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Failure> {
        self.note(format!("pull {} {auth:?}", image.image));
        match image.image.as_str() {
            "gone" => Err(Failure::new(ErrorKind::Unavailable, "cannot connect to gone:443")),
            "slow" => {
                self.waiting.add_permits(1);
                self.release.acquire().await.expect("never closed").forget();
                Ok("sha256:1".into())
            }
            _ => Ok("sha256:1".into()),
        }
    }

    async fn images(&self, filter: v1::ImageFilter) -> Result<Vec<v1::Image>, Failure> {
        let wanted = filter.image.unwrap_or_default().image;
        let image = v1::Image {
            id: "sha256:1".into(),
            repo_tags: vec!["busybox".into()],
            ..Default::default()
        };
        Ok(Some(image)
            .filter(|_| wanted.is_empty() || wanted == "busybox")
            .into_iter()
            .collect())
    }

    async fn image_status(&self, _: v1::ImageSpec, _: bool) -> Result<v1::ImageStatusResponse, Failure> {
        Ok(v1::ImageStatusResponse::default())
    }

    async fn remove(&self, _: v1::ImageSpec) -> Result<(), Failure> {
        Ok(())
    }

    async fn fs_info(&self) -> Result<v1::ImageFsInfoResponse, Failure> {
        Ok(v1::ImageFsInfoResponse::default())
    }

    async fn import(&self, mut archive: ArchiveStream) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let mut size = 0;
        while let Some(piece) = archive.next().await {
            size += piece
                .map_err(|e| Failure::from_error(ErrorKind::Unavailable, &e))?
                .len();
        }
        Ok(vec![(format!("sha256:{size}"), vec!["name:tag".into()])])
    }

    fn pulls(&self) -> Vec<admin::PullProgress> {
        vec![admin::PullProgress {
            reference: "docker.io/library/slow:latest".into(),
            waiting: 1,
            ..Default::default()
        }]
    }

    fn kept(&self) -> Vec<admin::KeptLayer> {
        vec![admin::KeptLayer {
            diff_id: "sha256:kept".into(),
            ..Default::default()
        }]
    }

    async fn check(&self, reference: String) -> Result<String, Failure> {
        Ok(format!("{{\"given\":\"{reference}\"}}"))
    }

    async fn names(&self, reference: String) -> Vec<String> {
        vec![
            "first.test/x".into(),
            format!("docker.io/library/{reference}:latest"),
        ]
    }

    async fn verify(&self, image: String, repair: bool) -> Result<admin::VerifyResponse, Failure> {
        self.note(format!("verify {image} {repair}"));
        Err(not_found("image", &image))
    }

    fn incomplete(&self) -> Vec<admin::IncompleteImage> {
        Vec::new()
    }

    async fn export(
        &self,
        images: Vec<String>,
        mut to: ArchiveSink,
    ) -> Result<Vec<admin::ExportedImage>, Failure> {
        let broken = |error| Failure::from_error(ErrorKind::Unavailable, &error);
        for image in &images {
            to.write_all(image.repeat(100_000).as_bytes())
                .await
                .map_err(broken)?;
            if image == "bad" {
                return Err(not_found("image", image));
            }
        }
        to.shutdown().await.map_err(broken)?;
        Ok(vec![admin::ExportedImage::default(); images.len()])
    }

    async fn prune(&self, dry_run: bool) -> Result<admin::PruneResponse, Failure> {
        self.note(format!("prune {dry_run}"));
        Ok(admin::PruneResponse::default())
    }
}
