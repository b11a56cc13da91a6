//! Exec: a command in a container with its streams, over SPDY and WebSocket.

use std::time::Duration;

use pausa::proto::v1;
use tonic::Code;

use crate::harness::stream::{Event, Remote, Transport, Want, answer_to, connect};
use crate::harness::{Container, PATIENCE, eventually, on_node, on_pausa, refused, strings};

/// Every version that a client may ask for.
const VERSIONS: [Transport; 11] = [
    Transport::Spdy("v4.channel.k8s.io"),
    Transport::Spdy("v3.channel.k8s.io"),
    Transport::Spdy("v2.channel.k8s.io"),
    Transport::Spdy("channel.k8s.io"),
    Transport::WebSocket("v5.channel.k8s.io"),
    Transport::WebSocket("v4.channel.k8s.io"),
    Transport::WebSocket("v4.base64.channel.k8s.io"),
    Transport::WebSocket("v3.channel.k8s.io"),
    Transport::WebSocket("v2.channel.k8s.io"),
    Transport::WebSocket("channel.k8s.io"),
    Transport::WebSocket("base64.channel.k8s.io"),
];

/// CRI Exec: output of both streams, what is typed, and the exit code as `kubectl exec` reads it (the error stream of
/// `v4.channel.k8s.io`; before, a text).
#[test]
#[ignore = "needs root"]
fn every_version_of_the_protocol() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in VERSIONS {
            let script = "read line; printf \"out $line\"; printf err >&2; exit 42";
            let mut remote = container
                .exec_stream(transport, &["sh", "-c", script], Want::ALL)
                .await;
            remote.send(b"typed\n").await;
            let done = remote.finish().await;
            assert_eq!(done.stdout(), "out typed", "{transport:?}");
            assert_eq!(done.stderr, b"err", "{transport:?}");
            if transport.tells_json() {
                assert_eq!(done.code(), 42, "{transport:?}");
            } else {
                let text = String::from_utf8_lossy(&done.error);
                assert!(text.ends_with("42"), "{transport:?}: {text}");
            }
            let done = container
                .exec_stream(transport, &["true"], Want::OUTPUT)
                .await
                .finish()
                .await;
            if transport.tells_json() {
                assert_eq!(done.code(), 0, "{transport:?}");
            } else {
                assert_eq!(done.error, b"", "{transport:?}: success says nothing");
            }
        }
    });
}

/// The end of stdin reaches the command, as `kubectl cp` and `echo | kubectl exec -i` need it; output goes on after it.
#[test]
#[ignore = "needs root"]
fn stdin_can_end_alone() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let script = "cat; printf ' and out'";
            let mut remote = container
                .exec_stream(transport, &["sh", "-c", script], Want::ALL)
                .await;
            remote.send(b"in").await;
            remote.end_stdin().await;
            let done = remote.finish().await;
            assert_eq!((&*done.stdout(), done.code()), ("in and out", 0), "{transport:?}");
        }
    });
}

/// CRI Exec `tty`: one stream, a controlling terminal; the first size is there before the program looks, later ones
/// follow.
#[test]
#[ignore = "needs root"]
fn a_terminal_with_its_sizes() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let answer = "echo \"<$line $(stty size)>\"";
            let script = format!("stty size; tty; echo ready; while read -r line; do {answer}; done");
            let command = ["sh", "-c", &script];
            let mut remote = container.exec_stream(transport, &command, Want::TERMINAL).await;
            remote.resize(132, 50).await;
            let seen = remote.until("ready\r\n").await;
            if node.is_pausa() {
                assert!(seen.starts_with("50 132\r\n"), "{transport:?}: {seen:?}");
            }
            assert!(seen.contains("/dev/pts/"), "{transport:?}: {seen:?}");
            remote.resize(90, 20).await;
            // A size and what is typed go different ways: type until the size is there.
            eventually("the size is there", async || {
                remote.send(b"typed\n").await;
                let answer = remote.until(">\r\n").await;
                answer.contains("<typed 20 90>").then_some(())
            })
            .await;
            // ^D at the beginning of a line is the end.
            remote.send(b"\x04").await;
            assert_eq!(remote.finish().await.code(), 0, "{transport:?}");
        }
    });
}

/// ^C typed at a terminal interrupts the command in front.
#[test]
#[ignore = "needs root"]
fn a_terminal_sends_signals() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let script = "trap 'echo interrupted; exit 9' INT; echo ready; while true; do sleep 0.05; done";
            let mut remote = container
                .exec_stream(transport, &["sh", "-c", script], Want::TERMINAL)
                .await;
            remote.until("ready").await;
            remote.send(b"\x03").await;
            let done = remote.finish().await;
            assert!(done.stdout().contains("interrupted"), "{done:?}");
            assert_eq!(done.code(), 9, "{transport:?}");
        }
    });
}

/// Only the streams that were asked for are connected; the others are `/dev/null`.
#[test]
#[ignore = "needs root"]
fn streams_that_were_not_asked_for() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let only = Want {
                stdout: true,
                ..Want::default()
            };
            let script = "cat; echo hidden >&2; echo seen";
            let done = container
                .exec_stream(transport, &["sh", "-c", script], only)
                .await
                .finish()
                .await;
            assert_eq!((&*done.stdout(), &done.stderr[..]), ("seen\n", &b""[..]));
        }
    });
}

