use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::fixtures::{Machine, Numbering, Place};
use super::*;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

/// A new set out of these CPUs.
fn new(machine: &Machine, free: &str, count: usize) -> String {
    chosen(machine, free, "", count)
}

fn chosen(machine: &Machine, free: &str, keep: &str, count: usize) -> String {
    let chosen = allocate(&machine.topology(), &set(free), &set(keep), count);
    chosen.map_or_else(|| "none".to_owned(), |chosen| chosen.to_string())
}

/// New sets one after the other, beginning with an empty machine.
fn sequence<const N: usize>(machine: &Machine, counts: [usize; N]) -> [String; N] {
    let mut free = machine.cpus();
    counts.map(|count| {
        let chosen = allocate(&machine.topology(), &free, &CpuSet::default(), count).unwrap();
        free = free.difference(&chosen);
        chosen.to_string()
    })
}

#[test]
fn whole_cores_of_one_cache() {
    let epyc = Machine::epyc();
    let sets = sequence(&epyc, [4, 2, 8, 6, 2]);
    assert_eq!(sets, ["0-1,64-65", "2,66", "4-7,68-71", "8-10,72-74", "3,67"]);
    assert_eq!(
        sequence(&Machine::xeon(), [4, 6]),
        ["0,2,40,42", "4,6,8,44,46,48"]
    );
    assert_eq!(sequence(&Machine::laptop(), [2, 3, 1]), ["0-1", "2-4", "5"]);
}

#[test]
fn odd_threads_share_a_core() {
    // The second single thread is the sibling of the first, and a request for whole cores leaves it alone.
    assert_eq!(
        sequence(&Machine::epyc(), [1, 2, 1, 3]),
        ["0", "1,65", "64", "2-3,66"]
    );
    // In the other cache a free core would have to be split, though fewer CPUs are free there.
    assert_eq!(new(&Machine::epyc(), "0,1,65,2,66,4,68", 1), "0");
}

#[test]
fn a_domain_with_whole_cores_comes_before_one_that_fits_better() {
    // Four threads of shared cores, or a whole cache.
    assert_eq!(new(&Machine::epyc(), "0-3,8-11,72-75", 4), "8-9,72-73");
    // Without a choice they are taken.
    assert_eq!(new(&Machine::epyc(), "0-3,8,72", 4), "0-3");
}

#[test]
fn of_domains_that_are_alike_the_fullest_and_then_the_first() {
    // Caches with 8, 4 and 6 free CPUs.
    assert_eq!(
        new(&Machine::epyc(), "0-3,64-67,4-5,68-69,8-10,72-74", 4),
        "4-5,68-69"
    );
    assert_eq!(
        new(&Machine::epyc(), "0-3,64-67,4-5,68-69,8-10,72-74", 6),
        "8-10,72-74"
    );
    assert_eq!(new(&Machine::epyc(), "8-11,72-75,4-7,68-71", 2), "4,68");
}

#[test]
fn what_no_cache_has_comes_from_a_node_then_from_a_socket_then_from_more() {
    let epyc = Machine::epyc();
    let sets = sequence(&epyc, [10, 16, 20, 70]);
    // The cache that is opened second has what is missing.
    assert_eq!(sets[0], "0-4,64-68");
    assert_eq!(sets[1], "8-15,72-79");
    // The first socket has 38 left: six in the first node, which suffice for the rest, and two nodes of 16.
    assert_eq!(sets[2], "5-6,16-23,69-70,80-87");
    // No socket has 70: all of the larger one, and six of the other.
    assert_eq!(sets[3], "24-26,32-63,88-90,96-127");
}

#[test]
fn as_few_parts_as_possible() {
    // Nodes with 4, 6 and 16 free CPUs: the largest, and of the others the one that fits.
    let free = "0-1,64-65,8-10,72-74,16-23,80-87";
    assert_eq!(new(&Machine::epyc(), free, 20), "0-1,16-23,64-65,80-87");
    assert_eq!(new(&Machine::epyc(), free, 22), "8-10,16-23,72-74,80-87");
    assert_eq!(new(&Machine::epyc(), free, 26), set(free).to_string());
}

