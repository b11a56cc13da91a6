//! Events as lines and as documents.

use std::slice::from_ref;

use super::*;

const POD: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
const CONTAINER: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";

fn status(exit_code: i32, reason: &str, message: &str) -> v1::ContainerStatus {
    v1::ContainerStatus {
        id: CONTAINER.to_owned(),
        metadata: Some(v1::ContainerMetadata {
            name: "main".to_owned(),
            attempt: 2,
        }),
        exit_code,
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Default::default()
    }
}

/// What the daemon tells of the pod default/web-0.
fn told(
    id: &str,
    kind: ContainerEventType,
    containers: &[v1::ContainerStatus],
) -> v1::ContainerEventResponse {
    v1::ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind.into(),
        created_at: 1_767_322_801_000_000_007,
        pod_sandbox_status: Some(v1::PodSandboxStatus {
            id: POD.to_owned(),
            metadata: Some(v1::PodSandboxMetadata {
                name: "web-0".to_owned(),
                uid: "u-1".to_owned(),
                namespace: "default".to_owned(),
                attempt: 1,
            }),
            ..Default::default()
        }),
        containers_statuses: containers.to_vec(),
    }
}

fn event(names: &mut Names, response: v1::ContainerEventResponse) -> Event {
    names.event(response, &Selection::default()).expect("selected")
}

/// The line without the time, and its style.
fn line(event: &Event) -> (String, &'static str) {
    let Line { text, style } = event.line(&TimeZone::UTC);
    let (time, rest) = text.split_once("   ").expect("columns");
    assert_eq!(time, "2026-01-02T03:00:01.000+00:00");
    (rest.to_owned(), style)
}

#[test]
fn a_life_is_told_in_lines_below_their_heading() {
    use ContainerEventType as Told;
    let (running, killed) = (status(0, "", ""), status(137, "OOMKilled", ""));
    let mut names = Names::default();
    let mut text = heading().text;
    for (id, kind, containers) in [
        (POD, Told::ContainerCreatedEvent, &[][..]),
        (POD, Told::ContainerStartedEvent, &[]),
        (CONTAINER, Told::ContainerCreatedEvent, from_ref(&running)),
        (CONTAINER, Told::ContainerStartedEvent, from_ref(&running)),
        (CONTAINER, Told::ContainerStoppedEvent, from_ref(&killed)),
        (CONTAINER, Told::ContainerDeletedEvent, &[]),
        (POD, Told::ContainerStoppedEvent, &[]),
        (POD, Told::ContainerDeletedEvent, &[]),
    ] {
        let event = event(&mut names, told(id, kind, containers));
        text = text + "\n" + &event.line(&TimeZone::UTC).text;
    }
    insta::assert_snapshot!(text);
    assert!(names.0.is_empty(), "what is gone is not remembered");
}

#[test]
fn an_exit_has_its_code_reason_and_message() {
    let stopped = ContainerEventType::ContainerStoppedEvent;
    for (status, text, colour) in [
        (status(0, "Completed", ""), "   exit code 0 (Completed)", "33"),
        (
            status(128, "StartError", "no such\nfile"),
            "   exit code 128 (StartError): no such\\nfile",
            "31",
        ),
        (status(1, "", ""), "   exit code 1", "31"),
    ] {
        let (line, style) = line(&event(&mut Names::default(), told(CONTAINER, stopped, &[status])));
        assert!(line.ends_with(&format!("default/web-0/main{text}")), "{line}");
        assert_eq!(style, colour);
    }
    // A process may have ended before its start is told.
    let started = ContainerEventType::ContainerStartedEvent;
    let ended = status(3, "Error", "");
    let (line, _) = line(&event(&mut Names::default(), told(CONTAINER, started, &[ended])));
    assert!(!line.contains("exit code"), "{line}");
}

#[test]
fn the_name_of_what_is_deleted_is_known_from_before() {
    let deleted = || told(CONTAINER, ContainerEventType::ContainerDeletedEvent, &[]);
    let mut names = Names::default();
    names.learn(CONTAINER.to_owned(), status(0, "", "").metadata);
    let first = event(&mut names, deleted());
    assert_eq!(
        (first.container.as_deref(), first.attempt),
        (Some("main"), Some(2))
    );
    // From before the subscription.
    let unknown = event(&mut names, deleted());
    assert_eq!((&unknown.container, unknown.attempt), (&None, None));
    assert!(line(&unknown).0.ends_with("   default/web-0/?"));
}

#[test]
fn documents_have_all_keys() {
    let stopped = told(
        CONTAINER,
        ContainerEventType::ContainerStoppedEvent,
        &[status(137, "OOMKilled", "")],
    );
    let pod = told(POD, ContainerEventType::ContainerCreatedEvent, &[]);
    let mut newer = pod.clone();
    newer.container_event_type = 99;
    let documents = [stopped, pod, newer].map(|response| event(&mut Names::default(), response));
    insta::assert_json_snapshot!(documents);
}

#[test]
fn only_selected_pods_are_told_of_but_all_names_are_learnt() {
    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        selection: Selection,
    }
    let Alone { selection } = clap::Parser::try_parse_from(["pausa", "--namespace", "other"]).unwrap();
    let mut names = Names::default();
    let created = told(
        CONTAINER,
        ContainerEventType::ContainerCreatedEvent,
        &[status(0, "", "")],
    );
    assert!(names.event(created, &selection).is_none());
    assert!(names.0.contains_key(CONTAINER));
}

#[test]
fn hostile_text_cannot_drive_the_terminal() {
    let mut hostile = status(1, "\x1b[2J", "\x1b]0;title\x07");
    hostile.id = "\x1b[31m".to_owned();
    hostile.metadata.as_mut().unwrap().name = "\r\u{9b}2J".to_owned();
    let mut response = told(
        &hostile.id.clone(),
        ContainerEventType::ContainerStoppedEvent,
        &[hostile],
    );
    let pod = response.pod_sandbox_status.as_mut().unwrap();
    pod.id = "\x1b[31m2".to_owned();
    pod.metadata.as_mut().unwrap().namespace = "\n".to_owned();
    let line = event(&mut Names::default(), response).line(&TimeZone::UTC);
    assert!(!line.text.contains(char::is_control), "{line:?}");
}
