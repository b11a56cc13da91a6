use proptest::prelude::*;

use super::Limits;
use super::shared::weight;
use crate::cgroups::error::CgroupError;
use crate::proto::v1;

type Pairs = Vec<(String, String)>;

fn pairs(settings: Result<Vec<super::Setting>, CgroupError>) -> Pairs {
    let settings = settings.unwrap();
    settings.into_iter().map(|one| (one.file, one.value)).collect()
}

fn expect(expected: &[(&str, &str)]) -> Pairs {
    expected
        .iter()
        .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
        .collect()
}

fn memory(limit: i64, swap: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        memory_limit_in_bytes: limit,
        memory_swap_limit_in_bytes: swap,
        ..Default::default()
    }
}

#[test]
fn weights_of_the_known_points() {
    for (shares, expected) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    assert!((2..1024).all(|shares| weight(shares) <= weight(shares + 1)));
}

#[test]
fn nothing_given_is_nothing_written() {
    let nothing = v1::LinuxContainerResources::default();
    assert!(super::v1::settings(&nothing).unwrap().is_empty());
    assert!(super::v2::settings(&nothing).unwrap().is_empty());
}

#[test]
fn cpu_on_both_versions() {
    let cri = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 250_000,
        cpu_shares: 1,
        cpuset_cpus: "0-1".to_owned(),
        cpuset_mems: "0".to_owned(),
        ..Default::default()
    };
    let sets = [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")];
    let first = expect(&[
        ("cpu.shares", "2"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "250000"),
    ]);
    assert_eq!(pairs(super::v1::settings(&cri)), [first, expect(&sets)].concat());
    let first = expect(&[("cpu.weight", "1"), ("cpu.max", "250000 100000")]);
    assert_eq!(pairs(super::v2::settings(&cri)), [first, expect(&sets)].concat());
    let unlimited = v1::LinuxContainerResources {
        cpu_quota: -1,
        ..Default::default()
    };
    assert_eq!(
        pairs(super::v2::settings(&unlimited)),
        expect(&[("cpu.max", "max")])
    );
    assert_eq!(
        pairs(super::v1::settings(&unlimited)),
        expect(&[("cpu.cfs_quota_us", "-1")])
    );
    let period = v1::LinuxContainerResources {
        cpu_period: 50_000,
        ..Default::default()
    };
    assert_eq!(
        pairs(super::v2::settings(&period)),
        expect(&[("cpu.max", "max 50000")])
    );
    assert_eq!(
        pairs(super::v1::settings(&period)),
        expect(&[("cpu.cfs_period_us", "50000")])
    );
}

#[test]
fn what_unified_says_is_written_once() {
    let cri = v1::LinuxContainerResources {
        memory_limit_in_bytes: 100,
        unified: [("memory.max".to_owned(), "200".to_owned())].into(),
        ..Default::default()
    };
    let expected = expect(&[("memory.swap.max", "0"), ("memory.max", "200")]);
    assert_eq!(pairs(super::v2::settings(&cri)), expected);
}

#[test]
fn a_burst_is_a_part_of_the_quota() {
    let limits = |percent, quota, unified: &[(&str, &str)]| Limits {
        resources: v1::LinuxContainerResources {
            cpu_quota: quota,
            unified: unified
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..Default::default()
        },
        cpu_burst: percent,
        ..Limits::default()
    };
    for (percent, quota, unified, expected) in [
        (None, 30_000, [].as_slice(), None),
        (Some(50), 30_000, &[], Some(15_000)),
        (Some(100), 30_000, &[], Some(30_000)),
        (Some(100), i64::MAX, &[], u64::try_from(i64::MAX).ok()),
        (Some(50), 0, &[], Some(0)),
        (Some(50), -1, &[], Some(0)),
        (Some(50), 30_000, &[("cpu.max", "20000 100000")], Some(10_000)),
        (Some(50), 30_000, &[("cpu.max", "max")], Some(0)),
        (Some(50), 30_000, &[("cpu.max.burst", "7")], None),
    ] {
        let burst = limits(percent, quota, unified).cpu_burst();
        assert_eq!(burst, expected, "{percent:?} {quota} {unified:?}");
    }
    let last = |v2| {
        let settings = super::of_container(v2, &limits(Some(10), 30_000, &[])).unwrap();
        let last = settings.last().unwrap();
        (last.file.clone(), last.value.clone())
    };
    assert_eq!(last(false), ("cpu.cfs_burst_us".to_owned(), "3000".to_owned()));
    assert_eq!(last(true), ("cpu.max.burst".to_owned(), "3000".to_owned()));
}

