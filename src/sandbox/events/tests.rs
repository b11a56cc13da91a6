use futures_util::StreamExt as _;

use super::*;
use crate::container::ExitInfo;
use crate::sandbox::tests::{container_record, pod_record};

const CREATED: Kind = Kind::ContainerCreatedEvent;
const STARTED: Kind = Kind::ContainerStartedEvent;
const STOPPED: Kind = Kind::ContainerStoppedEvent;
const DELETED: Kind = Kind::ContainerDeletedEvent;

fn view(state: PodState) -> PodView {
    let mut record = pod_record(v1::PodSandboxConfig::default());
    record.state = state;
    PodView::new(Arc::new(record), [].into())
}

fn with(view: &PodView, record: &ContainerRecord, run: RunState) -> PodView {
    let mut view = view.clone();
    let mut record = record.clone();
    record.run = run;
    view.containers.insert(record.id.clone(), Arc::new(record));
    view
}

fn kinds(before: Option<&PodView>, after: &PodView) -> Vec<Kind> {
    changes(before, after).into_iter().map(|(_, kind)| kind).collect()
}

#[test]
fn a_pod_is_created_started_and_stopped() {
    let ready = view(PodState::Ready);
    assert_eq!(kinds(None, &ready), [CREATED, STARTED]);
    assert_eq!(kinds(Some(&ready), &ready), []);
    let mut stopped = ready.clone();
    Arc::make_mut(&mut stopped.pod).state = PodState::NotReady;
    assert_eq!(changes(Some(&ready), &stopped), [(ready.pod.id.clone(), STOPPED)]);
}

/// Whatever an observer misses in between: every transition is told once, in order.
#[test]
fn no_transition_of_a_container_is_left_out() {
    let pod = view(PodState::Ready);
    let record = container_record(&pod.pod.id, v1::ContainerConfig::default());
    let running = RunState::Running {
        pid: 7,
        started_at: 1,
    };
    let exited = RunState::Exited(ExitInfo::killed(1, 2, ""));
    let failed = RunState::Exited(ExitInfo::start_error(2, String::new()));
    let states = [
        pod.clone(),
        with(&pod, &record, RunState::Created),
        with(&pod, &record, running),
        with(&pod, &record, exited),
    ];
    let all = [CREATED, STARTED, STOPPED];
    for from in 0..states.len() {
        for to in from..states.len() {
            let expected = &all[from..to];
            assert_eq!(
                kinds(Some(&states[from]), &states[to]),
                expected,
                "{from} to {to}"
            );
        }
        let gone = kinds(Some(&states[from]), &pod);
        assert_eq!(gone, if from == 0 { vec![] } else { vec![DELETED] });
    }
    let failed = with(&pod, &record, failed);
    assert_eq!(kinds(Some(&states[1]), &failed), [STOPPED], "it never ran");
}

#[tokio::test]
async fn subscribers_hear_the_same_in_the_same_order() {
    let events = ContainerEvents::default();
    let pod = Arc::new(view(PodState::Ready));
    events.published(None, &pod);
    let mut subscribers = [events.subscribe().unwrap(), events.subscribe().unwrap()];
    let record = container_record(&pod.pod.id, v1::ContainerConfig::default());
    let created = Arc::new(with(&pod, &record, RunState::Created));
    events.published(Some(&pod), &created);
    events.published(Some(&created), &pod);
    events.removed(&pod);
    for subscriber in &mut subscribers {
        let mut last = 0;
        for (id, kind, containers) in [
            (&record.id, CREATED, 1),
            (&record.id, DELETED, 0),
            (&pod.pod.id, DELETED, 0),
        ] {
            let event = subscriber.recv().await.unwrap();
            let told = response(&event);
            assert_eq!(
                (&told.container_id, told.container_event_type()),
                (&id.to_string(), kind)
            );
            assert_eq!(told.pod_sandbox_status.unwrap().id, pod.pod.id.to_string());
            assert_eq!(told.containers_statuses.len(), containers);
            assert!(told.created_at > last);
            last = told.created_at;
        }
        assert!(subscriber.try_recv().is_err(), "nothing of before");
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_keep_up_is_cut_off() {
    let events = ContainerEvents::default();
    let pod = Arc::new(view(PodState::Ready));
    let mut keeps_up = Box::pin(responses(events.subscribe()));
    let mut slow = Box::pin(responses(events.subscribe()));
    for number in 0..=BACKLOG {
        events.removed(&pod);
        assert!(keeps_up.next().await.unwrap().is_ok(), "{number}");
    }
    let error = slow.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    assert!(slow.next().await.is_none());
    events.0.lock().sender = None;
    assert!(keeps_up.next().await.is_none());
}
