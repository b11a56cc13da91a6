//! Clients of exec and attach whose sessions another runtime has kept for ever.

use futures_util::future::join_all;
use pausa::proto::v1;

use crate::harness::stream::{Remote, Transport, Want};
use crate::harness::{Container, Node, eventually, ok, on_own_node, strings};
use crate::stream_attacks::{daemon, resident};
use crate::stream_soak::{counted, monitor};

/// More in all than may exist at the same time with one pod.
const SESSIONS: usize = 160;
const AT_ONCE: usize = 20;

/// Runs sessions in rounds. Those of the second half must leave nothing that those of the first have not.
async fn leave_nothing(node: &Node, container: &Container<'_>, session: impl AsyncFn(usize)) {
    let daemon = daemon(node);
    let monitor = monitor(container).await;
    let rounds = async || {
        for round in 0..SESSIONS / AT_ONCE {
            let numbers = (0..AT_ONCE).map(|at| round * AT_ONCE + at);
            join_all(numbers.map(|number| session(number))).await;
        }
    };
    let settled = async || {
        let mut least = (counted(daemon), counted(monitor));
        for _ in 0..25 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let now = (counted(daemon), counted(monitor));
            least = (least.0.min(now.0), least.1.min(now.1));
        }
        least
    };
    rounds().await;
    let (before, memory) = (settled().await, resident(daemon));
    rounds().await;
    rounds().await;
    eventually(&format!("as before: {before:?}"), async || {
        let now = (counted(daemon), counted(monitor));
        (now.0.0 <= before.0.0 && now.0.1 <= before.0.1 && now.1 <= before.1).then_some(())
    })
    .await;
    let more = resident(daemon).saturating_sub(memory) >> 10;
    println!("{more} KiB more after {} sessions", 2 * SESSIONS);
    // A session that stays has tasks, buffers and a connection: 20 KiB at least.
    assert!(more < 20 * 2 * SESSIONS as u64, "{more} KiB");
}

/// CVE-2022-23471: for an exec with a terminal whose command did not start, containerd waited for ever to hand over the sizes of
/// the terminal. In pausa a session is one future: with it goes everything that it has.
#[test]
#[ignore = "needs root"]
fn commands_that_cannot_start_leave_nothing() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        leave_nothing(node, &container, async |number| {
            let transport = Transport::BOTH[number % 2];
            let command = if number % 4 < 2 { "/not/there" } else { "cat" };
            let mut remote = container.exec_stream(transport, &[command], Want::TERMINAL).await;
            for size in 0..3 {
                // The session may have ended.
                remote.try_resize(80 + size, 24).await;
            }
            // Cut in the middle, or waited for.
            if command != "cat" && number.is_multiple_of(3) {
                remote.finish().await;
            }
        })
        .await;
    });
}

/// CVE-2025-64329: containerd kept a client of attach that had left until the container wrote something. pausa ends the session when
/// the client goes, and tells the monitor.
#[test]
#[ignore = "needs root"]
fn clients_that_leave_an_attach_leave_nothing() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        for tty in [false, true] {
            // It never writes anything.
            let container = pod.start(|config| {
                config.command = strings(&["sleep", "3600"]);
                config.stdin = true;
                config.tty = tty;
            });
            let container = container.await;
            leave_nothing(node, &container, async |number| {
                let want = if tty { Want::TERMINAL } else { Want::ALL };
                let request = v1::AttachRequest {
                    container_id: container.id.clone(),
                    stdin: want.stdin,
                    stdout: want.stdout,
                    stderr: want.stderr,
                    tty: want.tty,
                };
                let url = ok("Attach", node.runtime().attach(request).await).url;
                let mut remote = Remote::start(&url, Transport::BOTH[number % 2], want).await;
                if number.is_multiple_of(2) {
                    remote.send(b"typed\n").await;
                }
            })
            .await;
        }
    });
}
