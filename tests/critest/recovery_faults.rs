//! Records that are lost or damaged while no daemon runs: what has no record is removed, and what has one that cannot be read
//! is left alone.

use std::collections::BTreeSet;

use pausa::proto::v1::PodSandboxState;

use crate::harness::daemon::Daemon;
use crate::harness::pod::share_pids;
use crate::harness::{Node, Pod, eventually, leaks, on_own_node};

/// Takes a pod's record away behind the back of the daemon, which must not be running.
fn lose_record(node: &Node, pod: &Pod<'_>) {
    std::fs::remove_file(node.dir().join("s/pods").join(&pod.id).join("pod.json")).expect("a record");
    // The copy may not have been written yet.
    std::fs::remove_dir_all(node.dir().join("r/pods").join(&pod.id)).ok();
}

/// A pod whose record is lost holds nothing for long: its monitor, namespaces, address and mounts go.
#[test]
#[ignore = "needs root"]
fn what_has_no_record_is_removed() {
    on_own_node(async |node| {
        let kept = node.pod().await;
        let lost = node.pod_with(share_pids).await;
        let ip = lost.ip().await;
        node.daemon(Daemon::kill);
        lose_record(node, &lost);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        eventually("nothing of the lost pod is left", async || {
            let lost = BTreeSet::from([lost.id.clone()]);
            let left = leaks::named(&lost, node.dir());
            left.is_empty().then_some(())
        })
        .await;
        assert_eq!(kept.status().await.state(), PodSandboxState::SandboxReady);
        assert_eq!(kept.sh("echo works").await, "works\n");
        assert_ne!(kept.ip().await, ip);
    });
}

/// A record that cannot be read is a record: its pod runs on, keeps its address, and is there again once it is mended.
#[test]
#[ignore = "needs root"]
fn a_damaged_record_costs_the_pod_nothing() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let lost = node.pod().await;
        let (ip, pid) = (pod.ip().await, container.pid().await);
        let record = node.dir().join("s/pods").join(&pod.id).join("pod.json");
        let whole = std::fs::read(&record).expect("a record");
        node.daemon(Daemon::kill);
        std::fs::write(&record, "{").expect("a damaged record");
        lose_record(node, &lost);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        // The first round of care is over when it has freed what this one had.
        eventually("the first round of care is over", async || {
            leaks::named(&BTreeSet::from([lost.id.clone()]), node.dir())
                .is_empty()
                .then_some(())
        })
        .await;
        assert_ne!(node.pod().await.ip().await, ip, "its address is taken");
        node.daemon(Daemon::kill);
        std::fs::write(&record, whole).expect("a record");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        assert_eq!((pod.ip().await, container.pid().await), (ip, pid));
        assert_eq!(container.sh("echo alive").await, "alive\n");
    });
}

/// The same for the record of a container: what it has written is there once the record is mended.
#[test]
#[ignore = "needs root"]
fn a_damaged_record_costs_the_container_nothing() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        container.sh("echo kept > /file").await;
        let pid = container.pid().await;
        let directory = node.dir().join("s/pods").join(&pod.id).join("containers");
        let record = directory.join(&container.id).join("container.json");
        let whole = std::fs::read(&record).expect("a record");
        node.daemon(Daemon::kill);
        std::fs::write(&record, "{").expect("a damaged record");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        let other = pod.start(|_| {}).await;
        assert_eq!(other.sh("echo works").await, "works\n");
        node.daemon(Daemon::kill);
        std::fs::write(&record, whole).expect("a record");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        assert_eq!(container.pid().await, pid);
        assert_eq!(container.sh("cat /file").await, "kept\n");
    });
}
