//! One plugin of the set: what it subscribed to, and events for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::connection::{Connection, code};
use crate::error::{CallError, NriError, Refusal};
use crate::name::Name;
use crate::proto::{
    Container, ContainerUpdate, Empty, Event, PodSandbox, StateChangeEvent, SynchronizeRequest,
    SynchronizeResponse,
};
use crate::ttrpc::MAX_MESSAGE;

/// What a request around a payload needs beside it: names of service and method, lengths, the time limit.
const ENVELOPE: usize = 256;

/// Where a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The runtime has started it, and ends it.
    Launched,
    /// It connected by itself.
    External,
}

/// A set of events: bit n - 1 is the event with the number n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events(u32);

impl Events {
    pub(crate) const NONE: Self = Self(0);
    /// From RUN_POD_SANDBOX to the one before LAST.
    const ALL: Self = Self((1 << (Event::Last as u32 - 1)) - 1);

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What a plugin subscribes to. 0 is everything.
    pub(crate) fn subscribed(mask: i32) -> Result<Self, Refusal> {
        match u32::try_from(mask) {
            Ok(0) => Ok(Self::ALL),
            Ok(bits) if bits & !Self::ALL.0 == 0 => Ok(Self(bits)),
            _ => Err(Refusal::Events(mask)),
        }
    }

    pub(crate) fn contains(self, event: Event) -> bool {
        let number = u32::try_from(i32::from(event)).unwrap_or_default();
        // The event with the number 0 is none.
        number.checked_sub(1).is_some_and(|bit| self.0 >> bit & 1 == 1)
    }
}

/// The method of plugins for an event.
pub(crate) const fn method(event: Event) -> &'static str {
    match event {
        Event::RunPodSandbox => "RunPodSandbox",
        Event::StopPodSandbox => "StopPodSandbox",
        Event::RemovePodSandbox => "RemovePodSandbox",
        Event::CreateContainer => "CreateContainer",
        Event::PostCreateContainer => "PostCreateContainer",
        Event::StartContainer => "StartContainer",
        Event::PostStartContainer => "PostStartContainer",
        Event::UpdateContainer => "UpdateContainer",
        Event::PostUpdateContainer => "PostUpdateContainer",
        Event::StopContainer => "StopContainer",
        Event::RemoveContainer => "RemoveContainer",
        Event::UpdatePodSandbox => "UpdatePodSandbox",
        Event::PostUpdatePodSandbox => "PostUpdatePodSandbox",
        Event::ValidateContainerAdjustment => "ValidateContainerAdjustment",
        Event::Unknown | Event::Last => "StateChange",
    }
}

#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) name: Name,
    pub(crate) events: Events,
    pub(crate) pid: Option<u32>,
    pub(crate) origin: Origin,
    pub(crate) connection: Connection,
    /// It did not know the method of an event that older plugins get by StateChange.
    pub(crate) old: AtomicBool,
}

impl Plugin {
    /// Calls the method of an event. `None` if the plugin is lost, which does not fail the event.
    pub(crate) async fn ask<A: prost::Message + Default>(
        &self,
        event: Event,
        request: &impl prost::Message,
    ) -> Result<Option<A>, NriError> {
        self.outcome(event, self.connection.call(method(event), request).await)
    }

    /// Calls the method of an event that has no answer, or StateChange if the plugin is too old for it.
    pub(crate) async fn tell(
        &self,
        event: Event,
        request: &impl prost::Message,
        pod: &Option<PodSandbox>,
        container: &Option<Container>,
    ) -> Result<(), NriError> {
        if event == Event::UpdatePodSandbox {
            // It came with a method of its own.
            return self.ask::<Empty>(event, request).await.map(drop);
        }
        if !self.old.load(Ordering::Relaxed) {
            match self.connection.call::<Empty>(method(event), request).await {
                Err(CallError::Status {
                    code: code::UNIMPLEMENTED,
                    ..
                }) => {
                    self.old.store(true, Ordering::Relaxed);
                    tracing::warn!(
                        plugin = %self.name,
                        event = method(event),
                        "an NRI plugin does not have the method of an event; it gets this event and the like by \
                         StateChange, which a later version of NRI may not have: update the plugin"
                    );
                }
                outcome => return self.outcome(event, outcome).map(drop),
            }
        }
        let change = StateChangeEvent {
            event: event.into(),
            pod: pod.clone(),
            container: container.clone(),
        };
        let outcome = self.connection.call::<Empty>("StateChange", &change).await;
        self.outcome(event, outcome).map(drop)
    }

    /// What an answer means for the event.
    fn outcome<A>(&self, event: Event, outcome: Result<A, CallError>) -> Result<Option<A>, NriError> {
        let (plugin, event) = (self.name.to_string(), method(event));
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            // The task of the plugin logs it.
            Err(CallError::Lost(_)) => Ok(None),
            Err(CallError::Status { code, message }) => Err(NriError::Plugin {
                plugin,
                event,
                code,
                message,
            }),
            Err(CallError::TooLarge { length }) => Err(NriError::TooLarge {
                plugin,
                event,
                length,
            }),
        }
    }

    /// Tells all pods and containers. Returns what the plugin wants to be updated.
    pub(crate) async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
        limit: Duration,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        const METHOD: &str = "Synchronize";
        let mut updates = Vec::new();
        for part in parts(pods, containers, MAX_MESSAGE - ENVELOPE) {
            let call = self
                .connection
                .call_within::<SynchronizeResponse>(limit, METHOD, &part);
            let response = call.await.map_err(|source| Refusal::Call {
                method: METHOD,
                source,
            })?;
            // A plugin that does not know of parts takes the first one for the whole.
            if part.more && !(response.more && response.update.is_empty()) {
                return Err(Refusal::Parts);
            }
            updates = response.update;
        }
        Ok(updates)
    }
}

/// Cuts what is to be told into messages of at most `limit` bytes, unless a single pod or container is larger.
fn parts(pods: Vec<PodSandbox>, containers: Vec<Container>, limit: usize) -> Vec<SynchronizeRequest> {
    let mut parts = Vec::new();
    let (mut part, mut size) = (SynchronizeRequest::default(), 0);
    // The key, and at most five bytes of length. Behind the last one `more` needs two bytes.
    let needed = |length: usize| length + 6;
    let mut make_room = |part: &mut SynchronizeRequest, length: usize| {
        if size > 0 && size + needed(length) > limit - 2 {
            parts.push(SynchronizeRequest {
                more: true,
                ..std::mem::take(part)
            });
            size = 0;
        }
        size += needed(length);
    };
    for pod in pods {
        make_room(&mut part, prost::Message::encoded_len(&pod));
        part.pods.push(pod);
    }
    for container in containers {
        make_room(&mut part, prost::Message::encoded_len(&container));
        part.containers.push(container);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests;
