//! Two daemons whose directories differ share nothing on the node.

use pausa::proto::v1;

use crate::harness::{Node, ok, on_own_node};

async fn count(node: &Node) -> (usize, usize) {
    let pods = ok(
        "List",
        node.runtime()
            .list_pod_sandbox(v1::ListPodSandboxRequest::default())
            .await,
    )
    .items;
    let images = ok(
        "List",
        node.images().list_images(v1::ListImagesRequest::default()).await,
    )
    .images;
    (pods.len(), images.len())
}

/// Each sees its own pods and images; one's start, end and clean-up spare the other's.
#[test]
#[ignore = "needs root"]
fn two_daemons_side_by_side() {
    on_own_node(async |one| {
        let two = Node::start().await;
        let pod = one.pod().await;
        let container = pod.start(|_| {}).await;
        assert_eq!(count(one).await, (1, 1));
        assert_eq!(count(&two).await, (0, 0));
        let other = two.pod().await;
        assert_eq!(other.sh("echo works").await, "works\n");
        two.kill_and_restart_daemon().await;
        assert_eq!(
            container.sh("echo alive").await,
            "alive\n",
            "the other's start collects nothing of ours"
        );
        assert_ne!(pod.ip().await, other.ip().await);
        two.clean_up().await;
        let left = two.finish();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(container.sh("echo alive").await, "alive\n");
        assert_eq!(count(one).await, (1, 1));
    });
}