#[test]
fn the_last_part_is_the_one_with_whole_cores() {
    // One node is full. Of the others one has just the four that are missing, but each shares a core.
    let free = "0-3,8-10,72-74,16-23,80-87";
    assert_eq!(new(&Machine::epyc(), free, 20), "8-9,16-23,72-73,80-87");
}

#[test]
fn as_few_shared_cores_as_possible() {
    let power = Machine::regular([1, 1, 1, 4, 4], Numbering::Adjacent);
    let free = "0-2,4,8-9";
    for (count, expected) in [(1, "4"), (2, "8-9"), (3, "0-2"), (4, "0-2,4"), (5, "0-2,8-9")] {
        assert_eq!(new(&power, free, count), expected);
    }
    // Without whole cores enough, too.
    assert_eq!(new(&power, "0-2,4,8-9,12-15", 6), "8-9,12-15");
}

#[test]
fn threads_of_shared_cores_are_left_where_whole_cores_are_enough() {
    // A cache with three cores and a thread, and one with four cores: fourteen CPUs can be whole cores.
    let free = "0-3,64-66,4-7,68-71";
    assert_eq!(new(&Machine::epyc(), free, 14), "0-2,4-7,64-66,68-71");
    assert_eq!(new(&Machine::epyc(), free, 15), set(free).to_string());
    assert_eq!(new(&Machine::epyc(), free, 13), "0-1,3-7,64-65,68-71");
    // Here the larger part has it: a node with seven cores and a thread. The other has three cores.
    assert_eq!(new(&Machine::epyc(), "9-15,72-79,16-18,80-82", 20), "9-18,73-82");
}

#[test]
fn without_siblings_every_cpu_is_a_core() {
    assert_eq!(
        sequence(&Machine::no_smt(), [3, 1, 2, 5, 4]),
        ["0-2", "3", "4-5", "8-12", "6,13-15"]
    );
    assert_eq!(sequence(&Machine::vm(), [3, 4]), ["0-2", "3-6"]);
}

#[test]
fn small_cores_are_whole_ones() {
    let hybrid = Machine::hybrid();
    assert_eq!(
        sequence(&hybrid, [3, 1, 2, 11]),
        ["0-1,12", "13", "2-3", "4-11,14-16"]
    );
    // Only without a small one a large core is split.
    assert_eq!(new(&hybrid, "0-11", 1), "0");
    assert_eq!(new(&hybrid, "0-6", 1), "6");
}

#[test]
fn a_core_without_its_sibling_is_whole() {
    let machine = Machine::laptop().offline(&set("1,4"));
    assert_eq!(sequence(&machine, [1, 2, 2]), ["0", "2-3", "6-7"]);
    // Somebody else's sibling is not offline.
    assert_eq!(new(&Machine::laptop(), "0,2-3,5", 2), "2-3");
}

#[test]
fn a_limited_host_has_fewer_cpus() {
    let topology = Machine::xeon().topology().restricted_to(&set("1-2,42"));
    let all = Machine::xeon().cpus();
    let two = allocate(&topology, &all, &CpuSet::default(), 2).unwrap();
    assert_eq!(two, set("2,42"));
    assert_eq!(allocate(&topology, &all, &two, 3), Some(set("1-2,42")));
    assert_eq!(allocate(&topology, &all, &CpuSet::default(), 4), None);
    // What is kept and no longer there is replaced.
    assert_eq!(
        allocate(&topology, &set("1,3"), &set("2,40"), 2),
        Some(set("1-2"))
    );
    assert_eq!(allocate(&topology, &set("9"), &set("2,40"), 2), None);
}

