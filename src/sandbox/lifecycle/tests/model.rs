//! Random requests, monitor events, failures and restarts, on a pod whose kernel, disk and monitor are values.
//!
//! The world does what the actor does, with the same functions: it takes a request, commits the change (save, then answer),
//! and begins what is due. Work is a list of what is under way; its outcomes come in any order, or fail. After a restart of the
//! daemon, requests wait until the monitor is greeted, while processes and the monitor itself may end. At every step the
//! invariants of the lifecycle are checked, and that what readers see never goes back; in the end everything can be removed,
//! and nobody was left without an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pausa_monitor_protocol::{ContainerReport, ProcessState};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::sandbox::ops::CreateFailure;
use crate::sandbox::recover;

/// What a client or the world does next.
#[derive(Debug, Clone)]
enum Action {
    AwaitReady,
    Create(u8),
    Start(Index),
    Stop(Index, u64),
    Remove(Index),
    Update(Index),
    StopPod,
    RemovePod,
    /// Some work under way ends.
    Complete(Index, bool),
    /// The monitor's next event arrives.
    Event,
    /// A process ends by itself.
    Exit(Index),
    /// A process ignores its stop signal from now on.
    Ignore(Index),
    PauseExit,
    MonitorDies,
    Wait(u64),
    /// The daemon dies and is started again.
    Restart,
    Reboot,
    /// The monitor answers the new daemon, or is found to be gone.
    Greet,
}

impl Action {
    /// Whether it goes through the actor's queue.
    fn is_request(&self) -> bool {
        matches!(
            self,
            Self::AwaitReady
                | Self::Create(_)
                | Self::Start(_)
                | Self::Stop(..)
                | Self::Remove(_)
                | Self::Update(_)
                | Self::StopPod
                | Self::RemovePod
        )
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let any = any::<Index>;
    let action = prop_oneof![
        2 => Just(Action::AwaitReady),
        8 => (0..3u8).prop_map(Action::Create),
        8 => any().prop_map(Action::Start),
        4 => (any(), 0..20u64).prop_map(|(index, grace)| Action::Stop(index, grace)),
        4 => any().prop_map(Action::Remove),
        4 => any().prop_map(Action::Update),
        1 => Just(Action::StopPod),
        1 => Just(Action::RemovePod),
        24 => (any(), prop::bool::weighted(0.85)).prop_map(|(index, ok)| Action::Complete(index, ok)),
        12 => Just(Action::Event),
        4 => any().prop_map(Action::Exit),
        2 => any().prop_map(Action::Ignore),
        1 => Just(Action::PauseExit),
        1 => Just(Action::MonitorDies),
        6 => (0..40u64).prop_map(Action::Wait),
        2 => Just(Action::Restart),
        1 => Just(Action::Reboot),
        6 => Just(Action::Greet),
    ];
    prop::collection::vec(action, 1..120)
}

/// Work under way.
#[derive(Debug)]
enum Work {
    CreatePod,
    Create(ContainerName, Box<v1::ContainerConfig>),
    Start(Id),
    Update(Id, Update, Answer<()>),
    Remove(Id),
    TearDown,
    Forget,
}

impl Work {
    fn container(&self) -> Option<&Id> {
        match self {
            Self::Start(id) | Self::Update(id, ..) | Self::Remove(id) => Some(id),
            _ => None,
        }
    }
}

/// A container's first process, as the monitor has it.
#[derive(Debug, Clone, Copy)]
struct Process {
    state: ProcessState,
    ignores_signals: bool,
}

#[derive(Debug, Clone)]
enum Event {
    Started(Id),
    StartFailed(Id),
    Exited(Id),
    PauseExited,
}

/// The pod's monitor. It outlives the daemon.
#[derive(Debug, Default)]
struct Monitor {
    processes: BTreeMap<Id, Process>,
    events: VecDeque<Event>,
}

/// A daemon that was started and has not greeted the monitor yet.
#[derive(Debug)]
struct Greeting {
    unfinished: bool,
    this_boot: bool,
    /// What is asked of the pod meanwhile.
    waiting: Vec<Action>,
}

#[derive(Debug)]
struct World {
    pod: Lifecycle,
    greeting: Option<Greeting>,
    /// How far the pod and its containers had come when they were last seen.
    seen: (u8, BTreeMap<Id, u8>),
    work: Vec<Work>,
    monitor: Option<Monitor>,
    /// What was saved; none once the pod is forgotten.
    disk: Option<PodRecord>,
    containers: BTreeMap<Id, ContainerRecord>,
    clients: Vec<Client<()>>,
    creators: Vec<Client<Id>>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut record = pod_record(v1::PodSandboxConfig::default());
        record.state = PodState::Creating;
        record.monitor_cgroup = true;
        Self {
            disk: Some(record.clone()),
            pod: Lifecycle::new(record),
            greeting: None,
            seen: (0, BTreeMap::new()),
            work: vec![Work::CreatePod],
            monitor: None,
            containers: BTreeMap::new(),
            clients: Vec::new(),
            creators: Vec::new(),
            now: Instant::now(),
        }
    }