/// A command that cannot be run is an error with its reason on the error stream.
#[test]
#[ignore = "needs root"]
fn a_command_that_is_not_there() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let done = container
                .exec_stream(transport, &["/no/such"], Want::OUTPUT)
                .await
                .finish()
                .await;
            let status = done.status();
            assert_eq!(status["reason"], "InternalError", "{status}");
            assert!(
                status["message"].as_str().unwrap().contains("/no/such"),
                "{status}"
            );
        }
    });
}

/// A child that keeps the output open does not keep the client.
#[test]
#[ignore = "needs root"]
fn a_child_that_stays_is_not_waited_for() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let script = "sleep 3711 & echo started";
            let done = container
                .exec_stream(transport, &["sh", "-c", script], Want::OUTPUT)
                .await
                .finish()
                .await;
            assert_eq!((&*done.stdout(), done.code()), ("started\n", 0));
        }
    });
}

/// When the client goes, the command's stdin ends and its output has no reader; a terminal is hung up.
#[test]
#[ignore = "needs root"]
fn a_client_that_goes_takes_its_streams() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let cases = [
            (Want::ALL, "echo ready; cat; exec sleep 3721"),
            (Want::OUTPUT, "echo ready; while echo x; do sleep 0.05; done"),
            (Want::TERMINAL, "echo ready; sleep 3733; sleep 3734"),
        ];
        for transport in Transport::BOTH {
            for (want, script) in cases {
                let mut remote = container
                    .exec_stream(transport, &["sh", "-c", script], want)
                    .await;
                remote.until("ready").await;
            }
        }
        // Of each only what does not care for its streams is left: `sleep 3721`, two times.
        eventually("the commands end with their streams", async || {
            let processes = container.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
            let stays = processes.matches("sleep 3721 ").count() == 2;
            (stays && !processes.contains("ready") && !processes.contains("sleep 373")).then_some(())
        })
        .await;
    });
}

/// CRI Exec: what cannot be is refused before there is a URL.
#[test]
#[ignore = "needs root"]
fn wrong_requests_are_refused() {
    on_node(async |node| {
        let pod = node.pod().await;
        let created = pod.create(pod.container_config()).await;
        let mut runtime = node.runtime();
        let exec = |id: &str| v1::ExecRequest {
            container_id: id.to_owned(),
            cmd: strings(&["true"]),
            stdout: true,
            ..Default::default()
        };
        let unknown = "0".repeat(64);
        refused(Code::NotFound, runtime.exec(exec(&unknown)).await);
        let both = v1::ExecRequest {
            tty: true,
            stderr: true,
            ..exec(&created.id)
        };
        let text = refused(Code::InvalidArgument, runtime.exec(both).await);
        assert_eq!(text, "tty and stderr cannot both be true");
        let none = v1::ExecRequest {
            stdout: false,
            ..exec(&created.id)
        };
        refused(Code::InvalidArgument, runtime.exec(none).await);
        refused(Code::InvalidArgument, runtime.exec(exec("")).await);
        if node.is_pausa() {
            let text = refused(Code::FailedPrecondition, runtime.exec(exec(&created.id)).await);
            assert!(text.contains(&created.id), "{text}");
        }
    });
}

/// A URL works once.
#[test]
#[ignore = "needs root"]
fn a_url_works_once() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let url = container.exec_url(&["true"], Want::OUTPUT).await;
        let done = Remote::start(&url, Transport::SPDY, Want::OUTPUT)
            .await
            .finish()
            .await;
        assert_eq!(done.code(), 0);
        let headers =
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
        for url in [&url, &format!("{url}x")] {
            let answer = answer_to(&mut *connect(url, None).await, url, headers).await;
            assert!(answer.starts_with("http/1.1 404 "), "{answer}");
        }
    });
}

/// A container that ends takes its commands along, and their clients are told.
#[test]
#[ignore = "needs root"]
fn the_containers_end_is_the_end() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let mut remote = container
            .exec_stream(
                Transport::SPDY,
                &["sh", "-c", "echo ready; sleep 3744"],
                Want::OUTPUT,
            )
            .await;
        remote.until("ready").await;
        container.stop(0).await;
        assert_eq!(remote.finish().await.code(), 137);
    });
}

/// Much output to a client that reads slowly: all of it arrives, and nobody keeps it in memory meanwhile.
#[test]
#[ignore = "needs root"]
fn a_slow_client_gets_everything() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let script = "head -c 8000000 /dev/zero; printf end";
            let mut remote = container
                .exec_stream(transport, &["sh", "-c", script], Want::OUTPUT)
                .await;
            let mut length = 0;
            let read = async {
                while let Some(event) = remote.events.recv().await {
                    match event {
                        Event::Stdout(bytes) => length += bytes.len(),
                        Event::Stderr(bytes) => panic!("{bytes:?}"),
                        Event::Error(_) => {}
                    }
                    if length < 1_000_000 {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, read)
                .await
                .expect("the stream ends");
            assert_eq!(length, 8_000_003, "{transport:?}");
        }
    });
}

impl Container<'_> {
    /// A URL to run a command at.
    pub(crate) async fn exec_url(&self, cmd: &[&str], want: Want) -> String {
        let request = v1::ExecRequest {
            container_id: self.id.clone(),
            cmd: strings(cmd),
            tty: want.tty,
            stdin: want.stdin,
            stdout: want.stdout,
            stderr: want.stderr,
        };
        crate::harness::ok("Exec", self.node.runtime().exec(request).await).url
    }

    /// Runs a command with its streams.
    pub(crate) async fn exec_stream(&self, transport: Transport, cmd: &[&str], want: Want) -> Remote {
        let url = self.exec_url(cmd, want).await;
        Remote::start(&url, transport, want).await
    }
}
