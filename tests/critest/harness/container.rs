//! A container as a client sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pausa::proto::v1;
use pausa::proto::v1::ContainerState;
use tonic::{Response, Status};

use super::logs::{self, Line};
use super::node::Node;
use super::{eventually, ok, strings};

/// A container.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    pub(crate) node: &'a Node,
    pub(crate) id: String,
    pub(crate) config: v1::ContainerConfig,
    pub(crate) log: PathBuf,
}

/// A container that has ended: its status and what its log had at that moment.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: v1::ContainerStatus,
    pub(crate) lines: Vec<Line>,
}

impl Ended {
    /// What it wrote to standard output.
    pub(crate) fn stdout(&self) -> String {
        self.stream("stdout")
    }

    /// What it wrote to standard error.
    pub(crate) fn stderr(&self) -> String {
        self.stream("stderr")
    }

    fn stream(&self, stream: &str) -> String {
        String::from_utf8_lossy(&logs::content(&self.lines, stream)).into_owned()
    }
}

impl Container<'_> {
    pub(crate) async fn try_start(&self) -> Result<Response<v1::StartContainerResponse>, Status> {
        let request = v1::StartContainerRequest {
            container_id: self.id.clone(),
        };
        self.node.runtime().start_container(request).await
    }

    pub(crate) async fn start(&self) {
        ok("StartContainer", self.try_start().await);
    }

    /// Asks for other resources.
    pub(crate) async fn try_update(
        &self,
        linux: v1::LinuxContainerResources,
    ) -> Result<Response<v1::UpdateContainerResourcesResponse>, Status> {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: self.id.clone(),
            linux: Some(linux),
            ..Default::default()
        };
        self.node.runtime().update_container_resources(request).await
    }

    /// The resources that its status has.
    pub(crate) async fn resources(&self) -> v1::LinuxContainerResources {
        let resources = self.status().await.resources;
        resources
            .and_then(|resources| resources.linux)
            .expect("resources")
    }

    pub(crate) async fn try_stop(&self, timeout: i64) -> Result<Response<v1::StopContainerResponse>, Status> {
        let request = v1::StopContainerRequest {
            container_id: self.id.clone(),
            timeout,
        };
        self.node.runtime().stop_container(request).await
    }

    pub(crate) async fn stop(&self, timeout: i64) {
        ok("StopContainer", self.try_stop(timeout).await);
    }

    pub(crate) async fn remove(&self) {
        let request = v1::RemoveContainerRequest {
            container_id: self.id.clone(),
        };
        ok(
            "RemoveContainer",
            self.node.runtime().remove_container(request).await,
        );
    }

    pub(crate) async fn try_status(
        &self,
        verbose: bool,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        let request = v1::ContainerStatusRequest {
            container_id: self.id.clone(),
            verbose,
        };
        self.node.runtime().container_status(request).await
    }

    pub(crate) async fn status(&self) -> v1::ContainerStatus {
        let response = ok("ContainerStatus", self.try_status(false).await);
        response.status.expect("a container's status")
    }

    /// The verbose part of its status.
    pub(crate) async fn info(&self) -> BTreeMap<String, String> {
        ok("ContainerStatus", self.try_status(true).await).info
    }

    /// What the verbose part says, as tools read it.
    pub(crate) async fn details(&self) -> serde_json::Value {
        serde_json::from_str(&self.info().await["info"]).expect("info is JSON")
    }

    /// The process id on the host.
    pub(crate) async fn pid(&self) -> i32 {
        self.details().await["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .expect("info.pid")
    }

    /// Waits until it has ended.
    pub(crate) async fn end(&self) -> Ended {
        let status = eventually("the container ends", async || {
            let status = self.status().await;
            (status.state() == ContainerState::ContainerExited).then_some(status)
        })
        .await;
        // Read after EXITED was seen and not a moment later: all bytes have to be there by then.
        let lines = if self.config.log_path.is_empty() {
            Vec::new()
        } else {
            logs::read(&self.log)
        };
        Ended { status, lines }
    }

    /// Waits until its log has a line with this text.
    pub(crate) async fn says(&self, text: &str) {
        eventually(&format!("the log says {text}"), async || {
            let bytes = std::fs::read(&self.log).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(text).then_some(())
        })
        .await;
    }

    pub(crate) async fn try_exec(
        &self,
        cmd: &[&str],
        timeout: i64,
    ) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let request = v1::ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: strings(cmd),
            timeout,
        };
        self.node.runtime().exec_sync(request).await
    }

    pub(crate) async fn exec(&self, cmd: &[&str]) -> v1::ExecSyncResponse {
        ok("ExecSync", self.try_exec(cmd, 30).await)
    }

    /// What a shell script in the container prints; it must succeed.
    pub(crate) async fn sh(&self, script: &str) -> String {
        let done = self.exec(&["sh", "-c", script]).await;
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert_eq!(done.exit_code, 0, "{script}: {out}{err}");
        out.into_owned()
    }
}
