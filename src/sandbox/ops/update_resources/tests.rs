//! What a change of resources leaves as it was.

use super::*;

const MIB: i64 = 1 << 20;

fn memory(limit: i64, both: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        memory_limit_in_bytes: limit * MIB,
        memory_swap_limit_in_bytes: both * MIB,
        ..Default::default()
    }
}

#[test]
fn a_field_that_is_empty_stays() {
    let now = v1::LinuxContainerResources {
        cpu_quota: 20_000,
        cpu_period: 100_000,
        cpuset_cpus: "0".to_owned(),
        ..memory(64, 96)
    };
    let change = v1::LinuxContainerResources {
        cpu_quota: 30_000,
        ..Default::default()
    };
    let expected = v1::LinuxContainerResources {
        cpu_quota: 30_000,
        ..now.clone()
    };
    assert_eq!(merge(&now, &change), expected);
}

/// The limit of both counts memory too: one that was right for the old memory may be too small for the new one.
#[test]
fn swap_stays_what_it_was_when_memory_changes() {
    assert_eq!(merge(&memory(64, 64), &memory(128, 0)), memory(128, 128));
    assert_eq!(merge(&memory(64, 96), &memory(128, 0)), memory(128, 160));
    assert_eq!(merge(&memory(64, 96), &memory(32, 0)), memory(32, 64));
    assert_eq!(merge(&memory(64, 96), &memory(32, 48)), memory(32, 48));
    assert_eq!(merge(&memory(64, 0), &memory(128, 0)), memory(128, 0));
    let unlimited = v1::LinuxContainerResources {
        memory_limit_in_bytes: -1,
        ..Default::default()
    };
    assert_eq!(merge(&memory(64, 64), &unlimited), unlimited);
}
