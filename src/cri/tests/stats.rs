use super::*;

#[tokio::test]
async fn a_single_container_or_pod_needs_an_id_that_is_known() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let mut of_container = async |id: &str| {
        let container_id = id.to_owned();
        let request = v1::ContainerStatsRequest { container_id };
        runtime.container_stats(request).await.unwrap_err()
    };
    let missing = of_container("").await;
    assert_eq!(missing.code(), Code::InvalidArgument);
    assert!(
        missing.message().contains("container_id"),
        "{}",
        missing.message()
    );
    assert_eq!(of_container("nope").await.code(), Code::NotFound);
    let mut of_pod = async |id: &str| {
        let pod_sandbox_id = id.to_owned();
        let request = v1::PodSandboxStatsRequest { pod_sandbox_id };
        runtime.pod_sandbox_stats(request).await.unwrap_err()
    };
    assert_eq!(of_pod("").await.code(), Code::InvalidArgument);
    assert_eq!(of_pod("nope").await.code(), Code::NotFound);
}

#[tokio::test]
async fn lists_and_streams_have_what_the_filter_matches() {
    let door = Door::open().await;
    for number in 0..450 {
        door.fake.containers.lock().unwrap().push(v1::Container {
            id: format!("ctr{number:03}"),
            ..Default::default()
        });
        door.fake.pods.lock().unwrap().push(v1::PodSandbox {
            id: format!("pod{number:03}"),
            ..Default::default()
        });
    }
    let mut runtime = door.runtime().await;
    let filter = v1::ContainerStatsFilter {
        id: "ctr44".into(),
        ..Default::default()
    };
    let request = v1::ListContainerStatsRequest { filter: Some(filter) };
    let list = runtime.list_container_stats(request).await.unwrap().into_inner();
    assert_eq!(list.stats.len(), 10);
    let request = v1::StreamContainerStatsRequest { filter: None };
    let mut stream = runtime
        .stream_container_stats(request)
        .await
        .unwrap()
        .into_inner();
    let mut sizes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        sizes.push(message.container_stats.len());
    }
    assert_eq!(sizes, [200, 200, 50]);
    let filter = v1::PodSandboxStatsFilter {
        id: "pod12".into(),
        ..Default::default()
    };
    let request = v1::ListPodSandboxStatsRequest {
        filter: Some(filter.clone()),
    };
    let list = runtime
        .list_pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.stats.len(), 10);
    let request = v1::StreamPodSandboxStatsRequest { filter: Some(filter) };
    let mut stream = runtime
        .stream_pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner();
    let message = stream.message().await.unwrap().unwrap();
    assert_eq!(message.pod_sandbox_stats.len(), 10);
    assert!(stream.message().await.unwrap().is_none());
}
