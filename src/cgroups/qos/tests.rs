//! The class of pods as kubelet and as others make them.

use super::*;

fn resources(shares: i64, quota: i64, memory: i64, score: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_shares: shares,
        cpu_quota: quota,
        cpu_period: 100_000,
        memory_limit_in_bytes: memory,
        oom_score_adj: score,
        ..LinuxContainerResources::default()
    }
}

#[test]
fn kubelets_cgroups_say_the_class() {
    use QosClass::{BestEffort, Burstable, Guaranteed};
    let table = [
        ("/kubepods/pod0c3a-11", Some(Guaranteed)),
        ("/kubepods/burstable/pod0c3a-11", Some(Burstable)),
        ("/kubepods/besteffort/pod0c3a-11/", Some(BestEffort)),
        ("/node/root/kubepods/besteffort/podX", Some(BestEffort)),
        ("kubepods-pod0c3a_11.slice", Some(Guaranteed)),
        ("kubepods-burstable-pod0c3a_11.slice", Some(Burstable)),
        ("kubepods-besteffort-pod0c3a_11.slice", Some(BestEffort)),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
            Some(Burstable),
        ),
        ("kubelet-kubepods-besteffort-pod1.slice", Some(BestEffort)),
        ("", None),
        ("/", None),
        ("/kubepods", None),
        ("kubepods.slice", None),
        ("/pod1", None),
        ("/burstable/other", None),
        ("/not-burstable/pod1", None),
        ("/user/pod1", None),
    ];
    for (parent, class) in table {
        assert_eq!(QosClass::of_parent(parent), class, "{parent}");
    }
}

#[test]
fn without_kubelets_cgroups_the_containers_say_it() {
    use QosClass::{BestEffort, Burstable, Guaranteed};
    let full = resources(2048, 200_000, 1 << 30, 0);
    let third = resources(341, 33_300, 1 << 30, 0);
    let tiny = resources(2, 1_000, 1 << 20, 0);
    let nothing = resources(2, 0, 0, 0);
    let request = resources(512, 0, 0, 500);
    let no_memory = resources(1024, 100_000, 0, 0);
    let no_quota = resources(1024, 0, 1 << 30, -997);
    let above_request = resources(512, 100_000, 1 << 30, 0);
    let table: [(&[&LinuxContainerResources], QosClass); 12] = [
        (&[&full], Guaranteed),
        (&[&third], Burstable),
        (&[&resources(340, 33_300, 1 << 30, 0)], Guaranteed),
        (&[&tiny], Burstable),
        (&[&no_quota], Guaranteed),
        (&[&nothing], BestEffort),
        (&[&resources(2, 0, 0, 1000)], BestEffort),
        (&[&request], Burstable),
        (&[&no_memory], Burstable),
        (&[&above_request], Burstable),
        (&[], BestEffort),
        // An init container without limits, beside a container with.
        (&[&nothing, &full], Burstable),
    ];
    for (containers, class) in table {
        assert_eq!(
            QosClass::of_pod("", containers.iter().copied()),
            class,
            "{containers:?}"
        );
    }
    assert_eq!(QosClass::of_pod("/kubepods/pod1", [&nothing]), Guaranteed);
}

#[test]
fn whole_cpus_are_those_of_the_limit() {
    let table = [
        (resources(2048, 200_000, 0, 0), Some(2)),
        (resources(2048, 0, 0, 0), Some(2)),
        (resources(2048, -1, 0, 0), Some(2)),
        (resources(1536, 150_000, 0, 0), None),
        (resources(1536, 0, 0, 0), None),
        (resources(2, 0, 0, 0), None),
        (resources(0, 0, 0, 0), None),
    ];
    for (resources, whole) in table {
        assert_eq!(whole_cpus(&resources), whole, "{resources:?}");
    }
    let short_period = LinuxContainerResources {
        cpu_period: 10_000,
        cpu_quota: 30_000,
        ..LinuxContainerResources::default()
    };
    assert_eq!(whole_cpus(&short_period), Some(3));
    let default_period = LinuxContainerResources {
        cpu_quota: 300_000,
        ..LinuxContainerResources::default()
    };
    assert_eq!(whole_cpus(&default_period), Some(3));
}
