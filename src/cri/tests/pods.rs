use super::*;

#[tokio::test]
async fn version_and_status_satisfy_kubelet() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let version = runtime
        .version(v1::VersionRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        [
            &version.version,
            &version.runtime_name,
            &version.runtime_version,
            &version.runtime_api_version
        ],
        ["0.1.0", "pausa", env!("CARGO_PKG_VERSION"), "v1"]
    );
    let reason = ("NoConfig".to_owned(), "no conflist in /etc/cni/net.d".to_owned());
    *door.fake.network.lock().unwrap() = Err(reason);
    let status = runtime
        .status(v1::StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    let conditions = status.status.unwrap().conditions;
    assert_eq!(conditions[0].r#type, "RuntimeReady");
    assert!(conditions[0].status);
    assert_eq!(conditions[1].r#type, "NetworkReady");
    assert!(!conditions[1].status);
    assert_eq!(conditions[1].reason, "NoConfig");
    assert_eq!(status.runtime_handlers[0].name, "");
    assert!(status.features.unwrap().supplemental_groups_policy);
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    assert_eq!(config["root"], "/var/lib/pausa");
    assert!(status.info.contains_key("cniconfig"));
    let quiet = runtime
        .status(v1::StatusRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(quiet.info.is_empty());
    let linux = runtime
        .runtime_config(v1::RuntimeConfigRequest {})
        .await
        .unwrap()
        .into_inner()
        .linux;
    assert_eq!(linux.unwrap().cgroup_driver(), v1::CgroupDriver::Systemd);
}

#[tokio::test]
async fn a_pod_needs_its_metadata_and_a_known_handler() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let mut run = async |config: Option<v1::PodSandboxConfig>, handler: &str| {
        let runtime_handler = handler.to_owned();
        runtime
            .run_pod_sandbox(v1::RunPodSandboxRequest {
                config,
                runtime_handler,
            })
            .await
    };
    refused(run(None, "").await, "config");
    refused(
        run(Some(v1::PodSandboxConfig::default()), "").await,
        "config.metadata",
    );
    type Spoil = fn(&mut v1::PodSandboxMetadata);
    let cases: [(&str, Spoil); 3] = [
        ("config.metadata.name", |m| m.name.clear()),
        ("config.metadata.namespace", |m| m.namespace.clear()),
        ("config.metadata.uid", |m| m.uid.clear()),
    ];
    for (field, spoil) in cases {
        let mut config = pod("web");
        spoil(config.metadata.as_mut().unwrap());
        refused(run(Some(config), "").await, field);
    }
    refused(run(Some(pod("web")), "kata").await, "kata");
    let id = run(Some(pod("web")), "")
        .await
        .unwrap()
        .into_inner()
        .pod_sandbox_id;
    assert_eq!(id, "pod00");
}

#[tokio::test]
async fn calls_about_one_object_need_its_id() {
    let door = Door::open().await;
    let mut r = door.runtime().await;
    refused(
        r.stop_pod_sandbox(v1::StopPodSandboxRequest::default()).await,
        "pod_sandbox_id",
    );
    refused(
        r.remove_pod_sandbox(v1::RemovePodSandboxRequest::default()).await,
        "pod_sandbox_id",
    );
    refused(
        r.pod_sandbox_status(v1::PodSandboxStatusRequest::default()).await,
        "pod_sandbox_id",
    );
    let update = v1::UpdatePodSandboxResourcesRequest::default();
    refused(r.update_pod_sandbox_resources(update).await, "pod_sandbox_id");
    refused(
        r.create_container(v1::CreateContainerRequest::default()).await,
        "pod_sandbox_id",
    );
    refused(
        r.start_container(v1::StartContainerRequest::default()).await,
        "container_id",
    );
    refused(
        r.stop_container(v1::StopContainerRequest::default()).await,
        "container_id",
    );
    refused(
        r.remove_container(v1::RemoveContainerRequest::default()).await,
        "container_id",
    );
    refused(
        r.container_status(v1::ContainerStatusRequest::default()).await,
        "container_id",
    );
    let update = v1::UpdateContainerResourcesRequest::default();
    refused(r.update_container_resources(update).await, "container_id");
    refused(
        r.reopen_container_log(v1::ReopenContainerLogRequest::default())
            .await,
        "container_id",
    );
    refused(r.exec_sync(v1::ExecSyncRequest::default()).await, "container_id");
}

#[tokio::test]
async fn a_container_needs_name_and_image() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let mut create = async |config: Option<v1::ContainerConfig>| {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: "pod00".into(),
            config,
            sandbox_config: None,
        };
        runtime.create_container(request).await
    };
    refused(create(None).await, "config");
    refused(
        create(Some(v1::ContainerConfig {
            metadata: None,
            ..container("a")
        }))
        .await,
        "config.metadata",
    );
    refused(create(Some(container(""))).await, "config.metadata.name");
    refused(
        create(Some(v1::ContainerConfig {
            image: None,
            ..container("a")
        }))
        .await,
        "config.image",
    );
    let nameless = v1::ContainerConfig {
        image: Some(image("")),
        ..container("a")
    };
    refused(create(Some(nameless)).await, "config.image.image");
    assert_eq!(
        create(Some(container("a")))
            .await
            .unwrap()
            .into_inner()
            .container_id,
        "ctr00"
    );
}

