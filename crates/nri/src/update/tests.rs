//! Changes of containers by several plugins: what is merged, and what conflicts.

use std::slice;

use proptest::prelude::*;

use super::*;
use crate::proto::{
    Container, HugepageLimit, LinuxCpu, LinuxMemory, LinuxPids, OptionalBool, OptionalInt64, OptionalString,
    OptionalUInt64,
};

fn int(value: i64) -> Option<OptionalInt64> {
    Some(OptionalInt64 { value })
}

fn uint(value: u64) -> Option<OptionalUInt64> {
    Some(OptionalUInt64 { value })
}

fn class(name: &str) -> Option<OptionalString> {
    Some(OptionalString {
        value: name.to_owned(),
    })
}

/// One resource of each kind, with values of a plugin.
pub(crate) fn samples(plugin: &str) -> Vec<(&'static str, LinuxResources)> {
    let nothing = LinuxResources::default;
    let huge = |size: &str, limit| HugepageLimit {
        page_size: size.to_owned(),
        limit,
    };
    vec![
        (
            "cpu",
            LinuxResources {
                cpu: Some(LinuxCpu {
                    shares: uint(123),
                    quota: int(456),
                    period: uint(789),
                    realtime_runtime: int(321),
                    realtime_period: uint(654),
                    cpus: "0-1".to_owned(),
                    mems: "2-3".to_owned(),
                }),
                ..nothing()
            },
        ),
        (
            "memory",
            LinuxResources {
                memory: Some(LinuxMemory {
                    limit: int(1_234_000),
                    reservation: int(4000),
                    swap: int(34_000),
                    kernel: int(30_000),
                    kernel_tcp: int(2000),
                    swappiness: uint(98),
                    disable_oom_killer: Some(OptionalBool { value: true }),
                    use_hierarchy: Some(OptionalBool { value: true }),
                }),
                ..nothing()
            },
        ),
        (
            "classes",
            LinuxResources {
                rdt_class: class(plugin),
                blockio_class: class(plugin),
                ..nothing()
            },
        ),
        (
            "huge pages",
            LinuxResources {
                hugepage_limits: vec![huge("1MB", 4096), huge("4MB", 1024)],
                ..nothing()
            },
        ),
        (
            "unified",
            LinuxResources {
                unified: [("memory.low".to_owned(), "1".to_owned())].into(),
                ..nothing()
            },
        ),
        (
            "pids",
            LinuxResources {
                pids: Some(LinuxPids { limit: 7 }),
                ..nothing()
            },
        ),
    ]
}

/// What the client asks for.
fn asked() -> LinuxResources {
    LinuxResources {
        cpu: Some(LinuxCpu {
            shares: uint(999),
            quota: int(888),
            cpus: "4".to_owned(),
            ..LinuxCpu::default()
        }),
        memory: Some(LinuxMemory {
            limit: int(9999),
            ..LinuxMemory::default()
        }),
        hugepage_limits: vec![HugepageLimit {
            page_size: "1MB".to_owned(),
            limit: 1,
        }],
        pids: Some(LinuxPids { limit: 1 }),
        ..LinuxResources::default()
    }
}

fn update(id: &str, resources: &LinuxResources) -> ContainerUpdate {
    ContainerUpdate {
        container_id: id.to_owned(),
        linux: Some(LinuxContainerUpdate {
            resources: Some(resources.clone()),
        }),
        ignore_failure: false,
    }
}

fn updating() -> Updating {
    Updating::new(UpdateContainerRequest {
        container: Some(Container {
            id: "ctr0".to_owned(),
            ..Container::default()
        }),
        linux_resources: Some(asked()),
        ..UpdateContainerRequest::default()
    })
}

fn response(updates: &[ContainerUpdate]) -> UpdateContainerResponse {
    UpdateContainerResponse {
        update: updates.to_vec(),
        evict: Vec::new(),
    }
}

#[test]
fn one_plugin_updates_another_container() {
    for (kind, resources) in samples("00-a") {
        let mut updates = Updates::default();
        let wanted = vec![update("ctr1", &resources)];
        updates.apply("00-a", wanted.clone()).unwrap();
        assert_eq!(updates.finish(), wanted, "{kind}");
    }
}

#[test]
fn two_plugins_cannot_update_the_same_field() {
    for ((kind, first), (_, second)) in samples("00-a").into_iter().zip(samples("10-b")) {
        let mut updates = Updates::default();
        updates.apply("00-a", vec![update("ctr1", &first)]).unwrap();
        updates.apply("10-b", vec![update("ctr2", &second)]).unwrap();
        updates
            .apply("10-b", vec![update("ctr1", &second)])
            .expect_err(kind);
    }
}

