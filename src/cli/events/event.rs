//! One event, as a line and as a document.
//!
//! Must never: be printed with text of a client's that controls the terminal.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use crate::cli::output::escape;
use crate::cli::screen::Line;
use crate::cli::selection::Selection;
use crate::cli::units;
use crate::proto::v1::{self, ContainerEventType};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Created,
    Started,
    Stopped,
    Deleted,
    /// Something that this client does not know.
    Unknown,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        }
    }
}

/// To what it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Object {
    Pod,
    Container,
}

/// What `-o json` prints of an event (`docs/operations.md`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    #[serde(serialize_with = "time")]
    time: Timestamp,
    event: Kind,
    object: Object,
    namespace: String,
    pod: String,
    pod_uid: String,
    pod_id: String,
    /// None if its name is not known any more.
    container: Option<String>,
    container_id: Option<String>,
    /// Of the container or, without one, of the pod.
    attempt: Option<u32>,
    #[serde(flatten)]
    end: End,
}

/// How a container has ended; nothing where none has.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct End {
    exit_code: Option<i32>,
    reason: Option<String>,
    /// In the daemon's words, where it has something to say.
    message: Option<String>,
}

/// Nanoseconds matter: they are the order of events.
fn time<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ"))
}

/// The names of the containers that there are: an event about a container that is gone has only its id.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, v1::ContainerMetadata>);

impl Names {
    pub(super) fn learn(&mut self, id: String, metadata: Option<v1::ContainerMetadata>) {
        self.0.insert(id, metadata.unwrap_or_default());
    }

    /// What the daemon tells; none if it is about another pod than those selected.
    pub(super) fn event(
        &mut self,
        response: v1::ContainerEventResponse,
        selection: &Selection,
    ) -> Option<Event> {
        let kind = match ContainerEventType::try_from(response.container_event_type) {
            Ok(ContainerEventType::ContainerCreatedEvent) => Kind::Created,
            Ok(ContainerEventType::ContainerStartedEvent) => Kind::Started,
            Ok(ContainerEventType::ContainerStoppedEvent) => Kind::Stopped,
            Ok(ContainerEventType::ContainerDeletedEvent) => Kind::Deleted,
            Err(_) => Kind::Unknown,
        };
        let (id, pod) = (
            response.container_id,
            response.pod_sandbox_status.unwrap_or_default(),
        );
        let mut end = End::default();
        for status in response.containers_statuses {
            if status.id == id && kind == Kind::Stopped {
                let told = |text: String| Some(text).filter(|text| !text.is_empty());
                end = End {
                    exit_code: Some(status.exit_code),
                    reason: told(status.reason),
                    message: told(status.message),
                };
            }
            self.learn(status.id, status.metadata);
        }
        let metadata = match kind {
            Kind::Deleted => self.0.remove(&id),
            _ => self.0.get(&id).cloned(),
        };
        let of_pod = pod.metadata.unwrap_or_default();
        if !selection.has(&of_pod.namespace, &of_pod.name, &pod.id, &pod.labels) {
            return None;
        }
        let (object, container_id, attempt) = if id == pod.id {
            (Object::Pod, None, Some(of_pod.attempt))
        } else {
            let attempt = metadata.as_ref().map(|metadata| metadata.attempt);
            (Object::Container, Some(id), attempt)
        };
        Some(Event {
            time: Timestamp::from_nanosecond(response.created_at.into()).unwrap_or_default(),
            event: kind,
            object,
            namespace: of_pod.namespace,
            pod: of_pod.name,
            pod_uid: of_pod.uid,
            pod_id: pod.id,
            container: metadata.map(|metadata| metadata.name),
            container_id,
            attempt,
            end,
        })
    }
}

/// The widths are those of what is below.
pub(super) fn heading() -> Line {
    Line::plain(columns([
        "TIME",
        "EVENT",
        "OBJECT",
        "POD",
        "CONTAINER",
        "NAMESPACE/POD/CONTAINER",
    ]))
}

fn columns([time, event, object, pod, container, name]: [&str; 6]) -> String {
    format!("{time:<29}   {event:<7}   {object:<9}   {pod:<13}   {container:<13}   {name}")
}

impl Event {
    /// With the time of the node, to the millisecond.
    pub(super) fn line(&self, zone: &TimeZone) -> Line {
        let time = self.time.to_zoned(zone.clone());
        let (object, container, name) = match (self.object, &self.container_id) {
            (Object::Container, Some(id)) => {
                let name = self.container.as_deref().unwrap_or("?");
                ("container", units::id(id, false), format!("/{name}"))
            }
            _ => ("pod", "-".to_owned(), String::new()),
        };
        let name = format!("{}/{}{name}{}", self.namespace, self.pod, self.end.text());
        Line {
            text: columns([
                &time.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string(),
                self.event.word(),
                object,
                &escape(&units::id(&self.pod_id, false)),
                &escape(&container),
                &escape(&name),
            ]),
            style: self.style(),
        }
    }

    fn style(&self) -> &'static str {
        match (self.event, self.end.exit_code) {
            (Kind::Created | Kind::Unknown, _) => "",
            (Kind::Started, _) => "32",
            (Kind::Stopped, None | Some(0)) => "33",
            (Kind::Stopped, Some(_)) => "31",
            (Kind::Deleted, _) => "2",
        }
    }
}

impl End {
    /// `   exit code 137 (OOMKilled): …`
    fn text(&self) -> String {
        let Some(code) = self.exit_code else {
            return String::new();
        };
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})"));
        let message = self.message.as_ref().map(|message| format!(": {message}"));
        format!(
            "   exit code {code}{}{}",
            reason.unwrap_or_default(),
            message.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests;