#[test]
fn swap_is_none_unless_given() {
    let both = "memory.memsw.limit_in_bytes";
    for (limit, swap, on_v1, on_v2) in [
        (100, 0, "100", Some("0")),
        (100, 150, "150", Some("50")),
        (100, -1, "-1", Some("max")),
        (-1, 0, "-1", Some("max")),
    ] {
        let v1 = pairs(super::v1::settings(&memory(limit, swap)));
        assert_eq!(v1[1], (both.to_owned(), on_v1.to_owned()), "{limit} {swap}");
        let v2 = pairs(super::v2::settings(&memory(limit, swap)));
        assert_eq!(
            v2.get(1).map(|(_, value)| value.as_str()),
            on_v2,
            "{limit} {swap}"
        );
    }
    assert!(super::v2::settings(&memory(100, 50)).is_err());
    assert!(super::v2::settings(&memory(0, 50)).is_err());
}

/// Without a limit of reservations, mmap(2) promises pages that the process is killed for touching.
#[test]
fn hugepages_and_their_reservations() {
    let cri = v1::LinuxContainerResources {
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 4 << 20,
        }],
        ..Default::default()
    };
    let first = [
        ("hugetlb.2MB.limit_in_bytes", "4194304"),
        ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"),
    ];
    assert_eq!(pairs(super::v1::settings(&cri)), expect(&first));
    let second = [
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ];
    assert_eq!(pairs(super::v2::settings(&cri)), expect(&second));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let bad = |change: fn(&mut v1::LinuxContainerResources)| {
        let mut cri = v1::LinuxContainerResources::default();
        change(&mut cri);
        for error in [
            super::v1::settings(&cri).unwrap_err(),
            super::v2::settings(&cri).unwrap_err(),
        ] {
            assert!(error.to_string().contains("linux.resources."), "{error}");
        }
    };
    bad(|cri| cri.cpu_shares = -1);
    bad(|cri| cri.cpu_period = -1);
    bad(|cri| cri.cpu_quota = -2);
    bad(|cri| cri.memory_limit_in_bytes = -2);
    bad(|cri| {
        cri.hugepage_limits.push(v1::HugepageLimit {
            page_size: "../2MB".to_owned(),
            limit: 0,
        });
    });
    for key in ["cgroup.procs", "memory/../x", "memory", "../cpu.max", ""] {
        let mut cri = v1::LinuxContainerResources::default();
        cri.unified.insert(key.to_owned(), "1".to_owned());
        assert!(super::v2::settings(&cri).is_err(), "{key}");
    }
}

proptest! {
    #[test]
    fn any_numbers_are_settings_or_an_error(numbers in any::<[i64; 5]>(), text in "\\PC{0,8}") {
        let cri = v1::LinuxContainerResources {
            cpu_period: numbers[0],
            cpu_quota: numbers[1],
            cpu_shares: numbers[2],
            memory_limit_in_bytes: numbers[3],
            memory_swap_limit_in_bytes: numbers[4],
            unified: [(text.clone(), text)].into(),
            ..Default::default()
        };
        for settings in [super::v1::settings(&cri), super::v2::settings(&cri)].into_iter().flatten() {
            prop_assert!(settings.iter().all(|one| !one.file.contains('/')));
        }
    }

    /// The kernel refuses a burst above the quota.
    #[test]
    fn no_burst_is_above_the_quota(cpu_quota in any::<i64>(), percent in 0_u32..=100) {
        let limits = Limits {
            resources: v1::LinuxContainerResources { cpu_quota, ..Default::default() },
            cpu_burst: Some(percent),
            ..Limits::default()
        };
        let quota = u64::try_from(cpu_quota).unwrap_or_default();
        prop_assert!(limits.cpu_burst().unwrap() <= quota);
    }
}