#[test]
fn plugins_update_different_fields_of_a_container() {
    let mut updates = Updates::default();
    let mut expected = LinuxResources::default();
    for (index, (_, resources)) in samples("x").iter().enumerate() {
        updates
            .apply(&format!("{index:02}-x"), vec![update("ctr1", resources)])
            .unwrap();
        overlay(&mut expected, resources);
    }
    assert_eq!(updates.finish(), [update("ctr1", &expected)]);
}

#[test]
fn of_a_conflict_that_may_be_ignored_nothing_remains() {
    let samples = samples("x");
    let [(_, cpu), (_, memory), ..] = samples.as_slice() else {
        panic!("two kinds")
    };
    let both = LinuxResources {
        cpu: cpu.cpu.clone(),
        ..memory.clone()
    };
    let ignoring = |resources| ContainerUpdate {
        ignore_failure: true,
        ..update("ctr1", resources)
    };
    let mut updates = Updates::default();
    updates.apply("00-a", vec![update("ctr1", cpu)]).unwrap();
    updates.apply("10-b", vec![ignoring(&both)]).unwrap();
    updates.apply("20-c", vec![ignoring(memory)]).unwrap();
    let merged = updates.finish();
    assert_eq!(merged, [update("ctr1", &both)], "one of them must not fail");

    let mut updates = Updates::default();
    updates.apply("00-a", vec![ignoring(cpu)]).unwrap();
    updates.apply("20-c", vec![ignoring(memory)]).unwrap();
    assert_eq!(updates.finish(), [ignoring(&both)]);
}

#[test]
fn plugins_see_and_change_what_the_client_asks_for() {
    for (kind, resources) in samples("00-a") {
        let mut updating = updating();
        assert_eq!(updating.request().linux_resources, Some(asked()));
        let others = [update("ctr0", &resources), update("ctr1", &resources)];
        updating.apply("00-a", response(&others)).unwrap();
        let mut expected = asked();
        overlay(&mut expected, &resources);
        assert_eq!(
            updating.request().linux_resources.as_ref(),
            Some(&expected),
            "{kind}"
        );
        updating
            .apply("10-b", response(slice::from_ref(&others[0])))
            .expect_err(kind);
        let updated = updating.finish();
        assert_eq!(updated.resources, expected, "{kind}");
        assert_eq!(updated.updates, [update("ctr1", &resources)], "{kind}");
    }
}

#[test]
fn a_limit_of_huge_pages_replaces_that_of_the_client() {
    let mut resources = asked();
    let (_, wanted) = &samples("a")[3];
    overlay(&mut resources, wanted);
    assert_eq!(resources.hugepage_limits, wanted.hugepage_limits);
}

#[test]
fn without_plugins_the_client_gets_what_it_asks_for() {
    let updated = updating().finish();
    assert_eq!(updated.resources, asked());
    assert!(updated.updates.is_empty() && updated.evictions.is_empty());
}

#[test]
fn a_container_is_evicted_once() {
    let eviction = |id: &str, reason: &str| ContainerEviction {
        container_id: id.to_owned(),
        reason: reason.to_owned(),
    };
    let mut updating = updating();
    for reason in ["first", "second"] {
        let evict = vec![eviction("ctr1", reason), eviction(reason, reason)];
        let response = UpdateContainerResponse {
            evict,
            ..response(&[])
        };
        updating.apply(reason, response).unwrap();
    }
    let expected = [
        eviction("ctr1", "first"),
        eviction("first", "first"),
        eviction("second", "second"),
    ];
    assert_eq!(updating.finish().evictions, expected);
}

proptest! {
    /// Plugins that do not conflict get the same result in any order.
    #[test]
    fn the_order_does_not_matter(order in Just(vec![0usize, 1, 2, 3, 4, 5]).prop_shuffle()) {
        let samples = samples("x");
        let mut updates = Updates::default();
        for index in order {
            let (plugin, resources) = &samples[index];
            updates.apply(plugin, vec![update("ctr1", resources)]).unwrap();
        }
        let mut expected = LinuxResources::default();
        for (_, resources) in &samples {
            overlay(&mut expected, resources);
        }
        prop_assert_eq!(updates.finish(), [update("ctr1", &expected)]);
    }
}