    fn pick(&self, index: Index) -> Option<Id> {
        let ids: Vec<&Id> = self.pod.containers.keys().collect();
        (!ids.is_empty()).then(|| (*index.get(&ids)).clone())
    }

    fn client(&mut self) -> Answer<()> {
        let (answer, client) = client();
        self.clients.push(client);
        answer
    }

    /// Saves, then answers, as the actor does.
    fn commit(&mut self, change: Change) {
        for id in &change.containers {
            if let Some(container) = self.pod.containers.get(id) {
                self.containers.insert(id.clone(), (*container.record).clone());
            }
        }
        if change.pod {
            self.disk = Some((*self.pod.record).clone());
        }
        deliver(change);
    }

    fn act(&mut self, action: &Action) {
        if self.pod.phase() == PodPhase::Forgotten {
            return;
        }
        if let Some(greeting) = self.greeting.as_mut().filter(|_| action.is_request()) {
            greeting.waiting.push(action.clone());
            return;
        }
        match *action {
            Action::AwaitReady => {
                let (answer, _) = client();
                self.pod.await_ready(answer);
            }
            Action::Create(number) => self.create(number),
            Action::Start(index) => {
                if let Some(id) = self.pick(index) {
                    let answer = self.client();
                    self.pod.start_container(&id, answer);
                }
            }
            Action::Stop(index, grace) => {
                if let Some(id) = self.pick(index) {
                    let answer = self.client();
                    let grace = Duration::from_secs(grace);
                    self.pod.stop_container(&id, self.now, grace, answer);
                }
            }
            Action::Remove(index) => {
                if let Some(id) = self.pick(index) {
                    let answer = self.client();
                    self.pod.remove_container(&id, answer);
                }
            }
            Action::Update(index) => {
                if let Some(id) = self.pick(index) {
                    let waiter = self.client();
                    let update = Update::Change(Box::default());
                    let change = self.pod.update_resources(&id, PendingUpdate { update, waiter });
                    self.commit(change);
                }
            }
            Action::StopPod => {
                let answer = self.client();
                self.pod.want_stopped(answer);
            }
            Action::RemovePod => {
                let answer = self.client();
                self.pod.want_removed(answer);
            }
            Action::Complete(index, ok) if !self.work.is_empty() => {
                let work = self.work.swap_remove(index.index(self.work.len()));
                self.complete(work, ok);
            }
            Action::Event => self.event(),
            Action::Exit(index) => {
                if let Some(id) = self.pick(index) {
                    self.exit(&id);
                }
            }
            Action::Ignore(index) => {
                let id = self.pick(index);
                let process = id.and_then(|id| self.monitor.as_mut()?.processes.get_mut(&id));
                if let Some(process) = process {
                    process.ignores_signals = true;
                }
            }
            Action::PauseExit => {
                if let Some(monitor) = &mut self.monitor {
                    monitor.events.push_back(Event::PauseExited);
                }
            }
            Action::MonitorDies => self.lose_monitor(),
            Action::Wait(seconds) => self.now += Duration::from_secs(seconds),
            Action::Restart => self.restart(true),
            Action::Reboot => self.restart(false),
            Action::Greet => {
                for request in self.greet() {
                    self.act(&request);
                }
            }
            Action::Complete(..) => {}
        }
        if self.greeting.is_none() {
            self.advance();
        }
        self.check();
    }

