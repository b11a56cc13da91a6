//! StopContainer: which signal, how long, and who waits for whom.

use std::time::{Duration, Instant};

use pausa::proto::v1;
use pausa::proto::v1::ContainerState;

use crate::harness::node::{reference, spec};
use crate::harness::{ok, on_node, on_pausa, strings};

/// A shell that answers a signal with an exit code of its own.
fn answers(signal: &str, code: u8) -> Vec<String> {
    let script = format!("trap 'exit {code}' {signal}; echo up; sleep 3600 & wait");
    strings(&["sh", "-c", &script])
}

/// A shell that ignores everything it may.
fn stubborn() -> Vec<String> {
    strings(&[
        "sh",
        "-c",
        "trap '' TERM INT HUP; echo up; while :; do sleep 3600 & wait; done",
    ])
}

/// CRI StopContainer: the default signal is SIGTERM, and a container that obeys is not killed.
#[test]
#[ignore = "needs root"]
fn the_container_may_end_by_itself() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| config.command = answers("TERM", 5)).await;
        container.says("up").await;
        container.stop(60).await;
        let status = container.status().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (5, "Error"));
    });
}

/// CRI `StopContainerRequest.timeout`: "Default: 0 (forcibly terminate the container immediately)".
#[test]
#[ignore = "needs root"]
fn without_grace_it_is_killed_at_once() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| config.command = stubborn()).await;
        container.says("up").await;
        container.stop(0).await;
        let status = container.status().await;
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!(status.exit_code, 137);
    });
}

/// After the grace period SIGKILL follows.
#[test]
#[ignore = "needs root"]
fn after_the_grace_it_is_killed() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| config.command = stubborn()).await;
        container.says("up").await;
        container.stop(1).await;
        assert_eq!(container.status().await.exit_code, 137);
    });
}

/// kubelet shortens the grace period with a second StopContainer (eviction, a forced delete).
#[test]
#[ignore = "needs root"]
fn a_second_stop_with_less_grace_shortens_the_first() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| config.command = stubborn()).await;
        container.says("up").await;
        let start = Instant::now();
        let (first, ()) = tokio::join!(container.try_stop(300), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            container.stop(1).await;
        });
        ok("the first StopContainer", first);
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "five minutes were not waited for"
        );
        assert_eq!(container.status().await.exit_code, 137);
    });
}

/// The client going away does not call off the kill.
#[test]
#[ignore = "needs root"]
fn a_stop_goes_on_without_its_client() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| config.command = stubborn()).await;
        container.says("up").await;
        let request = v1::StopContainerRequest {
            container_id: container.id.clone(),
            timeout: 1,
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_millis(100));
        assert!(
            node.runtime().stop_container(request).await.is_err(),
            "the client gives up first"
        );
        assert_eq!(container.end().await.status.exit_code, 137);
    });
}

/// CRI StopContainer on CREATED and EXITED containers changes nothing.
#[test]
#[ignore = "needs root"]
fn stopping_what_does_not_run_is_nothing() {
    on_node(async |node| {
        let pod = node.pod().await;
        let created = pod.create(pod.container_config()).await;
        created.stop(5).await;
        let exited = pod
            .start(|config| config.command = strings(&["sh", "-c", "exit 3"]))
            .await;
        let before = exited.end().await.status;
        exited.stop(5).await;
        assert_eq!(exited.status().await, before);
    });
}

/// OCI image spec `StopSignal`, and CRI `ContainerStatus.stop_signal` (KEP-4960).
#[test]
#[ignore = "needs root"]
fn the_image_chooses_the_signal() {
    on_node(async |node| {
        node.pull("rich").await;
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.image = Some(spec(&reference("rich")));
                config.command = answers("USR1", 9);
            })
            .await;
        container.says("up").await;
        assert_eq!(container.status().await.stop_signal(), v1::Signal::Sigusr1);
        container.stop(60).await;
        assert_eq!(container.status().await.exit_code, 9);
    });
}

/// CRI `ContainerConfig.stop_signal` (KEP-4960): the request's choice before the image's.
#[test]
#[ignore = "needs root"]
fn the_request_chooses_before_the_image() {
    on_node(async |node| {
        node.pull("rich").await;
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.image = Some(spec(&reference("rich")));
                config.command = answers("INT", 8);
                config.set_stop_signal(v1::Signal::Sigint);
            })
            .await;
        container.says("up").await;
        assert_eq!(container.status().await.stop_signal(), v1::Signal::Sigint);
        container.stop(60).await;
        assert_eq!(container.status().await.exit_code, 8);
    });
}

/// CRI `ContainerStatus.stop_signal`: SIGTERM where nobody chose.
#[test]
#[ignore = "needs root"]
fn the_signal_of_nobody_is_sigterm() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        assert_eq!(container.status().await.stop_signal(), v1::Signal::Sigterm);
    });
}

/// The end of PID 1 is the end of everything in its PID namespace (pid_namespaces(7)).
#[test]
#[ignore = "needs root"]
fn what_the_container_started_ends_with_it() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.command = strings(&[
                    "sh",
                    "-c",
                    "trap '' TERM; sleep 3601 & sleep 3602 & echo up; wait; wait",
                ]);
            })
            .await;
        container.says("up").await;
        let before = crate::harness::leaks::processes(node.slot());
        assert!(before.len() >= 3, "a shell and two sleeps: {before:?}");
        container.stop(0).await;
        for pid in crate::harness::leaks::processes(node.slot()) {
            let command = crate::harness::leaks::command(pid);
            assert!(!command.contains("sleep 360"), "process {pid}: {command}");
        }
    });
}
