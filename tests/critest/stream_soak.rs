//! Streams in quantity: nothing is lost or changed, and nothing is left.

use std::path::Path;

use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::harness::stream::{Event, Forwarder, Transport, Want};
use crate::harness::{Container, Node, eventually, on_own_node, on_pausa, strings};

/// One gibibyte in blocks.
const BLOCKS: u64 = 1024;
const BLOCK: usize = 1024 * 1024;

/// Blocks that all differ.
struct Source {
    block: Vec<u8>,
    digest: Sha256,
}

impl Source {
    fn new() -> Self {
        let mut block = Vec::new();
        let mut seed = Sha256::digest(b"seed");
        while block.len() < BLOCK {
            block.extend_from_slice(&seed);
            seed = Sha256::digest(seed);
        }
        Self {
            block,
            digest: Sha256::new(),
        }
    }

    fn block(&mut self, number: u64) -> &[u8] {
        self.block[..8].copy_from_slice(&number.to_le_bytes());
        self.digest.update(&self.block);
        &self.block
    }
}

/// 1 GiB through `cat`, byte for byte.
#[test]
#[ignore = "needs root"]
fn a_gibibyte_through_exec() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for transport in Transport::BOTH {
            let mut remote = container.exec_stream(transport, &["cat"], Want::ALL).await;
            let mut stdin = remote.stdin.take().expect("stdin");
            let send = async {
                let mut source = Source::new();
                for number in 0..BLOCKS {
                    for piece in source.block(number).chunks(32 * 1024) {
                        assert!(stdin.send(piece).await, "the server takes it");
                    }
                }
                stdin.end().await;
                source.digest.finalize()
            };
            let receive = async {
                let mut digest = Sha256::new();
                while let Some(event) = remote.events.recv().await {
                    if let Event::Stdout(bytes) = event {
                        digest.update(&bytes);
                    }
                }
                digest.finalize()
            };
            let (sent, received) = tokio::join!(send, receive);
            assert_eq!(sent, received, "{transport:?}");
        }
    });
}

/// 1 GiB to a port and back, byte for byte.
#[test]
#[ignore = "needs root"]
fn a_gibibyte_through_port_forward() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let script = "nc -ll -p 7007 -e cat & \
            while ! netstat -tln | grep -q ':7007 '; do sleep 0.02; done; echo listening; wait";
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        container.says("listening").await;
        let mut forwarder = Forwarder::spdy(&pod.forward_url(&[]).await).await;
        let mut connection = forwarder.connect(7007).await;
        let send = async {
            let mut source = Source::new();
            for number in 0..BLOCKS {
                connection
                    .output
                    .write_all(source.block(number))
                    .await
                    .expect("the server takes it");
            }
            connection.output.shutdown().await.expect("the end is sent");
            source.digest.finalize()
        };
        let receive = async {
            let mut digest = Sha256::new();
            while let Some(bytes) = connection.input.chunk().await.expect("the answer") {
                digest.update(&bytes);
            }
            digest.finalize()
        };
        let (sent, received) = tokio::join!(send, receive);
        assert_eq!(sent, received);
    });
}

/// Descriptors and threads of a process.
pub(crate) fn counted(pid: i32) -> (usize, usize) {
    let count = |dir: &str| {
        let entries = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join(dir));
        entries.expect("the process lives").count()
    };
    (count("fd"), count("task"))
}

/// Processes in a container, with those that count them.
async fn processes(container: &Container<'_>) -> usize {
    let processes = container.sh("ls -d /proc/[0-9]*").await;
    processes.lines().count()
}

/// The pod's monitor: the parent of the container's first process.
pub(crate) async fn monitor(container: &Container<'_>) -> i32 {
    let stat = format!("/proc/{}/stat", container.pid().await);
    let stat = std::fs::read_to_string(stat).expect("the container runs");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    after_name
        .split_whitespace()
        .nth(1)
        .and_then(|ppid| ppid.parse().ok())
        .expect("a parent")
}

/// One session, of which every fifth is cut in the middle.
async fn session(container: &Container<'_>, number: usize) {
    let transport = Transport::BOTH[number % 2];
    let want = if number.is_multiple_of(3) {
        Want::TERMINAL
    } else {
        Want::ALL
    };
    let script = ["sh", "-c", "echo ready; read -r line; echo \"<$line>\"; exit 3"];
    let mut remote = container.exec_stream(transport, &script, want).await;
    if want.tty {
        remote.resize(80, 24).await;
    }
    remote.until("ready").await;
    if number.is_multiple_of(5) {
        return;
    }
    remote.send(b"typed\n").await;
    let done = remote.finish().await;
    assert!(done.stdout().contains("<typed>"), "{done:?}");
    assert_eq!(done.code(), 3);
}

async fn sessions(container: &Container<'_>, rounds: usize) {
    for _ in 0..rounds {
        join_all((0..50).map(|number| session(container, number))).await;
    }
}

/// 1,000 sessions, 50 at once, a fifth of them cut in the middle: then descriptors and threads of daemon and monitor
/// are as many as before, and the container has its own process alone.
#[test]
#[ignore = "needs root"]
fn a_thousand_sessions_leave_nothing() {
    on_own_node(async |node: &Node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let daemon = node.daemon(|daemon| daemon.pid());
        let monitor = monitor(&container).await;
        let alone = processes(&container).await;
        // Threads and buffers that stay for good are there after the first ones.
        sessions(&container, 1).await;
        let settled = async || {
            let mut last = (counted(daemon), counted(monitor));
            for _ in 0..50 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                let now = (counted(daemon), counted(monitor));
                last = (last.0.min(now.0), last.1.min(now.1));
            }
            last
        };
        let before = settled().await;
        sessions(&container, 20).await;
        eventually(&format!("as before: {before:?}"), async || {
            let ((fds, threads), of_monitor) = (counted(daemon), counted(monitor));
            (fds <= before.0.0 && threads <= before.0.1 && of_monitor <= before.1).then_some(())
        })
        .await;
        eventually("the container has its own processes alone", async || {
            (processes(&container).await <= alone).then_some(())
        })
        .await;
    });
}
