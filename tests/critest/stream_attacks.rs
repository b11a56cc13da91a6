//! Clients of streams that try to use up the memory of the daemon, or its connections.

use bytes::BytesMut;
use pausa_spdy::{Encoder, Frame, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::stream::{Ports, Remote, Transport, Want, answer_to, connect};
use crate::harness::{Node, eventually, on_own_node, strings};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
    X-Stream-Protocol-Version: portforward.k8s.io\r\n";
const CLIENTS: usize = 8;

/// Bytes of memory that a process has for itself. Pages of its program that it uses for the first time cost nobody.
pub(crate) fn resident(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.expect("RssAnon") * 1024
}

pub(crate) fn daemon(node: &Node) -> i32 {
    node.daemon(|daemon| daemon.pid())
}

/// The most memory that the daemon has had more than before while `attack` ran, in MiB. Afterwards it must have given back
/// nearly all of it.
pub(crate) async fn cost(node: &Node, what: &str, attack: impl Future<Output = ()>) -> u64 {
    let pid = daemon(node);
    let before = resident(pid);
    let mut most = before;
    let watch = async {
        loop {
            most = most.max(resident(pid));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = watch => {}
        () = attack => {}
    }
    // An attack may be over before it was looked at for a second time.
    most = most.max(resident(pid));
    let cost = (most - before) >> 20;
    println!("{what}: {cost} MiB");
    eventually("the memory is given back", async || {
        let now = resident(pid);
        (now < before + (most - before) / 4 + (8 << 20)).then_some(())
    })
    .await;
    cost
}

/// Sends SYN_STREAMs of a port-forward whose headers have `padding` more bytes: they are small when compressed.
async fn open_streams(url: String, streams: u32, padding: usize) -> impl Sized {
    let mut io = connect(&url, None).await;
    let answer = answer_to(&mut *io, &url, UPGRADE).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    let mut encoder = Encoder::default();
    let mut bytes = BytesMut::new();
    let padding = "x".repeat(padding);
    for stream in 0..streams {
        let request = stream.to_string();
        let fields = [
            ("streamType", "data"),
            ("port", "80"),
            ("requestID", &*request),
            ("padding", &*padding),
        ];
        let frame = Frame::SynStream {
            stream: StreamId::new(2 * stream + 1).expect("an id"),
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: fields.into_iter().collect(),
        };
        encoder.encode(&frame, &mut bytes).expect("a frame");
    }
    // The server may close before it has read everything.
    io.write_all(&bytes).await.ok();
    let mut answers = vec![0; 16 * 1024];
    // What it answers within a while: all that it keeps it has by then.
    let read = async { while let Ok(1..) = io.read(&mut answers).await {} };
    tokio::time::timeout(std::time::Duration::from_secs(2), read)
        .await
        .ok();
    io
}

/// Headers that are large when decompressed, on streams that get no partner.
#[test]
#[ignore = "needs root"]
fn headers_of_streams_cost_little_memory() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        for (streams, padding) in [(200, 60_000), (1_500, 3_500)] {
            let attack = async {
                let mut clients = JoinSet::new();
                for _ in 0..CLIENTS {
                    clients.spawn(open_streams(pod.forward_url(&[]).await, streams, padding));
                }
                let held = clients.join_all().await;
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                drop(held);
            };
            let cost = cost(node, &format!("headers of {padding} bytes"), attack).await;
            assert!(cost < 48, "{cost} MiB for {CLIENTS} clients");
        }
    });
}

/// Large messages to ports that nobody reads from.
#[test]
#[ignore = "needs root"]
fn messages_that_nobody_reads_cost_little_memory() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let script = "nc -ll -p 7007 -e sleep 1000 & while ! netstat -tln | grep -q ':7007 '; do sleep 0.02; done; \
            echo listening; wait";
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        container.says("listening").await;
        let attack = async {
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                let url = pod.forward_url(&[7007; 39]).await;
                clients.spawn(async move {
                    let ports = Ports::start(&url, "v4.channel.k8s.io").await;
                    let message = vec![0; 3 << 20];
                    let send = async {
                        for channel in (0..78).step_by(2).cycle() {
                            ports.send(channel, &message).await;
                        }
                    };
                    tokio::time::timeout(std::time::Duration::from_secs(5), send)
                        .await
                        .ok();
                    ports
                });
            }
            drop(clients.join_all().await);
            // The end of a connection is behind its data: the server comes to it when nobody is there to read them.
            container.stop(0).await;
        };
        let cost = cost(node, "messages", attack).await;
        assert!(cost < u64::try_from(CLIENTS).expect("small") * 10, "{cost} MiB");
    });
}

/// Connections without a request, in a loop: an exec goes on as if there were none.
#[test]
#[ignore = "needs root"]
fn silent_connections_keep_nobody_waiting() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let url = container.exec_url(&["true"], Want::OUTPUT).await;
        let address = url["http://".len()..]
            .split('/')
            .next()
            .expect("an address")
            .to_owned();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let address = address.clone();
            clients.spawn(async move {
                let mut held = std::collections::VecDeque::new();
                loop {
                    held.extend(TcpStream::connect(&address).await);
                    if held.len() > 500 {
                        held.pop_front();
                    }
                }
            });
        }
        for number in 0..50 {
            let exec = async {
                let url = container.exec_url(&["echo", "served"], Want::OUTPUT).await;
                let remote = Remote::start(&url, Transport::BOTH[number % 2], Want::OUTPUT).await;
                remote.finish().await.stdout()
            };
            // Less than each of the connections has time for its request.
            let said = tokio::time::timeout(std::time::Duration::from_secs(5), exec).await;
            assert_eq!(said.as_deref(), Ok("served\n"));
        }
        clients.shutdown().await;
    });
}
