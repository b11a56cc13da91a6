//! Maps of machines, without a machine.

use proptest::prelude::*;

use super::*;
use crate::cgroups::Partition;
use crate::cgroups::cpus::fixtures::{Machine, Numbering};
use crate::cgroups::cpus::{Held, Owner, Snapshot};
use crate::cli::screen;
use crate::config::{CpuPinning, CpuShortage};
use crate::id::Id;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

#[derive(Debug, Clone, Copy)]
enum How {
    Given,
    Pinned(Option<Partition>),
}

const PINNED: How = How::Pinned(None);

/// What the daemon of a machine answers. Each CPU is as busy as the last two digits of its number say.
fn document(machine: &Machine, reserved: &str, holders: &[(&str, How, &str)]) -> Document {
    let mut pool = machine.cpus();
    let holders = holders.iter().zip(1..).map(|((pod, how, cpus), number)| {
        let cpus = set(cpus);
        let (pinned, partition) = match how {
            How::Given => (false, None),
            How::Pinned(partition) => (true, *partition),
        };
        if pinned {
            pool = pool.difference(&cpus);
        }
        Held {
            id: Id::try_from(format!("{number:0<64x}")).unwrap(),
            owner: Owner {
                namespace: "default".to_owned(),
                pod: (*pod).to_owned(),
                container: "main".to_owned(),
            },
            pinned,
            partition,
            mems: machine.topology().memory_nodes(&cpus),
            cpus,
        }
    });
    let holders = holders.collect();
    let snapshot = Snapshot {
        cpus: machine.topology().locations(),
        reserved: set(reserved),
        pool,
        pool_containers: 12,
        pinning: CpuPinning::Static,
        on_shortage: CpuShortage::Share,
        holders,
    };
    let map: CpusResponse = snapshot.into();
    let load = |cpu: &Cpu| (cpu.cpu, u64::from(cpu.cpu % 100));
    Document {
        load: map.cpus.iter().map(load).collect(),
        map,
    }
}

fn plain_text(document: &Document) -> String {
    screen::text(&lines(document), false)
}

fn coloured_text(document: &Document) -> String {
    screen::text(&lines(document), true).replace('\x1b', "␛")
}

#[test]
fn a_virtual_machine_of_two_cpus() {
    let mut machine = Machine::regular([1, 1, 1, 2, 1], Numbering::Adjacent);
    machine.details = false;
    let document = document(&machine, "", &[("db", PINNED, "1")]);
    insta::assert_snapshot!("two_cpus", plain_text(&document));
    insta::assert_snapshot!("two_cpus_coloured", coloured_text(&document));
}

/// Of one core, only one thread is pinned; of another one, both are, by different containers.
#[test]
fn threads_of_a_core_are_on_one_line() {
    let holders = [
        ("cache", PINNED, "3"),
        ("db", PINNED, "4"),
        ("web", How::Given, "5,8-9"),
        ("mail", How::Given, "8-9"),
    ];
    let document = document(&Machine::laptop(), "0-1", &holders);
    insta::assert_snapshot!("laptop", plain_text(&document));
    insta::assert_snapshot!("laptop_coloured", coloured_text(&document));
}

#[test]
fn sockets_that_take_turns_fold() {
    let isolated = How::Pinned(Some(Partition::Isolated));
    let partition = How::Pinned(Some(Partition::Root));
    let holders = [
        ("a", isolated, "2"),
        ("b", partition, "4,6,44,46"),
        ("c", PINNED, "1,3,5,7,41,43,45,47"),
        ("d", How::Given, "9,11"),
    ];
    let document = document(&Machine::xeon(), "0,40", &holders);
    insta::assert_snapshot!("xeon", plain_text(&document));
    insta::assert_snapshot!("xeon_coloured", coloured_text(&document));
}

#[test]
fn sixty_four_cpus() {
    let machine = Machine::regular([2, 2, 2, 4, 2], Numbering::ByThread);
    let holders = [("a", PINNED, "4-7,36-39"), ("b", PINNED, "8,40")];
    insta::assert_snapshot!("sixty_four", plain_text(&document(&machine, "0,32", &holders)));
}

