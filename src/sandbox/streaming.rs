//! What the streaming room asks of pods and containers: streams of processes, and connections into pods.
//!
//! Nothing is kept here: a [`Session`] that is dropped tells the monitor by itself.

mod connect;

use std::os::fd::OwnedFd;

use super::error::PodError;
use super::record::PodState;
use super::{Pods, registry, work};
use crate::container::RunState;
use crate::error::Failure;
use crate::id::Id;
use crate::streaming::target::{AttachRequest, ExecRequest, Session, Target};

impl Target for Pods {
    fn running_container(&self, id: &str) -> Result<Id, Failure> {
        let (_, record) = self.container(id)?;
        match record.run {
            RunState::Running { .. } => Ok(record.id.clone()),
            RunState::Created | RunState::Exited(_) => Err(PodError::State {
                what: registry::CONTAINER,
                id: record.id.to_string(),
                state: "not running",
                hint: "only a running container has streams",
            }
            .into()),
        }
    }

    fn ready_pod(&self, id: &str) -> Result<Id, Failure> {
        let view = self.view(id)?;
        match view.pod.state {
            PodState::Ready => Ok(view.pod.id.clone()),
            PodState::Creating | PodState::NotReady => Err(not_ready(&view.pod.id).into()),
        }
    }

    async fn exec(&self, request: ExecRequest) -> Result<Session, Failure> {
        let (full, handle) = self.registry.container(request.container.as_str())?;
        let (_, record) = self.container(full.as_str())?;
        Ok(work::exec(&self.services, &handle, &record, request).await?)
    }

    async fn attach(&self, request: AttachRequest) -> Result<Session, Failure> {
        let (full, handle) = self.registry.container(request.container.as_str())?;
        let (_, record) = self.container(full.as_str())?;
        Ok(work::attach(&handle, &record, request).await?)
    }

    async fn connect(&self, pod: &Id, port: u16) -> Result<OwnedFd, Failure> {
        let view = self.view(pod.as_str())?;
        if view.pod.state != PodState::Ready {
            return Err(not_ready(pod).into());
        }
        connect::connect(view.pod.netns.as_deref(), port).await
    }
}

fn not_ready(pod: &Id) -> PodError {
    PodError::State {
        what: registry::POD,
        id: pod.to_string(),
        state: "not ready",
        hint: "ports are forwarded to ready pods only",
    }
}
