use super::*;

#[tokio::test]
async fn version_and_status_satisfy_kubelet() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let version = runtime.version(v1::VersionRequest::default()).await;
    let version = version.unwrap().into_inner();
    assert_eq!(
        [
            &version.version,
            &version.runtime_name,
            &version.runtime_version,
            &version.runtime_api_version
        ],
        ["0.1.0", "pausa", env!("CARGO_PKG_VERSION"), "v1"]
    );
    let status = runtime.status(v1::StatusRequest { verbose: true }).await;
    let status = status.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    assert_eq!(conditions[0].r#type, "RuntimeReady");
    assert!(conditions[0].status);
    // There is no CNI configuration.
    assert_eq!(conditions[1].r#type, "NetworkReady");
    assert!(!conditions[1].status);
    assert!(!conditions[1].reason.is_empty());
    assert!(conditions[1].message.contains("net.d"), "{conditions:?}");
    assert_eq!(status.runtime_handlers[0].name, "");
    assert!(status.features.unwrap().supplemental_groups_policy);
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    assert_eq!(
        config["root"],
        server.services.node.running.config().root.to_str().unwrap()
    );
    assert!(status.info.contains_key("cniconfig"));
    let quiet = runtime.status(v1::StatusRequest::default()).await;
    assert!(quiet.unwrap().into_inner().info.is_empty());
    let config = runtime.runtime_config(v1::RuntimeConfigRequest {}).await;
    let linux = config.unwrap().into_inner().linux.unwrap();
    assert_eq!(linux.cgroup_driver(), v1::CgroupDriver::Systemd);
}

#[tokio::test]
async fn a_pod_needs_its_metadata_and_a_known_handler() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
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
}

#[tokio::test]
async fn calls_about_one_object_need_its_id() {
    let server = Server::start().await;
    let mut r = server.runtime().await;
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
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let mut create = async |config: Option<v1::ContainerConfig>| {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: unknown(),
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
    // What is left to refuse is the pod.
    not_found(create(Some(container("a"))).await);
}

#[tokio::test]
async fn failures_keep_their_code_and_text() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let request = v1::ContainerStatusRequest {
        container_id: unknown(),
        verbose: false,
    };
    let status = runtime.container_status(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&unknown()), "{status:?}");
}

/// CRI: stop and remove are idempotent, and a grace period below zero is none.
#[tokio::test]
async fn what_is_unknown_is_stopped_and_removed() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    for timeout in [-5, 0, 30] {
        let container_id = unknown();
        let request = v1::StopContainerRequest {
            container_id,
            timeout,
        };
        runtime.stop_container(request).await.unwrap();
    }
    let container_id = unknown();
    let request = v1::RemoveContainerRequest { container_id };
    runtime.remove_container(request).await.unwrap();
    let pod_sandbox_id = unknown();
    let request = v1::StopPodSandboxRequest { pod_sandbox_id };
    runtime.stop_pod_sandbox(request).await.unwrap();
    let pod_sandbox_id = unknown();
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id };
    runtime.remove_pod_sandbox(request).await.unwrap();
}

#[tokio::test]
async fn execs_need_a_command_and_a_time() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let exec = |cmd: &[&str], timeout| v1::ExecSyncRequest {
        container_id: unknown(),
        cmd: cmd.iter().map(|&word| word.to_owned()).collect(),
        timeout,
    };
    refused(runtime.exec_sync(exec(&["true"], -1)).await, "timeout");
    refused(runtime.exec_sync(exec(&[], 0)).await, "cmd");
    refused(runtime.exec_sync(exec(&["a\0b"], 0)).await, "cmd");
    not_found(runtime.exec_sync(exec(&["true"], 0)).await);
}

#[tokio::test]
async fn the_pod_cidr_is_checked_and_handed_on() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let request = |cidr: &str| v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(v1::NetworkConfig {
                pod_cidr: cidr.into(),
            }),
        }),
    };
    runtime.update_runtime_config(request("")).await.unwrap();
    refused(
        runtime.update_runtime_config(request("10.0.0.0/99")).await,
        "pod_cidr",
    );
    runtime
        .update_runtime_config(request("10.1.0.0/24,fd00::/64"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let request = v1::CheckpointContainerRequest::default();
    let status = runtime.checkpoint_container(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let text = status.message();
    assert!(text.contains("does not serve CheckpointContainer yet"), "{text}");
}

/// What makes a request wrong.
type Spoil<T> = fn(&mut T);

fn exec() -> v1::ExecRequest {
    v1::ExecRequest {
        container_id: unknown(),
        cmd: vec!["true".into()],
        stdout: true,
        ..Default::default()
    }
}

fn attach() -> v1::AttachRequest {
    v1::AttachRequest {
        container_id: unknown(),
        stdin: true,
        tty: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn unknown_containers_and_pods_get_no_url() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    not_found(runtime.exec(exec()).await);
    not_found(runtime.attach(attach()).await);
    let request = v1::PortForwardRequest {
        pod_sandbox_id: unknown(),
        port: vec![1, 65535],
    };
    not_found(runtime.port_forward(request).await);
}

#[tokio::test]
async fn wrong_execs_are_refused() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let wrong: [(&str, Spoil<v1::ExecRequest>); 4] = [
        ("container_id", |request| request.container_id.clear()),
        ("cmd", |request| request.cmd.clear()),
        ("one of stdin, stdout and stderr", |request| {
            request.stdout = false;
        }),
        ("tty and stderr cannot both be true", |request| {
            (request.tty, request.stderr) = (true, true);
        }),
    ];
    for (field, spoil) in wrong {
        let mut request = exec();
        spoil(&mut request);
        refused(runtime.exec(request).await, field);
    }
}

#[tokio::test]
async fn wrong_attaches_are_refused() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let wrong: [(&str, Spoil<v1::AttachRequest>); 3] = [
        ("container_id", |request| request.container_id.clear()),
        ("one of stdin, stdout and stderr", |request| request.stdin = false),
        ("tty and stderr cannot both be true", |request| {
            request.stderr = true;
        }),
    ];
    for (field, spoil) in wrong {
        let mut request = attach();
        spoil(&mut request);
        refused(runtime.attach(request).await, field);
    }
}

#[tokio::test]
async fn wrong_port_forwards_are_refused() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
    let request = v1::PortForwardRequest::default();
    refused(runtime.port_forward(request).await, "pod_sandbox_id");
    for port in [-1, 0, 65_536] {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: unknown(),
            port: vec![80, port],
        };
        refused(runtime.port_forward(request).await, &port.to_string());
    }
}

#[tokio::test]
async fn a_single_container_or_pod_needs_an_id_that_is_known() {
    let server = Server::start().await;
    let mut runtime = server.runtime().await;
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
    assert_eq!(of_container(&unknown()).await.code(), Code::NotFound);
    let mut of_pod = async |id: &str| {
        let pod_sandbox_id = id.to_owned();
        let request = v1::PodSandboxStatsRequest { pod_sandbox_id };
        runtime.pod_sandbox_stats(request).await.unwrap_err()
    };
    assert_eq!(of_pod("").await.code(), Code::InvalidArgument);
    assert_eq!(of_pod(&unknown()).await.code(), Code::NotFound);
}
