//! What each state allows, as tables; and [`model`], which drives the states with random operations.

use pausa_monitor_protocol::ExitStatus;

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::sandbox::ops::{PodStep, Started, StopStep, next_pod_step};
use crate::sandbox::tests::{container_record, pod_record};

mod model;

/// A client that waits.
pub(super) type Client<T> = oneshot::Receiver<Result<T, PodError>>;

fn client<T>() -> (Answer<T>, Client<T>) {
    oneshot::channel()
}

/// What a client was answered; none: it still waits.
fn answered<T>(client: &mut Client<T>) -> Option<Result<T, PodError>> {
    match client.try_recv() {
        Ok(outcome) => Some(outcome),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => panic!("a client was dropped without an answer"),
    }
}

fn deliver(change: Change) {
    for (waiters, outcome) in change.answers {
        waiters.answer(&outcome);
    }
}

fn kind<T>(outcome: Option<Result<T, PodError>>) -> Option<Result<(), ErrorKind>> {
    outcome.map(|outcome| outcome.map(drop).map_err(|error| error.kind()))
}

fn pod() -> Lifecycle {
    let mut pod = Lifecycle::new(pod_record(v1::PodSandboxConfig::default()));
    pod.monitor = MonitorContact::Connected;
    pod
}

fn exit(code: i32) -> ExitStatus {
    ExitStatus {
        code,
        signal: 0,
        oom_killed: false,
        at: 2,
    }
}

const STARTED: Started = Started { pid: 7, at: 1 };

/// Asks for a start; whether it begins.
fn start(pod: &mut Lifecycle, id: &Id, answer: Answer<()>) -> bool {
    pod.start_container(id, answer);
    pod.advance_start(id).is_some()
}

/// A pod with one container in each phase, in this order: created, starting, running, exited, removing.
fn with_every_phase() -> (Lifecycle, Vec<Id>) {
    let mut pod = pod();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let record = container_record(&pod.record.id, v1::ContainerConfig::default());
        ids.push(record.id.clone());
        let created = ContainerPhase::created(None);
        pod.containers
            .insert(record.id.clone(), Container::new(record, created, Vec::new()));
    }
    for id in &ids[1..4] {
        let (answer, _) = client();
        assert!(start(&mut pod, id, answer));
    }
    for id in &ids[2..4] {
        deliver(pod.started(id, Ok(STARTED), 0));
    }
    deliver(pod.exited(&ids[3], exit(0)));
    let (answer, _) = client();
    pod.remove_container(&ids[4], answer);
    assert!(pod.advance_removal(&ids[4]));
    (pod, ids)
}

#[test]
fn a_container_starts_once() {
    let (mut pod, ids) = with_every_phase();
    let precondition = Some(Err(ErrorKind::FailedPrecondition));
    let expected = [
        (true, None),
        (false, None),
        (false, precondition),
        (false, precondition),
        (false, precondition),
    ];
    for (id, expected) in ids.iter().zip(expected) {
        let (answer, mut client) = client();
        let begins = start(&mut pod, id, answer);
        assert_eq!((begins, kind(answered(&mut client))), expected);
    }
}

#[test]
fn a_container_starts_in_a_ready_pod_only() {
    for desired in [Desired::Stopped, Desired::Removed] {
        let (mut pod, ids) = with_every_phase();
        pod.desired = desired;
        let (answer, mut client) = client();
        assert!(!start(&mut pod, &ids[0], answer));
        assert_eq!(
            kind(answered(&mut client)),
            Some(Err(ErrorKind::FailedPrecondition))
        );
    }
    let (mut pod, ids) = with_every_phase();
    deliver(pod.lose_readiness());
    let (answer, mut client) = client();
    assert!(!start(&mut pod, &ids[0], answer));
    assert_eq!(
        kind(answered(&mut client)),
        Some(Err(ErrorKind::FailedPrecondition))
    );
}

