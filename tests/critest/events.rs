//! GetContainerEvents (KEP-3386): every change of pods and containers, once, in order, with the state that it led to.

use std::time::Duration;

use pausa::proto::v1;
use pausa::proto::v1::ContainerEventType as Kind;
use pausa::proto::v1::{ContainerState, PodSandboxState};
use tonic::{Status, Streaming};

use crate::harness::{Node, ok, on_own_node, on_pausa, strings};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn subscribe(node: &Node) -> Streaming<v1::ContainerEventResponse> {
    let request = v1::GetEventsRequest::default();
    ok(
        "GetContainerEvents",
        node.runtime().get_container_events(request).await,
    )
}

async fn next(
    events: &mut Streaming<v1::ContainerEventResponse>,
) -> Result<Option<v1::ContainerEventResponse>, Status> {
    let next = tokio::time::timeout(PATIENCE, events.message());
    next.await.expect("an event, or the end")
}

/// The next event of a pod: others may be about pods of other tests.
pub(crate) async fn next_of(
    events: &mut Streaming<v1::ContainerEventResponse>,
    pod: &str,
) -> v1::ContainerEventResponse {
    loop {
        let event = next(events).await.expect("no error").expect("an event");
        let status = event
            .pod_sandbox_status
            .as_ref()
            .expect("kubelet ignores events without it");
        if status.id == pod {
            return event;
        }
    }
}

/// The containers of a pod and their states, as an event has them.
fn states(event: &v1::ContainerEventResponse) -> Vec<(&str, ContainerState)> {
    let statuses = event.containers_statuses.iter();
    statuses
        .map(|status| (status.id.as_str(), status.state()))
        .collect()
}

#[test]
#[ignore = "needs root"]
fn every_change_is_told_once_and_in_order() {
    on_pausa(async |node| {
        let (mut first, mut second) = (subscribe(node).await, subscribe(node).await);
        let pod = node.pod().await;
        let mut config = pod.container_config();
        config.command = strings(&["sh", "-c", "exit 3"]);
        let ends = pod.create(config).await;
        ends.start().await;
        ends.end().await;
        ends.remove().await;
        let stays = pod.start(|_| {}).await;
        pod.stop().await;
        pod.remove().await;

        let (ended, idle) = (ends.id.as_str(), stays.id.as_str());
        let (created, running, exited) = (
            ContainerState::ContainerCreated,
            ContainerState::ContainerRunning,
            ContainerState::ContainerExited,
        );
        let (ready, not_ready) = (PodSandboxState::SandboxReady, PodSandboxState::SandboxNotready);
        let expected = [
            (&*pod.id, Kind::ContainerCreatedEvent, ready, vec![]),
            (&*pod.id, Kind::ContainerStartedEvent, ready, vec![]),
            (ended, Kind::ContainerCreatedEvent, ready, vec![(ended, created)]),
            (ended, Kind::ContainerStartedEvent, ready, vec![(ended, running)]),
            (ended, Kind::ContainerStoppedEvent, ready, vec![(ended, exited)]),
            (ended, Kind::ContainerDeletedEvent, ready, vec![]),
            (idle, Kind::ContainerCreatedEvent, ready, vec![(idle, created)]),
            (idle, Kind::ContainerStartedEvent, ready, vec![(idle, running)]),
            (idle, Kind::ContainerStoppedEvent, ready, vec![(idle, exited)]),
            (
                &*pod.id,
                Kind::ContainerStoppedEvent,
                not_ready,
                vec![(idle, exited)],
            ),
            (idle, Kind::ContainerDeletedEvent, not_ready, vec![]),
            (&*pod.id, Kind::ContainerDeletedEvent, not_ready, vec![]),
        ];
        for events in [&mut first, &mut second] {
            let mut last = 0;
            for (id, kind, state, containers) in &expected {
                let event = next_of(events, &pod.id).await;
                let told = (&*event.container_id, event.container_event_type());
                assert_eq!(told, (*id, *kind));
                // A process may have ended before its start was answered: then both events have its last state.
                let early = *kind == Kind::ContainerStartedEvent && states(&event) == [(*id, exited)];
                assert!(early || states(&event) == *containers, "{event:?}");
                let status = event.pod_sandbox_status.expect("a status");
                assert_eq!(
                    (status.state(), status.metadata),
                    (*state, pod.config.metadata.clone())
                );
                assert!(event.created_at > last, "kubelet keeps the newest");
                last = event.created_at;
                if let Some(status) = event.containers_statuses.iter().find(|status| status.id == ended) {
                    let code = if status.state() == exited { 3 } else { 0 };
                    assert_eq!(status.exit_code, code);
                }
            }
        }
    });
}

/// kubelet asks for a status after an event: what it gets is not older, and not called newer than it is.
#[test]
#[ignore = "needs root"]
fn a_status_is_never_older_than_the_event_before() {
    on_pausa(async |node| {
        let mut events = subscribe(node).await;
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let status = async || {
            let request = v1::PodSandboxStatusRequest {
                pod_sandbox_id: pod.id.clone(),
                ..Default::default()
            };
            ok(
                "PodSandboxStatus",
                node.runtime().pod_sandbox_status(request).await,
            )
        };
        container.stop(0).await;
        loop {
            let event = next_of(&mut events, &pod.id).await;
            let now = status().await;
            assert!(now.timestamp > event.created_at);
            assert_eq!(now.containers_statuses.len(), 1);
            assert_eq!(
                now.containers_statuses[0].state(),
                ContainerState::ContainerExited
            );
            if event.container_event_type() == Kind::ContainerStoppedEvent {
                break;
            }
        }
    });
}

/// The daemon does not wait for subscribers when it stops, and has them subscribe again; exits of meanwhile are in the lists.
#[test]
#[ignore = "needs root"]
fn a_stop_of_the_daemon_ends_the_stream() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let mut events = subscribe(node).await;
        node.daemon(|daemon| {
            daemon.terminate();
            daemon.restart();
        });
        node.until_it_answers().await;
        assert_eq!(next(&mut events).await.expect("an end without error"), None);
        assert!(!node.daemon_log().contains("stopping with requests unanswered"));
        let mut events = subscribe(node).await;
        let container = pod.start(|_| {}).await;
        for kind in [Kind::ContainerCreatedEvent, Kind::ContainerStartedEvent] {
            let event = next_of(&mut events, &pod.id).await;
            assert_eq!(
                (&event.container_id, event.container_event_type()),
                (&container.id, kind)
            );
        }
    });
}