    fn create(&mut self, number: u8) {
        let name = (number.to_string(), 0);
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: name.0.clone(),
                attempt: 0,
            }),
            ..Default::default()
        };
        let (answer, client) = client();
        self.creators.push(client);
        if self.pod.create_container(&name, &config, answer) {
            self.work.push(Work::Create(name, Box::new(config)));
        }
    }

    fn complete(&mut self, work: Work, ok: bool) {
        let failed = || PodError::TimedOut {
            what: "the model".into(),
            seconds: 0,
            detail: "this fails".into(),
        };
        let outcome = || if ok { Ok(()) } else { Err(failed()) };
        match work {
            Work::CreatePod if ok => {
                self.monitor = Some(Monitor::default());
                self.pod.created(None, 7);
                self.commit(Change::pod());
                self.pod.ready_waiters.take().answer(&Ok(()));
            }
            Work::CreatePod => {
                let change = self.pod.creation_failed(CreateFailure {
                    error: failed(),
                    attached: false,
                });
                self.pod.record_mut().monitor_cgroup = false;
                self.commit(change);
            }
            Work::Create(name, config) => {
                let pending = self.pod.creating.remove(&name).expect("it is being created");
                let outcome = outcome().map(|()| {
                    let record = container_record(&self.pod.record.id, *config);
                    let id = record.id.clone();
                    self.containers.insert(id.clone(), record.clone());
                    let created = ContainerPhase::created(None);
                    let container = Container::new(record, created, Vec::new());
                    self.pod.containers.insert(id.clone(), container);
                    id
                });
                pending.waiters.answer(&outcome);
            }
            Work::Start(id) => {
                let ok = ok && self.monitor.is_some();
                if let Some(monitor) = self.monitor.as_mut().filter(|_| ok) {
                    monitor.processes.insert(
                        id.clone(),
                        Process {
                            state: ProcessState::Running,
                            ignores_signals: false,
                        },
                    );
                }
                let outcome = if ok { Ok(STARTED) } else { Err(failed()) };
                let change = self.pod.started(&id, outcome, 3);
                self.commit(change);
            }
            Work::Update(id, update, waiter) => {
                let change = self
                    .pod
                    .updated_resources(&id, &update, waiter, outcome().map(|()| None));
                self.commit(change);
            }
            Work::Remove(id) => {
                if ok {
                    if let Some(monitor) = &mut self.monitor {
                        let process = monitor.processes.remove(&id);
                        let runs = process.is_some_and(|process| process.state == ProcessState::Running);
                        assert!(!runs, "a running container was removed");
                    }
                    self.containers.remove(&id);
                }
                let change = self.pod.removed_container(&id, outcome());
                self.commit(change);
            }
            Work::TearDown => {
                self.monitor = None;
                let change = self.pod.torn_down(outcome());
                self.commit(change);
                self.pod.record_mut().pending_detach = false;
            }
            Work::Forget => {
                if ok {
                    self.disk = None;
                }
                let change = self.pod.forgotten(outcome());
                self.commit(change);
            }
        }
    }

    fn event(&mut self) {
        if self.greeting.is_some() {
            // Nobody listens; the greeting tells.
            return;
        }
        let event = self
            .monitor
            .as_mut()
            .and_then(|monitor| monitor.events.pop_front());
        match event {
            Some(Event::Started(id)) if self.pod.awaits_start_event(&id) => {
                let change = self.pod.started(&id, Ok(STARTED), 3);
                self.commit(change);
            }
            Some(Event::StartFailed(id)) if self.pod.awaits_start_event(&id) => {
                let change = self.pod.started(&id, Err(PodError::Stopping), 3);
                self.commit(change);
            }
            Some(Event::Exited(id)) => {
                let change = self.pod.exited(&id, exit(0));
                self.commit(change);
            }
            Some(Event::PauseExited) => {
                let change = self.pod.lose_readiness();
                self.commit(change);
            }
            Some(Event::Started(_) | Event::StartFailed(_)) | None => {}
        }
    }

    /// A process ends, if it runs; the monitor tells.
    fn exit(&mut self, id: &Id) {
        let Some(monitor) = &mut self.monitor else { return };
        let Some(process) = monitor.processes.get_mut(id) else {
            return;
        };
        match process.state {
            ProcessState::Running => {
                process.state = ProcessState::Exited(exit(0));
                monitor.events.push_back(Event::Exited(id.clone()));
            }
            ProcessState::Starting => {
                monitor.processes.remove(id);
                monitor.events.push_back(Event::StartFailed(id.clone()));
            }
            ProcessState::Exited(_) => {}
        }
    }

    fn lose_monitor(&mut self) {
        if self.monitor.take().is_none()
            || self.greeting.is_some()
            || self.pod.phase() == PodPhase::TearingDown
            || self.pod.monitor == MonitorContact::None
        {
            return;
        }
        self.pod.monitor = MonitorContact::None;
        let ids: Vec<Id> = self.pod.containers.keys().cloned().collect();
        for id in ids {
            let change = self.pod.lost_container(&id, None, 3, "the monitor died");
            self.commit(change);
            if self.pod.awaits_start_event(&id) {
                let change = self.pod.started(&id, Err(PodError::Stopping), 3);
                self.commit(change);
            }
        }
        let change = self.pod.lose_readiness();
        self.commit(change);
    }

    /// The daemon is killed, or the machine is restarted. What was under way may or may not have happened.
    fn restart(&mut self, this_boot: bool) {
        if !this_boot {
            self.monitor = None;
        }
        for (number, work) in std::mem::take(&mut self.work).into_iter().enumerate() {
            match work {
                Work::CreatePod => self.monitor = None,
                // The monitor goes on with it, if it has heard of it.
                Work::Start(id) if number % 2 == 0 => {
                    if let Some(monitor) = &mut self.monitor {
                        let state = ProcessState::Starting;
                        let process = Process {
                            state,
                            ignores_signals: false,
                        };
                        monitor.processes.insert(id, process);
                    }
                }
                Work::Remove(id) if number % 2 == 0 => {
                    self.containers.remove(&id);
                    if let Some(monitor) = &mut self.monitor {
                        monitor.processes.remove(&id);
                    }
                }
                Work::TearDown if number % 2 == 0 => self.monitor = None,
                _ => {}
            }
        }
        // Its clients are gone with the connection.
        self.clients.clear();
        self.creators.clear();
        let Some(mut record) = self.disk.clone() else {
            return;
        };
        let unfinished = record.state == PodState::Creating;
        if !this_boot {
            record.monitor_cgroup = false;
        }
        if unfinished || !this_boot {
            record.state = PodState::NotReady;
        }
        self.pod = Lifecycle::new(record);
        for record in self.containers.clone().into_values() {
            let id = record.id.clone();
            let (record, phase) = recover::recovered(record, None, this_boot, 3);
            let container = Container::new(record, phase, Vec::new());
            self.pod.containers.insert(id, container);
        }
        if !this_boot && !unfinished {
            let change = self.pod.recovered(this_boot);
            self.commit(change);
        }
        self.greeting = Some(Greeting {
            unfinished,
            this_boot,
            waiting: Vec::new(),
        });
    }

    /// The monitor is greeted, or found to be gone. Returns what has waited for that.
    fn greet(&mut self) -> Vec<Action> {
        let Some(greeting) = self.greeting.take() else {
            return Vec::new();
        };
        let ids: Vec<Id> = self.pod.containers.keys().cloned().collect();
        if let Some(monitor) = &mut self.monitor {
            // Of what has happened before, the greeting tells.
            monitor.events.clear();
            let processes = monitor.processes.clone();
            self.pod.monitor = MonitorContact::Connected;
            for id in ids {
                let change = match processes.get(&id) {
                    Some(process) => {
                        let report = ContainerReport {
                            container: id.to_string(),
                            pid: 7,
                            started_at: 1,
                            state: process.state,
                        };
                        self.pod.reported(&id, &report, 3)
                    }
                    None => self.pod.lost_container(&id, None, 3, "the monitor died"),
                };
                self.commit(change);
            }
        } else if greeting.this_boot && !greeting.unfinished {
            let change = self.pod.lose_readiness();
            self.commit(change);
            for id in ids {
                let change = self.pod.lost_container(&id, None, 3, "the monitor died");
                self.commit(change);
            }
        }
        if greeting.unfinished {
            self.pod.desired = Desired::Removed;
        }
        // A start that goes on ends after the greeting.
        if let Some(monitor) = &mut self.monitor {
            for (id, process) in &mut monitor.processes {
                if process.state == ProcessState::Starting {
                    process.state = ProcessState::Running;
                    monitor.events.push_back(Event::Started(id.clone()));
                }
            }
        }
        greeting.waiting
    }

    /// Begins what is due, as the actor does.
    fn advance(&mut self) {
        let ids: Vec<Id> = self.pod.containers.keys().cloned().collect();
        for id in ids {
            match self.pod.advance_stop(&id, self.now) {
                StopStep::Nothing => {}
                StopStep::Signal | StopStep::CancelStart => {
                    let processes = self.monitor.as_ref().map(|monitor| &monitor.processes);
                    let process = processes.and_then(|processes| processes.get(&id));
                    if process.is_some_and(|process| !process.ignores_signals) {
                        self.exit(&id);
                    }
                }
                StopStep::Kill | StopStep::KillDirectly => self.exit(&id),
                StopStep::ReportStuck(_) => {
                    self.pod.report_stuck(&id, &PodError::Stopping);
                    self.exit(&id);
                }
            }
            if self.pod.advance_removal(&id) {
                self.work.push(Work::Remove(id.clone()));
            }
            if let Some(PendingUpdate { update, waiter }) = self.pod.advance_update(&id) {
                self.work.push(Work::Update(id.clone(), update, waiter));
            }
            if self.pod.advance_start(&id).is_some() {
                self.work.push(Work::Start(id));
            }
        }
        if self.pod.desired != Desired::Removed && self.pod.phase() == PodPhase::NotReady {
            let stays = self.pod.not_ready("");
            self.pod.ready_waiters.take().answer(&Err(stays));
        }
        loop {
            match next_pod_step(&self.pod) {
                PodStep::Nothing => return,
                PodStep::TearDown => {
                    self.pod.enter(PodPhase::TearingDown);
                    self.work.push(Work::TearDown);
                }
                PodStep::ReportStopped => self.pod.stop_waiters.take().answer(&Ok(())),
                PodStep::Forget => {
                    self.pod.enter(PodPhase::Forgetting);
                    self.work.push(Work::Forget);
                }
            }
        }
    }

    fn check(&mut self) {
        self.check_readers();
        let mut busy = BTreeSet::new();
        for id in self.work.iter().filter_map(Work::container) {
            let exited = self.pod.containers.get(id).is_some_and(|container| {
                // An update may still be under way when its container ends; it comes to nothing.
                !matches!(container.phase, ContainerPhase::Running(_))
            });
            let updates = |work: &Work| matches!(work, Work::Update(of, ..) if of == id);
            assert!(
                busy.insert(id) || exited && self.work.iter().any(updates),
                "two pieces of work on one container"
            );
        }
        for (id, container) in &self.pod.containers {
            let fits = matches!(
                (&container.phase, &container.record.run),
                (
                    ContainerPhase::Created { .. } | ContainerPhase::Starting(_),
                    RunState::Created
                ) | (ContainerPhase::Running(_), RunState::Running { .. })
                    | (ContainerPhase::Exited, RunState::Exited(_))
                    | (ContainerPhase::Removing, RunState::Created | RunState::Exited(_))
            );
            assert!(fits, "{:?} with {:?}", container.phase, container.record.run);
            assert_eq!(
                self.containers.get(id),
                Some(&*container.record),
                "a state was shown that was not saved"
            );
        }
        // A daemon that has not greeted the monitor does not know of all of them.
        let known = self.monitor.iter().filter(|_| self.greeting.is_none());
        let processes = known.flat_map(|monitor| &monitor.processes);
        for (id, _) in processes.filter(|(_, process)| process.state == ProcessState::Running) {
            let known = self.pod.containers.get(id);
            let active = known.is_some_and(Container::is_active);
            assert!(
                active,
                "a process runs in a container that is not running: {known:?}"
            );
        }
        let pod_work = |work: &&Work| matches!(work, Work::CreatePod | Work::TearDown | Work::Forget);
        let expected = usize::from(matches!(
            self.pod.phase(),
            PodPhase::Creating | PodPhase::TearingDown | PodPhase::Forgetting
        ));
        assert_eq!(self.work.iter().filter(pod_work).count(), expected);
    }

    /// Nothing that readers have seen is taken back, whatever restarts in between.
    fn check_readers(&mut self) {
        let Some(view) = self.pod.view() else { return };
        let pod = match view.pod.state {
            PodState::Creating => 0,
            PodState::Ready => 1,
            PodState::NotReady => 2,
        };
        let containers = view.containers.iter().map(|(id, record)| {
            let rank = match record.run {
                RunState::Created => 0,
                RunState::Running { .. } => 1,
                RunState::Exited(_) => 2,
            };
            (id.clone(), rank)
        });
        let containers: BTreeMap<Id, u8> = containers.collect();
        let (seen, seen_containers) = std::mem::replace(&mut self.seen, (pod, containers));
        assert!(pod >= seen, "a pod that was not ready is ready again");
        for (id, rank) in &self.seen.1 {
            let before = seen_containers.get(id).unwrap_or(rank);
            assert!(rank >= before, "a container is seen in an earlier state");
        }
    }

    /// Lets everything that is under way end well.
    fn settle(&mut self) {
        self.act(&Action::Greet);
        for _ in 0..1000 {
            let events = self.monitor.as_ref().map_or(0, |monitor| monitor.events.len());
            if self.work.is_empty() && events == 0 && self.pod.wake_at().is_none() {
                return;
            }
            if !self.work.is_empty() {
                let work = self.work.remove(0);
                self.complete(work, true);
            }
            self.event();
            self.now += Duration::from_secs(5);
            if self.pod.phase() != PodPhase::Forgotten {
                self.advance();
            }
        }
        panic!("it does not come to rest: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_stuck(actions in actions()) {
        let mut world = World::new();
        for action in &actions {
            world.act(action);
        }
        world.settle();
        if world.pod.phase() != PodPhase::Forgotten {
            world.act(&Action::RemovePod);
            world.settle();
        }
        prop_assert_eq!(world.pod.phase(), PodPhase::Forgotten);
        prop_assert!(world.disk.is_none() && world.containers.is_empty() && world.monitor.is_none());
        for mut client in world.clients {
            prop_assert!(client.try_recv().is_ok(), "no answer");
        }
        for mut client in world.creators {
            prop_assert!(client.try_recv().is_ok(), "no answer");
        }
    }
}
