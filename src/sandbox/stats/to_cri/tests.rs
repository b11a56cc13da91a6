use super::*;
use crate::cgroups::{CpuStats, MemoryStats, PidStats, Pressures, Stats};

fn sample(memory: MemoryStats) -> Counters {
    Counters {
        at: 9,
        stats: Stats {
            cpu: Some(CpuStats {
                usage_ns: 70,
                ..CpuStats::default()
            }),
            memory: Some(memory),
            pids: Some(PidStats {
                current: 3,
                limit: None,
            }),
            ..Stats::default()
        },
        pressures: Pressures {
            io: Some(Pressure {
                some: Some(Stalls {
                    avg10: 1.5,
                    total_ns: 5000,
                    ..Stalls::default()
                }),
                full: None,
            }),
            ..Pressures::default()
        },
        ..Counters::now()
    }
}

#[test]
fn what_is_known_is_set_with_its_time() {
    let sample = sample(MemoryStats {
        usage: 100,
        working_set: 60,
        limit: Some(200),
        swap: 5,
        swap_limit: Some(8),
        ..MemoryStats::default()
    });
    let usage = Usage {
        counters: Some(&sample),
        rate: Some(11),
    };
    let cpu = usage.cpu().unwrap();
    assert_eq!((cpu.timestamp, cpu.usage_core_nano_seconds), (9, Some(value(70))));
    assert_eq!((cpu.usage_nano_cores, cpu.psi), (Some(value(11)), None));
    let memory = usage.memory().unwrap();
    assert_eq!((memory.timestamp, memory.available_bytes), (9, Some(value(140))));
    let swap = usage.swap().unwrap();
    assert_eq!(
        (swap.swap_usage_bytes, swap.swap_available_bytes),
        (Some(value(5)), Some(value(3)))
    );
    let psi = usage.io().unwrap().psi.unwrap();
    assert_eq!((psi.some.unwrap().total, psi.full), (5000, None));
    assert_eq!(usage.processes().unwrap().process_count, Some(value(3)));
}

#[test]
fn what_is_not_known_is_unset() {
    let sample = sample(MemoryStats {
        working_set: 60,
        ..MemoryStats::default()
    });
    let usage = Usage {
        counters: Some(&sample),
        rate: None,
    };
    assert_eq!(usage.cpu().unwrap().usage_nano_cores, None);
    assert_eq!(usage.memory().unwrap().available_bytes, None);
    assert_eq!(usage.swap().unwrap().swap_available_bytes, None);
    let nothing = Usage {
        counters: None,
        rate: None,
    };
    assert_eq!(
        (nothing.cpu(), nothing.memory(), nothing.swap()),
        (None, None, None)
    );
    assert_eq!((nothing.io(), nothing.processes()), (None, None));
}

#[test]
fn memory_above_a_lowered_limit_has_nothing_available() {
    let sample = sample(MemoryStats {
        working_set: 60,
        limit: Some(50),
        ..MemoryStats::default()
    });
    let usage = Usage {
        counters: Some(&sample),
        rate: None,
    };
    assert_eq!(usage.memory().unwrap().available_bytes, Some(value(0)));
}

#[test]
fn the_default_interface_is_eth0_or_the_first_and_not_among_the_others() {
    let divided = |names: &[&str]| {
        let all: Vec<_> = names
            .iter()
            .map(|name| Interface {
                name: (*name).to_owned(),
                ..Interface::default()
            })
            .collect();
        let usage = network(&all, 7)?;
        let others = usage.interfaces.into_iter().map(|one| one.name);
        Some((usage.default_interface?.name, others.collect::<Vec<_>>()))
    };
    assert_eq!(
        divided(&["net1", "eth0"]),
        Some(("eth0".into(), vec!["net1".into()]))
    );
    assert_eq!(
        divided(&["net2", "net1"]),
        Some(("net2".into(), vec!["net1".into()]))
    );
    assert_eq!(divided(&[]), None);
}
