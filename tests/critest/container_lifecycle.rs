//! Containers: states, exit codes, reasons.
//!
//! ```text
//!   CREATED ──StartContainer──▶ RUNNING ──exit, kill──▶ EXITED ──RemoveContainer──▶ gone
//! ```

use pausa::proto::v1;
use pausa::proto::v1::ContainerState;
use tonic::Code;

use crate::container_lists::list;
use crate::harness::node::{reference, spec};
use crate::harness::registry::Registry;
use crate::harness::{map, ok, on_node, on_pausa, refused, strings};

const MISSING: &str = "0000000000000000000000000000000000000000000000000000000000000002";

/// CRI `ContainerStatus.{created,started,finished}_at`: nanoseconds, 0 for what has not happened yet.
#[test]
#[ignore = "needs root"]
fn each_state_has_its_timestamps() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.create(pod.container_config()).await;
        let created = container.status().await;
        assert_eq!(created.state(), ContainerState::ContainerCreated);
        assert!(created.created_at > 0);
        assert_eq!((created.started_at, created.finished_at), (0, 0));
        container.start().await;
        let running = container.status().await;
        assert_eq!(running.state(), ContainerState::ContainerRunning);
        assert_eq!(running.created_at, created.created_at);
        assert!(running.started_at >= running.created_at);
        assert_eq!(running.finished_at, 0);
        container.stop(10).await;
        let exited = container.status().await;
        assert_eq!(exited.state(), ContainerState::ContainerExited);
        assert_eq!(exited.started_at, running.started_at);
        assert!(exited.finished_at >= exited.started_at);
    });
}

/// CRI `ContainerStatus`: the identity kubelet finds the container by, and the image by name, reference and id.
#[test]
#[ignore = "needs root"]
fn the_status_says_what_was_asked_for() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.annotations = map(&[("io.kubernetes.container.hash", "a1b2"), ("empty", "")]);
                config.labels.insert("more".to_owned(), "labels".to_owned());
            })
            .await;
        let status = container.status().await;
        assert_eq!(status.metadata, container.config.metadata);
        assert_eq!(status.labels, container.config.labels);
        assert_eq!(status.annotations, container.config.annotations);
        assert_eq!(
            status.log_path,
            container.log.display().to_string(),
            "absolute path"
        );
        assert_eq!(status.image.expect("an image").image, reference("base"));
        assert_eq!(status.image_id, Registry::get().image("base").id);
        assert!(!status.image_ref.is_empty());
        assert_eq!(container.id.len(), 64);
    });
}

/// CRI `ContainerStatusResponse.info`: `pid`, `sandboxID`, `runtimeSpec` and `config` are what node agents read.
#[test]
#[ignore = "needs root"]
fn the_verbose_status_has_what_tools_read() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let json = container.details().await;
        assert_eq!(json["sandboxID"], pod.id.as_str());
        assert!(json["runtimeSpec"]["process"]["args"].is_array(), "{json}");
        assert!(json["config"]["metadata"].is_object(), "{json}");
        let pid = container.pid().await;
        let seen = crate::harness::leaks::command(pid);
        assert!(seen.contains("trap"), "process {pid} is {seen}");
    });
}

/// CRI `ContainerStatus.{exit_code,reason}`: `Completed` and `Error` are the words users know.
#[test]
#[ignore = "needs root"]
fn exit_codes_have_their_reasons() {
    on_node(async |node| {
        let pod = node.pod().await;
        for (script, code, reason) in [
            ("exit 0", 0, "Completed"),
            ("exit 1", 1, "Error"),
            ("exit 255", 255, "Error"),
            ("kill -KILL $$", 137, "Error"),
        ] {
            // A shell that is PID 1 cannot kill itself: let one below it do that.
            let wrapped = format!("sh -c '{script}'; exit $?");
            let ended = pod
                .run(|config| config.command = strings(&["sh", "-c", &wrapped]))
                .await;
            assert_eq!(
                (ended.status.exit_code, ended.status.reason.as_str()),
                (code, reason),
                "{script}"
            );
        }
    });
}

/// kubelet's RunContainerError: StartContainer fails, and the container stays to be looked at.
#[test]
#[ignore = "needs root"]
fn a_command_that_does_not_exist_is_a_start_error() {
    on_node(async |node| {
        let pod = node.pod().await;
        for command in ["/no/such/program", "no-such-program-on-path", "/etc/passwd"] {
            let mut config = pod.container_config();
            config.command = strings(&[command]);
            let container = pod.create(config).await;
            let status = container.try_start().await.expect_err("nothing to execute");
            assert!(status.message().contains(command), "{}", status.message());
            let ended = container.end().await.status;
            assert_eq!((ended.exit_code, ended.reason.as_str()), (128, "StartError"));
            assert!(ended.message.contains(command), "{}", ended.message);
            assert!(ended.finished_at > 0);
        }
    });
}

/// CRI StartContainer: only a CREATED container starts.
#[test]
#[ignore = "needs root"]
fn a_container_starts_once() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        assert!(container.try_start().await.is_err(), "it is running");
        assert_eq!(container.status().await.state(), ContainerState::ContainerRunning);
        container.stop(10).await;
        assert!(container.try_start().await.is_err(), "it has exited");
        assert_eq!(container.status().await.state(), ContainerState::ContainerExited);
    });
}

