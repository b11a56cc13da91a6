//! ListContainers: filters, and what kubelet's relist reads.

use pausa::proto::v1;
use pausa::proto::v1::ContainerState;

use crate::harness::node::reference;
use crate::harness::registry::Registry;
use crate::harness::{Node, map, ok, on_node};

const MISSING: &str = "0000000000000000000000000000000000000000000000000000000000000003";

pub(crate) async fn list(node: &Node, filter: v1::ContainerFilter) -> Vec<v1::Container> {
    let request = v1::ListContainersRequest { filter: Some(filter) };
    ok("ListContainers", node.runtime().list_containers(request).await).containers
}

/// CRI ListContainers with every kind of filter; an unknown id or pod is an empty list.
#[test]
#[ignore = "needs root"]
fn the_list_can_be_filtered() {
    on_node(async |node| {
        let pod = node.pod().await;
        let other = node.pod().await;
        let running = pod
            .start(|config| drop(config.labels.insert("which".to_owned(), "running".to_owned())))
            .await;
        let created = pod.create(pod.container_config()).await;
        let foreign = other.create(other.container_config()).await;
        let of_pod = |state: Option<ContainerState>, pairs: &[(&str, &str)]| v1::ContainerFilter {
            pod_sandbox_id: pod.id.clone(),
            state: state.map(|state| v1::ContainerStateValue { state: state.into() }),
            label_selector: map(pairs),
            ..Default::default()
        };
        let ids = async |filter| {
            let mut ids: Vec<_> = list(node, filter).await.into_iter().map(|c| c.id).collect();
            ids.sort();
            ids
        };
        let mut both = vec![running.id.clone(), created.id.clone()];
        both.sort();
        assert_eq!(ids(of_pod(None, &[])).await, both);
        assert_eq!(
            ids(of_pod(Some(ContainerState::ContainerRunning), &[])).await,
            [running.id.as_str()]
        );
        assert_eq!(
            ids(of_pod(Some(ContainerState::ContainerCreated), &[])).await,
            [created.id.as_str()]
        );
        assert!(
            ids(of_pod(Some(ContainerState::ContainerExited), &[]))
                .await
                .is_empty()
        );
        assert_eq!(
            ids(of_pod(None, &[("which", "running")])).await,
            [running.id.as_str()]
        );
        let by_id = |id: &str| v1::ContainerFilter {
            id: id.to_owned(),
            ..Default::default()
        };
        assert_eq!(ids(by_id(&foreign.id)).await, [foreign.id.as_str()]);
        assert_eq!(ids(by_id(&foreign.id[..13])).await, [foreign.id.as_str()]);
        assert!(ids(by_id(MISSING)).await.is_empty());
        assert!(
            ids(v1::ContainerFilter {
                pod_sandbox_id: MISSING.to_owned(),
                ..Default::default()
            })
            .await
            .is_empty()
        );
    });
}

/// CRI `Container` in lists: pod, image, labels and annotations, so that kubelet's relist needs no status.
#[test]
#[ignore = "needs root"]
fn the_list_has_what_a_relist_needs() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.create(pod.container_config()).await;
        let filter = v1::ContainerFilter {
            id: container.id.clone(),
            ..Default::default()
        };
        let [item] = &list(node, filter).await[..] else {
            panic!("one container")
        };
        assert_eq!(item.pod_sandbox_id, pod.id);
        assert_eq!(item.metadata, container.config.metadata);
        assert_eq!(item.labels, container.config.labels);
        assert_eq!(item.image_id, Registry::get().image("base").id);
        assert_eq!(item.image.as_ref().expect("an image").image, reference("base"));
        assert_eq!(item.created_at, container.status().await.created_at);
    });
}
