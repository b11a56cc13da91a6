//! Who gets which CPUs, without a kernel.

use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;

use super::fixtures::Machine;
use super::*;
use crate::cgroups::{Driver, Layout};
use crate::config::CgroupDriver;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

fn asks(cpus: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_quota: cpus * 100_000,
        cpu_shares: cpus * 1024,
        ..LinuxContainerResources::default()
    }
}

fn guaranteed(resources: &LinuxContainerResources) -> Claim<'_> {
    Claim {
        class: QosClass::Guaranteed,
        resources,
    }
}

fn state(reserved: &str) -> State {
    State {
        topology: Machine::xeon().topology(),
        reserved: set(reserved),
        active: true,
        holders: BTreeMap::new(),
    }
}

fn holder(place: Place) -> Holder {
    Holder {
        owner: Owner {
            namespace: "ns".to_owned(),
            pod: "pod".to_owned(),
            container: "main".to_owned(),
        },
        cgroup: CgroupPath::new(Driver::Cgroupfs, "/kubepods/pod1", "c1").unwrap(),
        place,
        changing: CpuSet::default(),
    }
}

#[test]
fn only_whole_cpus_of_guaranteed_pods_are_pinned() {
    let state = state("");
    let decide = |class, resources: &LinuxContainerResources, pinning| {
        let claim = Claim { class, resources };
        state.decide(&Id::random(), claim, pinning, None).unwrap()
    };
    let (two, fixed) = (CpuPinning::Static, CpuPinning::None);
    assert!(matches!(decide(QosClass::Guaranteed, &asks(2), two), Place::Pinned(cpus) if cpus.len() == 2));
    assert_eq!(decide(QosClass::Burstable, &asks(2), two), Place::Pool);
    assert_eq!(decide(QosClass::BestEffort, &asks(2), two), Place::Pool);
    assert_eq!(decide(QosClass::Guaranteed, &asks(2), fixed), Place::Pool);
    let half = LinuxContainerResources {
        cpu_quota: 150_000,
        ..asks(2)
    };
    assert_eq!(decide(QosClass::Guaranteed, &half, two), Place::Pool);
    let given = LinuxContainerResources {
        cpuset_cpus: "3".to_owned(),
        ..asks(2)
    };
    // On v2, what the container gets.
    let unified = LinuxContainerResources {
        unified: [("cpuset.cpus".to_owned(), "3".to_owned())].into(),
        ..asks(2)
    };
    for asked in [given, unified] {
        for pinning in [two, fixed] {
            assert_eq!(
                decide(QosClass::Guaranteed, &asked, pinning),
                Place::Given(set("3"))
            );
        }
    }
}

#[test]
fn reserved_given_and_pinned_cpus_and_those_of_a_change_are_not_free() {
    let mut state = state("0-1");
    let all = state.topology.cpus().clone();
    let pinned = holder(Place::Pinned(set("4,6")));
    let given = holder(Place::Given(set("8")));
    let changing = Holder {
        changing: set("10,12"),
        ..holder(Place::Pool)
    };
    let pinned_id = Id::random();
    state.holders.insert(pinned_id.clone(), pinned);
    state.holders.insert(Id::random(), given);
    state.holders.insert(Id::random(), changing);
    let taken = set("0-1,4,6,8,10,12");
    assert_eq!(state.free(&Id::random()), all.difference(&taken));
    assert_eq!(state.free(&pinned_id), all.difference(&set("0-1,8,10,12")));
    assert_eq!(
        state.pool(),
        all.difference(&set("4,6,10,12")),
        "reserved and given CPUs are shared"
    );
}

#[test]
fn a_shortage_says_who_has_the_cpus() {
    let mut state = state("0");
    let all = state.topology.cpus().len();
    state
        .holders
        .insert(Id::random(), holder(Place::Pinned(set("4,6"))));
    let wanted = asks(i64::try_from(all).unwrap());
    let refused = state.decide(&Id::random(), guaranteed(&wanted), CpuPinning::Static, None);
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let text = error.to_string();
    assert!(
        text.contains("ns/pod/main 4,6") && text.contains("reserved 0"),
        "{text}"
    );
    // The cpuset above counts, too.
    let two = asks(2);
    let allowed = set("4,6,8");
    let refused = state.decide(
        &Id::random(),
        guaranteed(&two),
        CpuPinning::Static,
        Some(&allowed),
    );
    let error = refused.unwrap_err();
    assert!(matches!(&error, CpuError::Shortage { wanted: 2, free, .. } if *free == set("8")));
    let text = error.to_string();
    assert!(
        text.contains("1 (8) can be given; the cgroup above it has only 4,6,8;"),
        "{text}"
    );
}