#[test]
fn more_cpus_are_near() {
    let epyc = Machine::epyc();
    let all = epyc.cpus().to_string();
    for (free, keep, count, expected) in [
        // The sibling, then a core of the same cache, of the same node, of the same socket.
        (&*all, "6", 2, "6,70"),
        (&all, "6", 4, "4,6,68,70"),
        (&all, "6,70", 10, "0,4-7,64,68-71"),
        ("0,64,24,88,32,96", "6,70", 4, "0,6,64,70"),
        ("24,88,32,96", "6,70", 4, "6,24,70,88"),
        ("33,97", "6,70", 4, "6,33,70,97"),
        // All that is near, before what is farther.
        ("4,8,72,33,97", "6,70", 6, "4,6,8,33,70,72"),
        // Nothing is missing.
        (&all, "6,8", 2, "6,8"),
        ("", "6,8", 2, "6,8"),
        ("1", "6,8", 4, "none"),
        (&all, "", 0, ""),
        ("", "", 1, "none"),
    ] {
        assert_eq!(
            chosen(&epyc, free, keep, count),
            expected,
            "{free}, {keep}, {count}"
        );
    }
}

#[test]
fn fewer_cpus_are_the_most_compact_of_those_kept() {
    let epyc = Machine::epyc();
    for (keep, count, expected) in [
        ("0-4,64-68", 8, "0-3,64-67"),
        ("0-4,64-68", 2, "4,68"),
        // Cores that others have a part of go first, but for an odd thread.
        ("0-2,65-66", 4, "1-2,65-66"),
        ("0-2,65-66", 3, "0-1,65"),
        ("0-2,65-66", 0, ""),
        // One node instead of two.
        ("0-4,64-68,16-17,80-81", 10, "0-4,64-68"),
    ] {
        assert_eq!(chosen(&epyc, "", keep, count), expected, "{count} of {keep}");
        // What is free does not matter.
        assert_eq!(chosen(&epyc, "5-15,69-79", keep, count), expected);
    }
}

#[test]
fn a_large_node_is_filled_to_the_last_cpu() {
    let machine = Machine::large();
    let topology = machine.topology();
    let mut free = machine.cpus();
    let mut containers = 0;
    for count in [1, 2, 4, 3, 8, 1].into_iter().cycle() {
        let Some(chosen) = allocate(&topology, &free, &CpuSet::default(), count) else {
            break;
        };
        assert_eq!(chosen.len(), count);
        assert!(chosen.is_subset(&free));
        free = free.difference(&chosen);
        containers += 1;
    }
    assert!(containers > 150 && free.len() < 8, "{containers}, {free}");
}

