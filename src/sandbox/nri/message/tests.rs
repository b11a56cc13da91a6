use pausa_nri::proto::{LinuxPids, OptionalBool};

use super::*;

fn given() -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 512,
        memory_limit_in_bytes: 1 << 30,
        memory_swap_limit_in_bytes: 1 << 31,
        cpuset_cpus: "0-1".to_owned(),
        cpuset_mems: "0".to_owned(),
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 4 << 20,
        }],
        unified: [("memory.high".to_owned(), "900000000".to_owned())].into(),
        oom_score_adj: 0,
    }
}

/// What plugins are shown and leave alone comes back as it was.
#[test]
fn resources_come_back_unchanged() {
    assert_eq!(update_of(&resources(&given())).expect("a change"), given());
}

/// 0 is "not given" in CRI, and must not become a limit of 0 that a plugin sees.
#[test]
fn what_is_not_given_is_not_shown() {
    let shown = resources(&v1::LinuxContainerResources::default());
    assert_eq!(shown.memory, Some(LinuxMemory::default()));
    assert_eq!(shown.cpu, Some(LinuxCpu::default()));
    let change = update_of(&shown).expect("a change");
    assert_eq!(change, v1::LinuxContainerResources::default());
}

#[test]
fn what_pausa_cannot_limit_is_refused_by_name() {
    let memory = LinuxResources {
        memory: Some(LinuxMemory {
            disable_oom_killer: Some(OptionalBool { value: true }),
            ..LinuxMemory::default()
        }),
        ..LinuxResources::default()
    };
    let error = change_of(&memory).expect_err("refused");
    assert!(error.to_string().contains("memory.disable_oom_killer"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}

/// A limit of processes and the classes are for creation: an update must not drop them silently.
#[test]
fn what_is_for_creation_is_refused_in_an_update() {
    let wanted = [
        (
            "pids",
            LinuxResources {
                pids: Some(LinuxPids { limit: 5 }),
                ..LinuxResources::default()
            },
        ),
        (
            "blockio_class",
            LinuxResources {
                blockio_class: Some(text("fast")),
                ..LinuxResources::default()
            },
        ),
        (
            "rdt_class",
            LinuxResources {
                rdt_class: Some(text("gold")),
                ..LinuxResources::default()
            },
        ),
    ];
    for (field, wanted) in wanted {
        assert!(change_of(&wanted).is_ok());
        let error = update_of(&wanted).expect_err("refused");
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn only_a_digest_is_shown_as_one() {
    assert_eq!(digest_of("registry.test/base@sha256:00"), "sha256:00");
    assert_eq!(digest_of("sha256:00"), "");
}