/// Monitors and everybody else have to run somewhere.
#[test]
fn the_pool_is_never_empty() {
    let mut state = State {
        topology: Machine::vm().topology(),
        ..state("")
    };
    let decide = |state: &State, cpus| {
        let wanted = asks(cpus);
        state.decide(&Id::random(), guaranteed(&wanted), CpuPinning::Static, None)
    };
    assert!(matches!(decide(&state, 8), Err(CpuError::Shortage { free, .. }) if free.len() == 7));
    assert!(matches!(decide(&state, 7), Ok(Place::Pinned(_))));
    let pinned = holder(Place::Pinned(set("1-7")));
    state.holders.insert(Id::random(), pinned);
    assert!(matches!(decide(&state, 1), Err(CpuError::Shortage { free, .. }) if free.is_empty()));
    // The last shared CPU goes offline.
    state.topology = state.topology.restricted_to(&set("1-7"));
    assert_eq!(state.pool(), set("1-7"));
}

#[test]
fn a_wrong_cpuset_is_refused() {
    let wrong = LinuxContainerResources {
        cpuset_cpus: "1-x".to_owned(),
        ..LinuxContainerResources::default()
    };
    let refused = state("").decide(&Id::random(), guaranteed(&wrong), CpuPinning::None, None);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// What happens to the table of holders.
#[derive(Debug, Clone)]
enum Step {
    Seat(i64),
    Resize(Index, i64),
    /// The kernel takes the last resize, or refuses it.
    Settle(Index, bool),
    Leave(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = any::<Index>;
    let step = prop_oneof![
        4 => (0..9i64).prop_map(Step::Seat),
        4 => (any(), 0..9i64).prop_map(|(index, cpus)| Step::Resize(index, cpus)),
        4 => (any(), prop::bool::ANY).prop_map(|(index, taken)| Step::Settle(index, taken)),
        2 => any().prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// At every step, during changes and after those that were taken back: no CPU has two owners, none of them is in the
    /// pool, and none is lost.
    #[test]
    fn no_cpu_has_two_owners(steps in steps()) {
        let cgroups = Arc::new(Cgroups::new(CgroupDriver::Cgroupfs).unwrap());
        let config = config::Cpu {
            pinning: CpuPinning::Static,
            ..config::Cpu::default()
        };
        let cpus = Cpus::open(&config, cgroups, Path::new("/nonexistent")).unwrap();
        *cpus.state.lock() = state("0");
        let all = cpus.state.lock().topology.cpus().clone();
        let mut seats: Vec<(Seat, Vec<Change>)> = Vec::new();
        for step in steps {
            match step {
                Step::Seat(count) => {
                    let (id, wanted) = (Id::random(), asks(count));
                    let Holder { owner, cgroup, .. } = holder(Place::Pool);
                    let mut state = cpus.state.lock();
                    let place = cpus.decide(&state, &id, guaranteed(&wanted), None).unwrap();
                    let seat = cpus.enter(&mut state, &id, owner, cgroup, place);
                    drop(state);
                    seats.push((seat, Vec::new()));
                }
                // One change of a container at a time, as the actor has it.
                Step::Resize(index, count) if !seats.is_empty() => {
                    let (seat, changes) = index.get_mut(&mut seats);
                    if changes.is_empty() {
                        let wanted = asks(count);
                        let change = cpus.begin_change(&seat.id, guaranteed(&wanted), None);
                        changes.push(change.unwrap());
                    }
                }
                Step::Settle(index, taken) if !seats.is_empty() => {
                    let (_, changes) = index.get_mut(&mut seats);
                    match changes.pop() {
                        Some(change) if taken => change.settle(),
                        _ => {}
                    }
                }
                Step::Leave(index) if !seats.is_empty() => {
                    let place = index.index(seats.len());
                    let (seat, changes) = seats.swap_remove(place);
                    drop(changes);
                    drop(seat);
                }
                _ => {}
            }
            let state = cpus.state.lock().clone();
            let mut seen = CpuSet::default();
            for holder in state.holders.values() {
                let own = holder.owned();
                prop_assert!(seen.intersection(&own).is_empty(), "{seen} and {own}");
                prop_assert!(!own.contains(0), "reserved");
                seen = seen.union(&own);
            }
            prop_assert_eq!(state.pool(), all.difference(&seen));
        }
        drop(seats);
        prop_assert_eq!(cpus.state.lock().pool(), all);
    }
}

/// A node of eight CPUs on a directory that looks like a cgroup2 file system, with the cgroups of some containers and with
/// interrupts.
struct Node {
    dir: tempfile::TempDir,
    cgroups: Arc<Cgroups>,
    config: config::Cpu,
}

impl Node {
    fn new(containers: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in containers {
            let cgroup = dir.path().join("kubepods/pod1").join(name);
            fs::create_dir_all(&cgroup).unwrap();
            fs::write(cgroup.join("cpuset.cpus"), "").unwrap();
        }
        let layout = Layout::V2 {
            mount_point: dir.path().to_path_buf(),
            flags: Vec::new(),
        };
        Self {
            cgroups: Arc::new(Cgroups::with(Driver::Cgroupfs, layout).unwrap()),
            dir,
            config: config::Cpu {
                pinning: CpuPinning::Static,
                ..config::Cpu::default()
            },
        }
    }

    fn cpus(&self) -> Arc<Cpus> {
        let mut cpus = Cpus::open(&self.config, Arc::clone(&self.cgroups), self.dir.path()).unwrap();
        let opened = Arc::get_mut(&mut cpus).unwrap();
        let saved = self.dir.path().join("interrupts.json");
        opened.interrupts = Arc::new(Interrupts::new(&self.dir.path().join("irq"), saved));
        opened.written.get_mut().pool = set("0-7");
        opened.state.get_mut().topology = Machine::vm().topology();
        cpus
    }

    fn path(name: &str) -> CgroupPath {
        CgroupPath::new(Driver::Cgroupfs, "/kubepods/pod1", name).unwrap()
    }

    async fn seat(cpus: &Arc<Cpus>, name: &str, asked: &LinuxContainerResources) -> Seat {
        let id = Id::random();
        let seat = cpus.seat(&id, Owner::default(), Self::path(name), guaranteed(asked));
        seat.await.unwrap()
    }

    fn cgroup(&self, name: &str) -> Cgroup {
        self.cgroups.open(&Self::path(name)).unwrap()
    }

    fn cpuset(&self, name: &str) -> String {
        let cgroup = self.dir.path().join("kubepods/pod1").join(name);
        fs::read_to_string(cgroup.join("cpuset.cpus")).unwrap()
    }
}

/// A write costs the kernel time at the start of every pod.
#[tokio::test]
async fn a_new_member_is_written_only_where_the_pool_is_not_everything() {
    let node = Node::new(&["a", "b", "p"]);
    let (cpus, none) = (node.cpus(), LinuxContainerResources::default());
    let a = Node::seat(&cpus, "a", &none).await;
    cpus.catch_up(&a.id, &node.cgroup("a"), None).unwrap();
    assert_eq!(node.cpuset("a"), "");

    let pinned = Node::seat(&cpus, "p", &asks(1)).await;
    assert_eq!(node.cpuset("a"), "1-7", "it follows the pool");
    let b = Node::seat(&cpus, "b", &none).await;
    cpus.catch_up(&b.id, &node.cgroup("b"), None).unwrap();
    assert_eq!(node.cpuset("b"), "1-7");

    drop(pinned);
    cpus.move_pool().await;
    assert_eq!(
        (node.cpuset("a"), node.cpuset("b")),
        ("0-7".to_owned(), "0-7".to_owned())
    );
}

#[tokio::test]
async fn a_change_of_limits_does_not_undo_a_move_of_the_pool() {
    let node = Node::new(&["a", "p"]);
    let (cpus, none) = (node.cpus(), LinuxContainerResources::default());
    let a = Node::seat(&cpus, "a", &none).await;
    let limits = cpus.in_force(&a.id, &none);
    let _pinned = Node::seat(&cpus, "p", &asks(1)).await;
    cpus.update(&a.id, &node.cgroup("a"), &limits).unwrap();
    assert_eq!(node.cpuset("a"), "1-7");
}

/// For all machines: who has what, and where it lies.
#[tokio::test]
async fn a_snapshot_has_everybody_outside_of_the_pool() {
    for machine in [
        Machine::vm(),
        Machine::laptop(),
        Machine::xeon(),
        Machine::epyc(),
        Machine::large(),
    ] {
        let node = Node::new(&["a", "g", "p", "q"]);
        let cgroup = node.dir.path().join("kubepods/pod1");
        for (name, said) in [
            ("p", "isolated"),
            (
                "q",
                "isolated invalid (Parent unable to distribute cpu downstream)",
            ),
        ] {
            fs::write(
                cgroup.join(name).join("cpuset.cpus.partition"),
                format!("{said}\n"),
            )
            .unwrap();
        }
        let mut cpus = node.cpus();
        let opened = Arc::get_mut(&mut cpus).unwrap();
        opened.state.get_mut().topology = machine.topology();
        opened.state.get_mut().reserved = set("0");
        let given = LinuxContainerResources {
            cpuset_cpus: "0-1".to_owned(),
            ..LinuxContainerResources::default()
        };
        let owner = |container: &str| Owner {
            container: container.to_owned(),
            ..Owner::default()
        };
        let mut seats = Vec::new();
        for (name, asked) in [("q", &asks(1)), ("p", &asks(2)), ("g", &given), ("a", &asks(0))] {
            let id = Id::random();
            let seat = cpus.seat(&id, owner(name), Node::path(name), guaranteed(asked));
            seats.push(seat.await.unwrap());
        }
        let monitor = Id::random();
        let _monitor = cpus.seat_monitor(&monitor, owner(""), Node::path("m"));

        let snapshot = cpus.snapshot().await;
        let held: Vec<_> = snapshot
            .holders
            .iter()
            .map(|held| {
                (
                    held.owner.container.as_str(),
                    held.pinned,
                    held.partition,
                    held.cpus.len(),
                )
            })
            .collect();
        let isolated = Some(crate::cgroups::Partition::Isolated);
        let expected = [
            ("g", false, None, 2),
            ("p", true, isolated, 2),
            ("q", true, None, 1),
        ];
        assert_eq!(held, expected, "by name");
        let [g, p, q] = snapshot.holders.as_slice() else {
            panic!("three")
        };
        assert_eq!(g.cpus, set("0-1"));
        let all = machine.cpus();
        assert_eq!(snapshot.pool, all.difference(&p.cpus.union(&q.cpus)));
        assert_eq!((snapshot.pool_containers, &snapshot.reserved), (1, &set("0")));
        for held in &snapshot.holders {
            assert_eq!(held.mems, machine.topology().memory_nodes(&held.cpus));
        }
        let located: CpuSet = snapshot.cpus.iter().map(|location| location.cpu).collect();
        assert_eq!((located, snapshot.cpus.len()), (all, machine.cpus().len()));

        // While it is resized, it still has what it is about to give back.
        let change = cpus
            .begin_change(&seats[1].id, guaranteed(&asks(0)), None)
            .unwrap();
        let during = cpus.snapshot().await;
        assert_eq!(
            (&during.holders[1].cpus, during.holders[1].pinned),
            (&p.cpus, true)
        );
        change.settle();
        let after = cpus.snapshot().await;
        assert_eq!((after.holders.len(), after.pool_containers), (2, 2));
    }
}

/// What an earlier daemon has moved is given back by one that moves no interrupts, or pins nothing.
#[tokio::test]
async fn interrupts_are_given_back_by_a_daemon_that_moves_none() {
    for (pinning, move_interrupts) in [(CpuPinning::Static, false), (CpuPinning::None, true)] {
        let mut node = Node::new(&["p"]);
        let list = node.dir.path().join("irq/24/smp_affinity_list");
        fs::create_dir_all(list.parent().unwrap()).unwrap();
        fs::write(&list, "0-7\n").unwrap();
        node.config.move_interrupts = true;
        let earlier = node.cpus();
        let _pinned = Node::seat(&earlier, "p", &asks(1)).await;
        assert_eq!(fs::read_to_string(&list).unwrap(), "1-7");

        node.config = config::Cpu {
            pinning,
            move_interrupts,
            ..node.config
        };
        node.cpus().restore().await;
        assert_eq!(fs::read_to_string(&list).unwrap(), "0-7");
        assert!(!node.dir.path().join("interrupts.json").exists());
    }
}
