//! Attach: joining the streams of a container's first process, over SPDY and WebSocket.

use pausa::proto::v1;
use tonic::Code;

use crate::harness::stream::{Remote, Transport, Want};
use crate::harness::{Container, eventually, ok, on_node, on_pausa, refused, strings};

/// A container that answers what is typed, with `stdin` or with a terminal too.
fn answering(config: &mut v1::ContainerConfig) {
    let script = "echo up; while read -r line; do echo \"<$line>\"; echo \"!$line!\" >&2; done; echo down";
    config.command = strings(&["sh", "-c", script]);
    config.stdin = true;
}

/// CRI Attach: output from now on, both streams apart, and typing. Leaving ends neither the container nor its stdin.
#[test]
#[ignore = "needs root"]
fn clients_come_and_go() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(answering).await;
        container.says("up").await;
        for transport in Transport::BOTH {
            for word in ["one", "two"] {
                let mut remote = container.attach(transport, Want::ALL).await;
                remote.send(format!("{word}\n").as_bytes()).await;
                let seen = remote.until(&format!("<{word}>\n")).await;
                assert!(!seen.contains("up"), "no history: {seen}");
            }
        }
        container.says("stdout F <two>").await;
        container.says("stderr F !two!").await;
        assert_eq!(
            container.status().await.state(),
            v1::ContainerState::ContainerRunning
        );
    });
}

/// Several clients read the same and may all type.
#[test]
#[ignore = "needs root"]
fn several_are_attached_at_once() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(answering).await;
        container.says("up").await;
        let mut first = container.attach(Transport::SPDY, Want::ALL).await;
        let mut second = container.attach(Transport::WEBSOCKET, Want::ALL).await;
        // That both have joined is known once each has been answered.
        first.send(b"hello\n").await;
        first.until("<hello>\n").await;
        second.send(b"there\n").await;
        second.until("<there>\n").await;
        first.until("<there>\n").await;
        drop(first);
        second.send(b"alone\n").await;
        second.until("<alone>\n").await;
    });
}

/// The container's end is the end of an attach, and no failure of it.
#[test]
#[ignore = "needs root"]
fn the_containers_end_is_told() {
    on_node(async |node| {
        let pod = node.pod().await;
        for transport in Transport::BOTH {
            let container = pod.start(answering).await;
            container.says("up").await;
            let mut remote = container.attach(transport, Want::ALL).await;
            remote.send(b"x\n").await;
            remote.until("<x>\n").await;
            container.stop(0).await;
            let done = remote.finish().await;
            assert_eq!(done.code(), 0, "{transport:?}");
        }
    });
}

/// CRI `stdin_once`: the end of the first client's stdin, or the client's, is the end of the container's.
#[test]
#[ignore = "needs root"]
fn stdin_once() {
    on_node(async |node| {
        let pod = node.pod().await;
        for transport in Transport::BOTH {
            let once = |config: &mut v1::ContainerConfig| {
                answering(config);
                config.stdin_once = true;
            };
            let container = pod.start(once).await;
            container.says("up").await;
            let mut remote = container.attach(transport, Want::ALL).await;
            remote.send(b"last\n").await;
            remote.until("<last>\n").await;
            drop(remote);
            assert!(container.end().await.stdout().ends_with("<last>\ndown\n"));

            let container = pod.start(once).await;
            container.says("up").await;
            let mut remote = container.attach(transport, Want::ALL).await;
            remote.send(b"last\n").await;
            remote.end_stdin().await;
            let done = remote.finish().await;
            assert!(
                done.stdout().ends_with("<last>\ndown\n"),
                "{transport:?}: {done:?}"
            );
        }
    });
}

/// A container with a terminal: one stream, sizes, and what is typed is echoed.
#[test]
#[ignore = "needs root"]
fn a_terminal() {
    on_node(async |node| {
        let pod = node.pod().await;
        for transport in Transport::BOTH {
            let container = pod.start(|config| {
                let script = "echo up; while read -r line; do stty size; echo err >&2; done";
                config.command = strings(&["sh", "-c", script]);
                (config.stdin, config.tty) = (true, true);
            });
            let container = container.await;
            container.says("up").await;
            let mut remote = container.attach(transport, Want::TERMINAL).await;
            remote.resize(101, 33).await;
            // A size and what is typed go different ways: type until the size is there.
            eventually("the size is there", async || {
                remote.send(b"\n").await;
                remote.until("err\r\n").await.contains("33 101\r\n").then_some(())
            })
            .await;
            drop(remote);
            assert_eq!(
                container.status().await.state(),
                v1::ContainerState::ContainerRunning
            );
        }
    });
}

/// The log goes on while clients are attached, and when one does not read.
#[test]
#[ignore = "needs root"]
fn the_log_goes_on() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| {
            let script = "read -r line; head -c 4000000 /dev/zero | tr '\\0' x; echo; echo all written";
            config.command = strings(&["sh", "-c", script]);
            config.stdin = true;
        });
        let container = container.await;
        let mut typing = container.attach(Transport::SPDY, Want::ALL).await;
        let lazy = container.attach(Transport::WEBSOCKET, Want::OUTPUT).await;
        typing.send(b"go\n").await;
        container.end().await;
        container.says("all written").await;
        drop((typing, lazy));
    });
}

/// CRI Attach: what cannot be is refused before there is a URL.
#[test]
#[ignore = "needs root"]
fn wrong_requests_are_refused() {
    on_node(async |node| {
        let pod = node.pod().await;
        let created = pod.create(pod.container_config()).await;
        let mut runtime = node.runtime();
        let attach = |id: &str| v1::AttachRequest {
            container_id: id.to_owned(),
            stdout: true,
            ..Default::default()
        };
        refused(Code::NotFound, runtime.attach(attach(&"0".repeat(64))).await);
        let both = v1::AttachRequest {
            tty: true,
            stderr: true,
            ..attach(&created.id)
        };
        let text = refused(Code::InvalidArgument, runtime.attach(both).await);
        assert_eq!(text, "tty and stderr cannot both be true");
        let none = v1::AttachRequest {
            stdout: false,
            ..attach(&created.id)
        };
        refused(Code::InvalidArgument, runtime.attach(none).await);
        if node.is_pausa() {
            refused(
                Code::FailedPrecondition,
                runtime.attach(attach(&created.id)).await,
            );
        }
    });
}

impl Container<'_> {
    /// Attaches a client.
    async fn attach(&self, transport: Transport, want: Want) -> Remote {
        let request = v1::AttachRequest {
            container_id: self.id.clone(),
            stdin: want.stdin,
            tty: want.tty,
            stdout: want.stdout,
            stderr: want.stderr,
        };
        let url = ok("Attach", self.node.runtime().attach(request).await).url;
        Remote::start(&url, transport, want).await
    }
}