#[test]
fn only_what_runs_is_waited_for_by_a_stop() {
    let (mut pod, ids) = with_every_phase();
    let expected = [Some(Ok(())), None, None, Some(Ok(())), Some(Ok(()))];
    for (id, expected) in ids.iter().zip(expected) {
        let (answer, mut client) = client();
        pod.stop_container(id, Instant::now(), Duration::ZERO, answer);
        assert_eq!(kind(answered(&mut client)), expected);
    }
    let (answer, mut client) = client();
    pod.stop_container(&Id::random(), Instant::now(), Duration::ZERO, answer);
    assert_eq!(
        kind(answered(&mut client)),
        Some(Ok(())),
        "an unknown one is stopped"
    );
}

#[test]
fn a_stop_signals_then_kills_twice_then_reports() {
    let (mut pod, ids) = with_every_phase();
    let (running, start) = (&ids[2], Instant::now());
    let (answer, mut client) = client();
    pod.stop_container(running, start, Duration::from_secs(10), answer);
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(pod.advance_stop(running, at(0)), StopStep::Signal);
    assert_eq!(pod.advance_stop(running, at(9)), StopStep::Nothing);
    assert_eq!(pod.advance_stop(running, at(10)), StopStep::Kill);
    assert_eq!(pod.advance_stop(running, at(14)), StopStep::Nothing);
    assert_eq!(pod.advance_stop(running, at(15)), StopStep::KillDirectly);
    assert_eq!(pod.advance_stop(running, at(39)), StopStep::Nothing);
    let stuck = pod.advance_stop(running, at(40));
    assert_eq!(stuck, StopStep::ReportStuck(Duration::from_secs(30)));
    assert_eq!(kind(answered(&mut client)), None);
    pod.report_stuck(running, &PodError::Stopping);
    assert_eq!(kind(answered(&mut client)), Some(Err(ErrorKind::Unavailable)));
    deliver(pod.exited(running, exit(137)));
    assert_eq!(pod.advance_stop(running, at(99)), StopStep::Nothing);
}

#[test]
fn a_container_that_the_daemon_has_killed_has_ended() {
    let (mut pod, ids) = with_every_phase();
    let (running, start) = (&ids[2], Instant::now());
    let (answer, mut client) = client();
    pod.stop_container(running, start, Duration::ZERO, answer);
    deliver(pod.killed_directly(running, None, 9));
    assert_eq!(kind(answered(&mut client)), Some(Ok(())));
    match &pod.containers[running].record.run {
        RunState::Exited(exit) => assert_eq!(exit.code, 137),
        other => panic!("{other:?}"),
    }
    // The monitor's own report comes too late.
    assert!(pod.exited(running, exit(0)).containers.is_empty());
}

#[test]
fn a_later_stop_can_only_shorten_the_grace_period() {
    for (first, second) in [(10, 1), (1, 10)] {
        let (mut pod, ids) = with_every_phase();
        let start = Instant::now();
        for grace in [first, second] {
            let (answer, _) = client();
            pod.stop_container(&ids[2], start, Duration::from_secs(grace), answer);
        }
        assert_eq!(pod.advance_stop(&ids[2], start), StopStep::Signal);
        assert_eq!(
            pod.advance_stop(&ids[2], start + Duration::from_secs(1)),
            StopStep::Kill
        );
    }
}

#[test]
fn a_start_that_is_to_end_is_cancelled_again_and_again() {
    let (mut pod, ids) = with_every_phase();
    let (starting, start) = (&ids[1], Instant::now());
    let (answer, mut stop) = client();
    pod.stop_container(starting, start, Duration::ZERO, answer);
    assert_eq!(pod.advance_stop(starting, start), StopStep::CancelStart);
    assert_eq!(pod.advance_stop(starting, start), StopStep::Nothing);
    let later = start + CANCEL_INTERVAL;
    assert_eq!(pod.advance_stop(starting, later), StopStep::CancelStart);
    // It has begun to run all the same: the stop goes on.
    deliver(pod.started(starting, Ok(STARTED), 0));
    assert_eq!(pod.advance_stop(starting, later), StopStep::Kill);
    deliver(pod.exited(starting, exit(137)));
    assert_eq!(kind(answered(&mut stop)), Some(Ok(())));
}