/// kubelet repeats CreateContainer after its own deadline: same name, attempt and configuration are the same container.
#[test]
#[ignore = "needs root"]
fn the_same_create_again_is_the_same_container() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let config = pod.container_config();
        let first = ok("CreateContainer", pod.try_create(&config).await).container_id;
        let again = ok("CreateContainer", pod.try_create(&config).await).container_id;
        assert_eq!(first, again);
        let calls = (0..8).map(|_| pod.try_create(&config));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(ok("CreateContainer", answer).container_id, first);
        }
        let filter = v1::ContainerFilter {
            pod_sandbox_id: pod.id.clone(),
            ..Default::default()
        };
        assert_eq!(list(node, filter).await.len(), 1);
    });
}

/// CRI `ContainerMetadata.attempt`: a restart by kubelet is another container beside the exited one.
#[test]
#[ignore = "needs root"]
fn the_next_attempt_is_another_container() {
    on_node(async |node| {
        let pod = node.pod().await;
        let first = pod.run(|config| config.command = strings(&["true"])).await;
        let mut config = pod.container_config();
        config.metadata = first.status.metadata.clone();
        config.metadata.as_mut().expect("metadata").attempt = 1;
        let second = pod.create(config).await;
        assert_ne!(first.status.id, second.id);
    });
}

/// CRI RemoveContainer: "If the container is running, the container must be forcibly removed."
#[test]
#[ignore = "needs root"]
fn a_running_container_can_be_removed() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let pid = container.pid().await;
        container.remove().await;
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "process {pid} lives on"
        );
        refused(Code::NotFound, container.try_status(false).await);
        assert_eq!(pod.status().await.state(), v1::PodSandboxState::SandboxReady);
    });
}

/// CRI Stop/RemoveContainer: idempotent, "must not return an error if the container has already been" stopped or removed.
#[test]
#[ignore = "needs root"]
fn stopping_and_removing_an_unknown_container_succeeds() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.create(pod.container_config()).await;
        container.remove().await;
        container.remove().await;
        container.stop(1).await;
        let mut runtime = node.runtime();
        let id = || MISSING.to_owned();
        ok(
            "Stop",
            runtime
                .stop_container(v1::StopContainerRequest {
                    container_id: id(),
                    timeout: 1,
                })
                .await,
        );
        ok(
            "Remove",
            runtime
                .remove_container(v1::RemoveContainerRequest { container_id: id() })
                .await,
        );
    });
}

/// NotFound for everything else that is asked of a container that is not there.
#[test]
#[ignore = "needs root"]
fn an_unknown_container_is_not_found() {
    on_node(async |node| {
        let mut runtime = node.runtime();
        let container_id = || MISSING.to_owned();
        refused(
            Code::NotFound,
            runtime
                .container_status(v1::ContainerStatusRequest {
                    container_id: container_id(),
                    verbose: false,
                })
                .await,
        );
        refused(
            Code::NotFound,
            runtime
                .start_container(v1::StartContainerRequest {
                    container_id: container_id(),
                })
                .await,
        );
        let exec = v1::ExecSyncRequest {
            container_id: container_id(),
            cmd: strings(&["true"]),
            timeout: 1,
        };
        refused(Code::NotFound, runtime.exec_sync(exec).await);
        let reopen = v1::ReopenContainerLogRequest {
            container_id: container_id(),
        };
        refused(Code::NotFound, runtime.reopen_container_log(reopen).await);
        let update = v1::UpdateContainerResourcesRequest {
            container_id: container_id(),
            linux: Some(v1::LinuxContainerResources {
                cpu_shares: 10,
                ..Default::default()
            }),
            ..Default::default()
        };
        refused(Code::NotFound, runtime.update_container_resources(update).await);
    });
}

/// CreateContainer with an image that was never pulled: kubelet pulls first, so the text must say what is missing.
#[test]
#[ignore = "needs root"]
fn an_image_that_is_not_there_is_named() {
    on_node(async |node| {
        let pod = node.pod().await;
        let mut config = pod.container_config();
        config.image = Some(spec("registry.test/critest/never-pulled:1"));
        let text = refused(Code::NotFound, pod.try_create(&config).await);
        assert!(text.contains("never-pulled"), "{text}");
    });
}

/// CRI `PodSandboxStatusResponse.containers_statuses` belongs to evented PLEG; the plain status must at least not lie about the pod.
#[test]
#[ignore = "needs root"]
fn stopping_the_pod_ends_its_containers_with_their_exit_codes() {
    on_node(async |node| {
        let pod = node.pod().await;
        let done = pod
            .run(|config| config.command = strings(&["sh", "-c", "exit 7"]))
            .await;
        let running = pod.start(|_| {}).await;
        pod.stop().await;
        let status = running.status().await;
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert!(status.finished_at > 0);
        let request = v1::ContainerStatusRequest {
            container_id: done.status.id.clone(),
            verbose: false,
        };
        let kept = ok("ContainerStatus", node.runtime().container_status(request).await);
        assert_eq!(
            kept.status.expect("a status").exit_code,
            7,
            "an earlier exit is not rewritten"
        );
    });
}

/// A hundred short lives in one pod leave the pod as it was.
#[test]
#[ignore = "needs root"]
fn containers_come_and_go() {
    on_node(async |node| {
        let pod = node.pod().await;
        for round in 0..20_u8 {
            let script = format!("echo {round}; exit {round}");
            let ended = pod
                .run(|config| config.command = strings(&["sh", "-c", &script]))
                .await;
            assert_eq!(ended.status.exit_code, i32::from(round));
            assert_eq!(ended.stdout(), format!("{round}\n"));
        }
        let filter = v1::ContainerFilter {
            pod_sandbox_id: pod.id.clone(),
            ..Default::default()
        };
        assert_eq!(list(node, filter).await.len(), 20);
    });
}
