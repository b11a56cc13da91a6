//! KEP-5825 (streamed lists): the same as the plain lists, in pieces that fit.

use pausa::proto::v1;
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use crate::harness::{ok, on_pausa, strings};

async fn all<T, I>(mut stream: Streaming<T>, items: impl Fn(T) -> Vec<I>) -> Vec<I> {
    let mut found = Vec::new();
    while let Some(piece) = stream.next().await {
        found.extend(items(piece.expect("a piece of the list")));
    }
    found
}

/// CRI StreamPodSandboxes, StreamContainers and StreamImages give what ListPodSandbox, ListContainers and ListImages give.
#[test]
#[ignore = "needs root"]
fn streamed_lists_are_the_lists() {
    on_pausa(async |node| {
        node.pull("silent").await;
        let pods = futures_util::future::join_all((0..3).map(|_| node.pod())).await;
        for pod in &pods {
            pod.create(pod.container_config()).await;
        }
        let mut runtime = node.runtime();
        let plain = ok(
            "List",
            runtime
                .list_pod_sandbox(v1::ListPodSandboxRequest::default())
                .await,
        )
        .items;
        let stream = ok(
            "Stream",
            runtime
                .stream_pod_sandboxes(v1::StreamPodSandboxesRequest::default())
                .await,
        );
        assert_eq!(all(stream, |piece| piece.pod_sandboxes).await, plain);
        assert_eq!(plain.len(), 3);

        let plain = ok(
            "List",
            runtime
                .list_containers(v1::ListContainersRequest::default())
                .await,
        )
        .containers;
        let stream = ok(
            "Stream",
            runtime
                .stream_containers(v1::StreamContainersRequest::default())
                .await,
        );
        assert_eq!(all(stream, |piece| piece.containers).await, plain);
        assert_eq!(plain.len(), 3);

        let mut images = node.images();
        let plain = ok("List", images.list_images(v1::ListImagesRequest::default()).await).images;
        let stream = ok(
            "Stream",
            images.stream_images(v1::StreamImagesRequest::default()).await,
        );
        assert_eq!(all(stream, |piece| piece.images).await, plain);
        assert_eq!(plain.len(), 2);
    });
}

/// The filters are the same, too; nothing found is a stream that ends.
#[test]
#[ignore = "needs root"]
fn streamed_lists_are_filtered() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        node.pod().await;
        let ended = pod.run(|config| config.command = strings(&["true"])).await;
        let mut runtime = node.runtime();
        let filter = v1::PodSandboxFilter {
            id: pod.id.clone(),
            ..Default::default()
        };
        let request = v1::StreamPodSandboxesRequest { filter: Some(filter) };
        let found = all(
            ok("Stream", runtime.stream_pod_sandboxes(request).await),
            |piece| piece.pod_sandboxes,
        )
        .await;
        assert_eq!(
            found.iter().map(|pod| pod.id.as_str()).collect::<Vec<_>>(),
            [pod.id.as_str()]
        );
        for (state, count) in [
            (v1::ContainerState::ContainerExited, 1),
            (v1::ContainerState::ContainerRunning, 0),
        ] {
            let filter = v1::ContainerFilter {
                id: ended.status.id.clone(),
                state: Some(v1::ContainerStateValue { state: state.into() }),
                ..Default::default()
            };
            let request = v1::StreamContainersRequest { filter: Some(filter) };
            let found = all(ok("Stream", runtime.stream_containers(request).await), |piece| {
                piece.containers
            })
            .await;
            assert_eq!(found.len(), count, "{state:?}");
        }
    });
}

/// A list larger than one message: every pod once.
#[test]
#[ignore = "needs root"]
fn a_long_list_is_whole() {
    on_pausa(async |node| {
        let big = "x".repeat(200 * 1024);
        for _ in 0..4 {
            node.pod_with(|config| drop(config.annotations.insert("big".to_owned(), big.clone())))
                .await;
        }
        let stream = node
            .runtime()
            .stream_pod_sandboxes(v1::StreamPodSandboxesRequest::default())
            .await;
        let found = all(ok("Stream", stream), |piece| piece.pod_sandboxes).await;
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|pod| pod.annotations["big"] == big));
    });
}