#[test]
fn an_exit_before_the_start_was_answered_is_not_lost() {
    let (mut pod, ids) = with_every_phase();
    let (answer, mut client) = client();
    assert!(!start(&mut pod, &ids[1], answer));
    deliver(pod.exited(&ids[1], exit(3)));
    assert_eq!(kind(answered(&mut client)), None);
    deliver(pod.started(&ids[1], Ok(STARTED), 0));
    assert_eq!(kind(answered(&mut client)), Some(Ok(())));
    let RunState::Exited(info) = &pod.containers[&ids[1]].record.run else {
        panic!("it has exited");
    };
    assert_eq!((info.code, info.started_at), (3, 1));
}

#[test]
fn a_removal_stops_first_and_begins_once() {
    let (mut pod, ids) = with_every_phase();
    let now = Instant::now();
    let expected = [
        (StopStep::Nothing, true),
        (StopStep::CancelStart, false),
        (StopStep::Kill, false),
        (StopStep::Nothing, true),
        (StopStep::Nothing, false),
    ];
    for (id, expected) in ids.iter().zip(expected) {
        let (answer, _) = client();
        pod.remove_container(id, answer);
        let stop = pod.advance_stop(id, now);
        assert_eq!((stop, pod.advance_removal(id)), expected);
    }
    deliver(pod.exited(&ids[2], exit(137)));
    assert!(pod.advance_removal(&ids[2]));
    assert!(!pod.advance_removal(&ids[2]));
}

#[test]
fn a_removal_that_fails_leaves_the_container_to_be_removed_again() {
    let (mut pod, ids) = with_every_phase();
    deliver(pod.removed_container(&ids[4], Err(PodError::Stopping)));
    assert!(!pod.advance_removal(&ids[4]), "it has to be asked for again");
    let (answer, mut client) = client();
    pod.remove_container(&ids[4], answer);
    assert!(pod.advance_removal(&ids[4]));
    deliver(pod.removed_container(&ids[4], Ok(())));
    assert_eq!(kind(answered(&mut client)), Some(Ok(())));
    assert!(!pod.containers.contains_key(&ids[4]));
}

#[test]
fn updates_are_made_in_the_phases_that_can_have_them() {
    let (mut pod, ids) = with_every_phase();
    let change = Update::Change(Box::new(v1::LinuxContainerResources {
        cpu_shares: 512,
        ..Default::default()
    }));
    let precondition = Some(Err(ErrorKind::FailedPrecondition));
    // A container that is starting gets it once it runs.
    let expected = [
        (None, true),
        (None, false),
        (None, true),
        (precondition, false),
        (precondition, false),
    ];
    for (id, expected) in ids.iter().zip(expected) {
        let (waiter, mut client) = client();
        let update = change.clone();
        deliver(pod.update_resources(id, PendingUpdate { update, waiter }));
        let outcome = kind(answered(&mut client));
        assert_eq!((outcome, pod.advance_update(id).is_some()), expected);
    }
    let (waiter, mut first) = client();
    deliver(pod.updated_resources(&ids[0], &change, waiter, Ok(None)));
    assert_eq!(kind(answered(&mut first)), Some(Ok(())));
    assert_eq!(pod.containers[&ids[0]].record.resources.cpu_shares, 512);
    let (waiter, mut second) = client();
    let update = Update::Restore;
    deliver(pod.update_resources(&ids[2], PendingUpdate { update, waiter }));
    assert!(pod.advance_update(&ids[2]).is_none(), "one after the other");
    deliver(pod.exited(&ids[2], exit(0)));
    assert_eq!(kind(answered(&mut second)), precondition);
}