#[tokio::test]
async fn failures_keep_their_code_and_text() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let request = v1::ContainerStatusRequest {
        container_id: "nope".into(),
        verbose: false,
    };
    let status = runtime.container_status(request).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "no container has the id \"nope\"")
    );
    let request = v1::ReopenContainerLogRequest {
        container_id: "c".into(),
    };
    let status = runtime.reopen_container_log(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn timeouts_mean_what_kubernetes_says() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    for (asked, given) in [(-5, 0), (0, 0), (30, 30)] {
        let request = v1::StopContainerRequest {
            container_id: "c".into(),
            timeout: asked,
        };
        runtime.stop_container(request).await.unwrap();
        assert_eq!(door.fake.last_call(), format!("stop c {given}"));
    }
    let exec = |cmd: &[&str], timeout| v1::ExecSyncRequest {
        container_id: "c".into(),
        cmd: cmd.iter().map(|&word| word.to_owned()).collect(),
        timeout,
    };
    refused(runtime.exec_sync(exec(&["true"], -1)).await, "timeout");
    refused(runtime.exec_sync(exec(&[], 0)).await, "cmd");
    // A command that fails is an answer.
    let answer = runtime.exec_sync(exec(&["false"], 0)).await.unwrap().into_inner();
    assert_eq!((answer.exit_code, door.fake.last_call()), (7, "exec None".into()));
    let status = runtime.exec_sync(exec(&["slow"], 1)).await.unwrap_err();
    assert_eq!(
        (status.code(), door.fake.last_call()),
        (Code::DeadlineExceeded, "exec Some(1s)".into())
    );
}

#[tokio::test]
async fn a_panic_is_one_requests_error() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let request = v1::ExecSyncRequest {
        container_id: "c".into(),
        cmd: vec!["panic".into()],
        timeout: 0,
    };
    let status = runtime.exec_sync(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("the fake fell over"), "{status:?}");
    runtime.version(v1::VersionRequest::default()).await.unwrap();
}

#[tokio::test]
async fn lists_filter_and_streams_give_each_item_once() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    for n in 0..450 {
        let config = Some(pod(&n.to_string()));
        let runtime_handler = String::new();
        runtime
            .run_pod_sandbox(v1::RunPodSandboxRequest {
                config,
                runtime_handler,
            })
            .await
            .unwrap();
    }
    let filter = |id: &str| {
        Some(v1::PodSandboxFilter {
            id: id.into(),
            ..Default::default()
        })
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
    assert_eq!(list(filter("pod44")).await, 11);
    assert_eq!(list(filter("nope")).await, 0);
    let request = v1::StreamPodSandboxesRequest { filter: None };
    let mut stream = runtime.stream_pod_sandboxes(request).await.unwrap().into_inner();
    let mut ids = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        assert!(!message.pod_sandboxes.is_empty());
        ids.extend(message.pod_sandboxes.into_iter().map(|pod| pod.id));
    }
    assert_eq!(ids.len(), 450);
    ids.dedup();
    assert_eq!(ids.len(), 450);
    let request = v1::StreamContainersRequest { filter: None };
    let mut none = runtime.stream_containers(request).await.unwrap().into_inner();
    assert!(none.message().await.unwrap().is_none());
}

#[tokio::test]
async fn messages_of_many_mebibytes_pass_both_ways() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let mut config = container("big");
    config.labels.insert("x".into(), "y".repeat(15 * 1024 * 1024));
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: "p".into(),
        config: Some(config),
        sandbox_config: None,
    };
    runtime.create_container(request).await.unwrap();
    let listed = runtime
        .list_containers(v1::ListContainersRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.containers[0].labels["x"].len(), 15 * 1024 * 1024);
}

#[tokio::test]
async fn the_pod_cidr_is_checked_and_handed_on() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let request = |cidr: &str| v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(v1::NetworkConfig {
                pod_cidr: cidr.into(),
            }),
        }),
    };
    runtime.update_runtime_config(request("")).await.unwrap();
    assert_eq!(door.fake.last_call(), "");
    refused(
        runtime.update_runtime_config(request("10.0.0.0/99")).await,
        "pod_cidr",
    );
    runtime
        .update_runtime_config(request("10.1.0.0/24,fd00::/64"))
        .await
        .unwrap();
    assert_eq!(door.fake.last_call(), "cidr 10.1.0.0/24,fd00::/64");
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let request = v1::CheckpointContainerRequest::default();
    let status = runtime.checkpoint_container(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let text = status.message();
    assert!(text.contains("does not serve CheckpointContainer yet"), "{text}");
    let status = runtime
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}