#[test]
fn the_largest_machine_fits_on_a_screen() {
    let holders = [
        ("a", PINNED, "0-31,256-287"),
        ("b", PINNED, "40,296"),
        ("c", PINNED, "41"),
        ("d", PINNED, "128-143,384-399"),
    ];
    let document = document(&Machine::large(), "255,511", &holders);
    insta::assert_snapshot!("large", plain_text(&document));
    insta::assert_snapshot!("large_coloured", coloured_text(&document));
}

#[test]
fn cores_of_one_and_of_two_threads_fold() {
    let document = document(&Machine::hybrid(), "", &[("a", PINNED, "12-13")]);
    insta::assert_snapshot!("hybrid", plain_text(&document));
}

#[test]
fn nobody_has_anything_and_nothing_is_known() {
    let mut document = document(&Machine::vm(), "", &[]);
    document.load.clear();
    document.map.pool_containers = 1;
    document.map.pinning = "none".to_owned();
    insta::assert_snapshot!("nobody", plain_text(&document));
}

#[test]
fn whoever_has_a_cpu_alone_is_named() {
    let holders = [("a", How::Given, "1,5"), ("b", PINNED, "1,5")];
    let text = plain_text(&document(&Machine::vm(), "", &holders));
    let line = text.lines().find(|line| line.contains(" more")).unwrap();
    assert!(line.ends_with("pinned   default/b/main and 1 more"), "{line:?}");
}

#[test]
fn names_cannot_control_the_terminal() {
    let document = document(&Machine::vm(), "", &[("a\x1b[31m", PINNED, "1")]);
    assert!(!plain_text(&document).contains('\x1b'));
}

#[test]
fn numbers_at_equal_distances_are_a_range() {
    for (list, expected) in [
        ("", ""),
        ("3", "3"),
        ("3,5", "3,5"),
        ("3-5", "3-5"),
        ("0,2,4", "0-4:2"),
        ("0,2-4", "0,2-4"),
        ("0-1,3,5,7", "0-1,3-7:2"),
        ("0,4,8,12,13", "0-12:4,13"),
        ("1,3,6,9,12,20-21", "1,3-12:3,20-21"),
    ] {
        assert_eq!(short(&set(list)), expected, "{list}");
    }
}

proptest! {
    /// Whoever has which CPUs: each core is on one line, each CPU in one part of it, with its owner.
    #[test]
    fn no_core_is_missing_or_there_twice(
        machine in 0..6usize,
        owners in prop::collection::vec(prop::option::of(0..3usize), 512),
    ) {
        let machine = [
            Machine::vm,
            Machine::laptop,
            Machine::hybrid,
            Machine::xeon,
            Machine::epyc,
            Machine::large,
        ][machine]();
        let names = ["a", "b", "c"];
        let of = |owner| -> CpuSet {
            let cpus = machine.cpus();
            cpus.iter().filter(|cpu| owners[*cpu] == Some(owner)).collect()
        };
        let lists: Vec<String> = (0..3).map(|owner| of(owner).to_string()).collect();
        let holders: Vec<_> = names.iter().zip(&lists).map(|(name, list)| (*name, PINNED, list.as_str())).collect();
        let document = document(&machine, "", &holders);
        let runs = fold(cores(&document));
        let (mut cores, mut cpus) = (CpuSet::default(), CpuSet::default());
        for run in &runs {
            prop_assert_eq!(cores.overlap(&run.cores), 0);
            cores = cores.union(&run.cores);
            for part in &run.parts {
                prop_assert_eq!(cpus.overlap(&part.cpus), 0);
                cpus = cpus.union(&part.cpus);
                for cpu in part.cpus.iter() {
                    let owner = owners[cpu].map_or_else(String::new, |owner| format!("default/{}/main", names[owner]));
                    prop_assert_eq!(&part.owner, &owner);
                }
            }
        }
        prop_assert_eq!(cores.len(), machine.cores.len());
        prop_assert_eq!(cpus, machine.cpus());
        prop_assert_eq!(map(&runs).len(), runs.len() + 1);
    }
}