/// Its cgroup is made with the new resources, and its CPUs are there before it runs on them.
#[test]
fn a_start_and_a_removal_wait_for_a_change_of_resources() {
    let (mut pod, ids) = with_every_phase();
    let [id, ..] = ids.as_slice() else { panic!("five") };
    let update = |pod: &mut Lifecycle| {
        let (waiter, client) = client();
        let update = Update::Change(Box::default());
        deliver(pod.update_resources(id, PendingUpdate { update, waiter }));
        client
    };
    let (mut first, mut second) = (update(&mut pod), update(&mut pod));
    let PendingUpdate {
        update: change,
        waiter,
    } = pod.advance_update(id).expect("it begins");
    let (answer, mut started) = client();
    assert!(!start(&mut pod, id, answer));
    let (answer, mut removed) = client();
    pod.remove_container(id, answer);
    assert!(!pod.advance_removal(id));
    deliver(pod.updated_resources(id, &change, waiter, Ok(None)));
    assert_eq!(kind(answered(&mut first)), Some(Ok(())));

    // The removal comes first, and refuses what else is waiting.
    assert!(pod.advance_removal(id));
    assert!(pod.advance_start(id).is_none());
    let precondition = Some(Err(ErrorKind::FailedPrecondition));
    assert_eq!(kind(answered(&mut second)), precondition);
    assert_eq!(kind(answered(&mut started)), precondition);
    assert_eq!(kind(answered(&mut removed)), None);

    // Without one, the start begins.
    let (mut pod, ids) = with_every_phase();
    let (waiter, _client) = client();
    let update = Update::Change(Box::default());
    deliver(pod.update_resources(&ids[0], PendingUpdate { update, waiter }));
    let (answer, _client) = client();
    assert!(!start(&mut pod, &ids[0], answer), "the change has not begun");
    let PendingUpdate { update, waiter } = pod.advance_update(&ids[0]).expect("it begins");
    assert!(pod.advance_start(&ids[0]).is_none());
    deliver(pod.updated_resources(&ids[0], &update, waiter, Ok(None)));
    assert!(pod.advance_start(&ids[0]).is_some());
}

#[test]
fn a_pod_is_torn_down_when_nothing_of_it_is_busy() {
    let (mut pod, ids) = with_every_phase();
    pod.desired = Desired::Removed;
    assert_eq!(next_pod_step(&pod), PodStep::Nothing);
    deliver(pod.started(&ids[1], Err(PodError::Stopping), 0));
    deliver(pod.exited(&ids[2], exit(0)));
    assert_eq!(next_pod_step(&pod), PodStep::Nothing, "one is being removed");
    deliver(pod.removed_container(&ids[4], Ok(())));
    assert_eq!(next_pod_step(&pod), PodStep::TearDown);
    pod.enter(PodPhase::TearingDown);
    assert_eq!(next_pod_step(&pod), PodStep::Nothing);
    deliver(pod.torn_down(Ok(())));
    assert_eq!(
        next_pod_step(&pod),
        PodStep::Nothing,
        "its containers are still there"
    );
    for id in &ids[..4] {
        assert!(pod.advance_removal(id));
        deliver(pod.removed_container(id, Ok(())));
    }
    assert_eq!(next_pod_step(&pod), PodStep::Forget);
}

#[test]
fn a_network_that_cannot_be_detached_is_reported_once() {
    let mut pod = pod();
    let ((answer, mut stop), (again, mut second)) = (client(), client());
    pod.want_stopped(answer);
    assert_eq!(next_pod_step(&pod), PodStep::TearDown);
    pod.enter(PodPhase::TearingDown);
    deliver(pod.torn_down(Err(PodError::Stopping)));
    assert!(pod.record.pending_detach);
    assert_eq!(kind(answered(&mut stop)), Some(Err(ErrorKind::Unavailable)));
    // The actor hands it to the background task.
    pod.record_mut().pending_detach = false;
    pod.want_stopped(again);
    assert_eq!(next_pod_step(&pod), PodStep::ReportStopped);
    pod.stop_waiters.take().answer(&Ok(()));
    assert_eq!(kind(answered(&mut second)), Some(Ok(())));
}

#[test]
fn readers_do_not_see_a_pod_that_is_being_created() {
    let mut record = pod_record(v1::PodSandboxConfig::default());
    record.state = PodState::Creating;
    let mut pod = Lifecycle::new(record);
    assert!(pod.view().is_none());
    assert_eq!(next_pod_step(&pod), PodStep::Nothing);
    let (answer, mut ready) = client();
    pod.await_ready(answer);
    pod.created(None, 7);
    assert!(pod.view().is_some());
    pod.ready_waiters.take().answer(&Ok(()));
    assert_eq!(kind(answered(&mut ready)), Some(Ok(())));
}
