use super::*;

fn sample(usage_ns: u64, memory: Option<u64>) -> Counters {
    let usage = |usage| MemoryStats {
        usage,
        working_set: usage / 2,
        limit: Some(1 << 20),
        ..MemoryStats::default()
    };
    Counters {
        stats: Stats {
            cpu: Some(CpuStats {
                usage_ns,
                ..CpuStats::default()
            }),
            memory: memory.map(usage),
            pids: Some(PidStats {
                current: 2,
                limit: Some(10),
            }),
            ..Stats::default()
        },
        ..Counters::now()
    }
}

#[test]
fn a_sum_has_no_limits_and_needs_no_complete_parts() {
    let sum = Counters::sum([
        &sample(1, None),
        &sample(u64::MAX, Some(10)),
        &sample(1, Some(20)),
    ])
    .unwrap();
    assert_eq!(sum.stats.cpu.unwrap().usage_ns, u64::MAX);
    let memory = sum.stats.memory.unwrap();
    assert_eq!((memory.usage, memory.working_set, memory.limit), (30, 15, None));
    let pids = sum.stats.pids.unwrap();
    assert_eq!((pids.current, pids.limit), (6, None));
    assert!(Counters::sum([]).is_none());
}
