//! Lists of many and of large items: filters, streams in several messages, 16 MiB both ways.

use super::*;

#[tokio::test]
async fn lists_filter_and_streams_give_each_item_once() {
    let server = Server::start().await;
    for number in 0..450 {
        let mut config = pod(&number.to_string());
        config.labels.insert("number".into(), number.to_string());
        server.services.pods.publish(config, vec![container("a")]);
    }
    let mut runtime = server.runtime().await;
    let filter = |number: &str| v1::PodSandboxFilter {
        label_selector: [("number".to_owned(), number.to_owned())].into(),
        ..Default::default()
    };
    let mut list = async |filter| {
        let request = v1::ListPodSandboxRequest { filter };
        runtime
            .list_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .items
            .len()
    };
    assert_eq!(list(None).await, 450);
    assert_eq!(list(Some(filter("44"))).await, 1);
    assert_eq!(list(Some(filter("nope"))).await, 0);
    let request = v1::StreamPodSandboxesRequest { filter: None };
    let mut stream = runtime.stream_pod_sandboxes(request).await.unwrap().into_inner();
    let (mut ids, mut sizes) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await.unwrap() {
        sizes.push(message.pod_sandboxes.len());
        ids.extend(message.pod_sandboxes.into_iter().map(|pod| pod.id));
    }
    assert_eq!(sizes, [200, 200, 50]);
    ids.dedup();
    assert_eq!(ids.len(), 450);
    let request = v1::StreamContainersRequest { filter: None };
    let mut stream = runtime.stream_containers(request).await.unwrap().into_inner();
    let mut containers = 0;
    while let Some(message) = stream.message().await.unwrap() {
        containers += message.containers.len();
    }
    assert_eq!(containers, 450);
}

#[tokio::test]
async fn stats_list_what_the_filter_matches() {
    let server = Server::start().await;
    for number in 0..250 {
        let mut config = container("a");
        config.labels.insert("even".into(), (number % 2 == 0).to_string());
        server
            .services
            .pods
            .publish(pod(&number.to_string()), vec![config]);
    }
    let mut runtime = server.runtime().await;
    let filter = v1::ContainerStatsFilter {
        label_selector: [("even".to_owned(), "true".to_owned())].into(),
        ..Default::default()
    };
    let request = v1::ListContainerStatsRequest { filter: Some(filter) };
    let list = runtime.list_container_stats(request).await.unwrap().into_inner();
    assert_eq!(list.stats.len(), 125);
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
    assert_eq!(sizes, [200, 50]);
    let request = v1::ListPodSandboxStatsRequest { filter: None };
    let list = runtime
        .list_pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.stats.len(), 250);
    let request = v1::StreamPodSandboxStatsRequest { filter: None };
    let mut stream = runtime
        .stream_pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        stream.message().await.unwrap().unwrap().pod_sandbox_stats.len(),
        200
    );
}

#[tokio::test]
async fn messages_of_many_mebibytes_pass_both_ways() {
    const SIZE: usize = 15 * 1024 * 1024;
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let mut config = container("big");
    config.labels.insert("x".into(), "y".repeat(SIZE));
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: unknown(),
        config: Some(config.clone()),
        sandbox_config: None,
    };
    // It was read to its end, and then the pod was looked for.
    not_found(runtime.create_container(request).await);
    server.services.pods.publish(pod("a"), vec![config]);
    let listed = runtime
        .list_containers(v1::ListContainersRequest::default())
        .await;
    assert_eq!(listed.unwrap().into_inner().containers[0].labels["x"].len(), SIZE);
}