#[derive(Debug, Clone)]
enum Step {
    New(usize),
    Release(usize),
    Resize(usize, usize),
    /// A CPU goes offline.
    Lose(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = prop_oneof![4 => 1..6_usize, 2 => 1..20_usize, 1 => 1..80_usize];
    let step = prop_oneof![
        4 => some.clone().prop_map(Step::New),
        2 => any::<usize>().prop_map(Step::Release),
        3 => (any::<usize>(), 0..3_usize, some).prop_map(|(which, kind, count)| match kind {
            0 => Step::Resize(which, count / 2),
            _ => Step::Resize(which, count),
        }),
        1 => any::<usize>().prop_map(Step::Lose),
    ];
    prop::collection::vec(step, 1..40)
}

/// Machines with cores of one and two threads, and domains of all sizes.
fn machines() -> impl Strategy<Value = Machine> {
    let cache = prop::collection::vec(prop_oneof![1 => Just(1_usize), 3 => Just(2)], 1..5);
    let node = prop::collection::vec(cache, 1..4);
    let socket = prop::collection::vec(node, 1..4);
    let numbering = prop_oneof![
        Just(Numbering::Adjacent),
        Just(Numbering::ByThread),
        Just(Numbering::Interleaved),
    ];
    let offline = prop::collection::btree_set(0..60_usize, 0..6);
    (prop::collection::vec(socket, 1..4), numbering, offline).prop_map(|(sockets, numbering, offline)| {
        let (mut places, mut nodes, mut caches) = (Vec::new(), 0, 0);
        for (socket, of_socket) in sockets.into_iter().enumerate() {
            for of_node in of_socket {
                for of_cache in of_node {
                    places.extend(of_cache.into_iter().map(|threads| Place {
                        socket,
                        node: nodes,
                        cache: caches,
                        threads,
                    }));
                    caches += 1;
                }
                nodes += 1;
            }
        }
        Machine::new(&places, numbering).offline(&offline.into_iter().collect())
    })
}

/// The least loss that is possible: threads on cores that are not all ours, and those of them on cores that were free.
fn least_loss(machine: &Machine, free: &CpuSet, count: usize) -> (usize, usize) {
    let whole = |threads| {
        let cores = machine.cores.iter().filter(|core| core.cpus.is_subset(free));
        cores.filter(|core| core.cpus.len() == threads).count()
    };
    let (ones, twos) = (whole(1), whole(2));
    let on_whole = (0..=twos.min(count / 2)).map(|twos| 2 * twos + ones.min(count - 2 * twos));
    let shared = count - on_whole.max().unwrap();
    (shared, shared.saturating_sub(free.len() - ones - 2 * twos))
}

fn loss(machine: &Machine, free: &CpuSet, chosen: &CpuSet) -> (usize, usize) {
    let (mut shared, mut split) = (0, 0);
    for core in &machine.cores {
        let ours = core.cpus.overlap(chosen);
        if ours < core.cpus.len() {
            shared += ours;
            split += if core.cpus.is_subset(free) { ours } else { 0 };
        }
    }
    (shared, split)
}

/// A new set out of free CPUs follows the rules, in the order in which the module states them.
fn check_new(machine: &Machine, free: &CpuSet, count: usize, chosen: &CpuSet) {
    assert_eq!(chosen.len(), count);
    assert!(chosen.is_subset(free));
    assert!(loss(machine, free, chosen).1 <= 1, "more than one core is split");
    if count == 0 {
        return;
    }
    let all = BTreeMap::from([(0, machine.cpus())]);
    let levels = [machine.caches(), machine.nodes(), machine.sockets(), all];
    for (level, domains) in levels.iter().enumerate() {
        let rank = |cpus: &CpuSet| {
            let free = free.intersection(cpus);
            let lowest = cpus.lowest();
            (least_loss(machine, &free, count), free.len(), lowest)
        };
        let enough = domains.values().filter(|cpus| cpus.overlap(free) >= count);
        let Some(best) = enough.map(rank).min() else {
            continue;
        };
        let home = domains.values().find(|cpus| chosen.is_subset(cpus));
        let home = home.expect("a domain of this level has enough");
        assert_eq!(rank(home), best, "another domain of level {level} is better");
        match level.checked_sub(1) {
            None => assert_eq!(loss(machine, free, chosen), best.0, "cores are broken needlessly"),
            Some(smaller) => {
                let parts = levels[smaller].values().filter(|cpus| cpus.is_subset(home));
                let mut sizes: Vec<_> = parts.map(|cpus| cpus.overlap(free)).collect();
                sizes.sort_unstable_by_key(|size| Reverse(*size));
                let mut sum = 0;
                let needed = sizes.iter().take_while(|size| {
                    let more = sum < count;
                    sum += **size;
                    more
                });
                let needed = needed.count();
                let used = levels[smaller].values().filter(|cpus| cpus.overlap(chosen) > 0);
                assert_eq!(used.count(), needed, "parts of level {smaller}");
            }
        }
        return;
    }
    panic!("the machine has enough");
}

/// What is added is near what is kept: it goes beyond a level only if nothing more is free on it.
fn check_more(machine: &Machine, free: &CpuSet, keep: &CpuSet, count: usize, chosen: &CpuSet) {
    assert_eq!(chosen.len(), count);
    assert!(keep.is_subset(chosen));
    let more = chosen.difference(keep);
    assert!(more.is_subset(free));
    if keep.is_empty() {
        return check_new(machine, free, count, chosen);
    }
    let cores: Vec<_> = machine.cores.iter().map(|core| core.cpus.clone()).collect();
    let groups = [machine.caches(), machine.nodes(), machine.sockets()];
    let levels = [cores]
        .into_iter()
        .chain(groups.map(|group| group.into_values().collect()));
    for level in levels {
        let near = level.iter().filter(|cpus| cpus.overlap(keep) > 0);
        let near = near.fold(CpuSet::default(), |near, cpus| near.union(cpus));
        assert!(more.is_subset(&near) || near.intersection(free).is_subset(&more));
    }
}

/// Plays the steps, checks each, and returns what was chosen. The order in which the machine is described does not matter.
fn play(machine: &Machine, steps: &[Step], reversed: bool) -> Vec<Option<CpuSet>> {
    let mut machine = machine.clone();
    let mut topology = machine.topology();
    let (mut free, mut held, mut log) = (machine.cpus(), Vec::<CpuSet>::new(), Vec::new());
    for step in steps {
        match *step {
            Step::New(count) => {
                let chosen = allocate(&topology, &free, &CpuSet::default(), count);
                log.push(chosen.clone());
                assert_eq!(chosen.is_some(), count <= free.len());
                if let Some(chosen) = chosen {
                    check_new(&machine, &free, count, &chosen);
                    free = free.difference(&chosen);
                    held.push(chosen);
                }
            }
            Step::Release(which) if !held.is_empty() => {
                let released = held.remove(which % held.len());
                free = free.union(&released.intersection(&machine.cpus()));
            }
            Step::Resize(which, count) if !held.is_empty() => {
                let which = which % held.len();
                let keep = held[which].intersection(&machine.cpus());
                // What went offline is still in the set.
                let chosen = allocate(&topology, &free, &held[which], count);
                log.push(chosen.clone());
                assert_eq!(chosen.is_some(), count <= free.len() + keep.len());
                if let Some(chosen) = chosen {
                    match count < keep.len() {
                        true => check_new(&machine, &keep, count, &chosen),
                        false => check_more(&machine, &free, &keep, count, &chosen),
                    }
                    free = free.union(&keep).difference(&chosen);
                    held[which] = chosen;
                }
            }
            Step::Lose(which) if machine.cpus().len() > 1 => {
                let cpus = machine.cpus();
                let lost = cpus.iter().nth(which % cpus.len()).into_iter().collect();
                machine = machine.offline(&lost);
                topology = match reversed {
                    // The same by either way.
                    false => topology.restricted_to(&machine.cpus()),
                    true => {
                        machine.cores.reverse();
                        machine.topology()
                    }
                };
                free = free.difference(&lost);
            }
            Step::Release(_) | Step::Resize(..) | Step::Lose(_) => {}
        }
        let mut all = free.clone();
        for set in held.iter().map(|set| set.intersection(&machine.cpus())) {
            assert_eq!(set.overlap(&all), 0, "a CPU is given away twice");
            all = all.union(&set);
        }
        assert_eq!(all, machine.cpus(), "a CPU is lost");
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_choice_follows_the_rules_and_from_its_input(machine in machines(), steps in steps()) {
        prop_assert_eq!(play(&machine, &steps, false), play(&machine, &steps, true));
    }

    /// Cores of any size: nothing but the number is certain.
    #[test]
    fn any_core_is_taken_apart(
        threads in prop::collection::vec((0..2_usize, 0..2_usize, 0..2_usize, 1..12_usize), 1..12),
        free in prop::collection::btree_set(0..80_usize, 0..80),
        keep in prop::collection::btree_set(0..80_usize, 0..20),
        count in 0..80_usize,
    ) {
        let places: Vec<_> = threads
            .into_iter()
            .map(|(socket, node, cache, threads)| {
                let node = socket * 2 + node;
                Place { socket, node, cache: node * 2 + cache, threads }
            })
            .collect();
        let machine = Machine::new(&places, Numbering::ByThread);
        let (free, keep): (CpuSet, CpuSet) = (free.into_iter().collect(), keep.into_iter().collect());
        let usable = free.union(&keep).intersection(&machine.cpus());
        match allocate(&machine.topology(), &free, &keep, count) {
            None => prop_assert!(usable.len() < count),
            Some(chosen) => {
                prop_assert_eq!(chosen.len(), count);
                prop_assert!(chosen.is_subset(&usable));
                let keep = keep.intersection(&machine.cpus());
                prop_assert!(keep.is_subset(&chosen) || chosen.is_subset(&keep));
            }
        }
    }
}
