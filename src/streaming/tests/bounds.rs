//! What clients cannot make the server keep, and how many sessions they cannot have.

use futures_util::SinkExt;
use pausa_spdy::{Encoder, Frame, StreamId};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::websocket::connect;
use super::*;

const SPDY_FORWARD: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
    X-Stream-Protocol-Version: portforward.k8s.io\r\n";
const SPDY_EXEC: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
    X-Stream-Protocol-Version: v4.channel.k8s.io\r\n";

const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;

/// SPDY made of frames, of which a client of good behaviour would not send all.
struct Raw {
    socket: TcpStream,
    encoder: Encoder,
    streams: u32,
}

impl Raw {
    async fn forward(server: &Streaming) -> Self {
        let url = server.url(local::port_forward(vec![])).unwrap();
        Self::new(&url, SPDY_FORWARD).await
    }

    async fn new(url: &str, headers: &str) -> Self {
        let (socket, answer) = request(url, "POST", headers).await;
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        Self {
            socket,
            encoder: Encoder::default(),
            streams: 0,
        }
    }

    /// Opens a stream.
    async fn open(&mut self, fields: &[(&str, &str)]) -> std::io::Result<()> {
        let stream = StreamId::new(2 * self.streams + 1).unwrap();
        self.streams += 1;
        let frame = Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: fields.iter().copied().collect(),
        };
        let mut bytes = bytes::BytesMut::new();
        self.encoder.encode(&frame, &mut bytes).unwrap();
        self.socket.write_all(&bytes).await
    }

    /// How many of the streams were accepted and refused, once that is known of all; none if the connection was closed.
    async fn answers(&mut self) -> Option<(u32, u32)> {
        let (mut accepted, mut refused) = (0, 0);
        while accepted + refused < self.streams {
            let mut head = [0; 8];
            soon(self.socket.read_exact(&mut head)).await.ok()?;
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
            let mut payload = vec![0; length.try_into().unwrap()];
            self.socket.read_exact(&mut payload).await.ok()?;
            match u16::from_be_bytes([head[2], head[3]]) {
                SYN_REPLY => accepted += 1,
                RST_STREAM => refused += 1,
                _ => {}
            }
        }
        Some((accepted, refused))
    }
}

/// Headers of a stream of a port-forward.
fn data(request: &str) -> [(&'static str, &str); 3] {
    [("streamType", "data"), ("port", "80"), ("requestID", request)]
}

#[tokio::test]
async fn streams_without_a_partner_are_bounded() {
    let server = start().await;
    let mut raw = Raw::forward(&server).await;
    for request in 0..300_u32 {
        raw.open(&data(&request.to_string())).await.unwrap();
    }
    assert_eq!(raw.answers().await, Some((256, 44)));
}

#[tokio::test]
async fn a_name_of_a_connection_is_short() {
    let server = start().await;
    let mut raw = Raw::forward(&server).await;
    raw.open(&data(&"7".repeat(256))).await.unwrap();
    raw.open(&data(&"7".repeat(257))).await.unwrap();
    assert_eq!(raw.answers().await, Some((1, 1)));
}

#[tokio::test]
async fn large_headers_end_the_connection() {
    let server = start().await;
    let mut raw = Raw::forward(&server).await;
    let padding = "x".repeat(60_000);
    let fields = data("0");
    let fields = [fields[0], fields[1], fields[2], ("padding", &padding)];
    raw.open(&fields).await.unwrap();
    assert_eq!(raw.answers().await, None);
}

#[tokio::test]
async fn an_exec_has_few_streams() {
    let server = start().await;
    // The streams of a terminal never all come, so that nothing begins.
    let mut raw = Raw::new(&exec_url(&server, "true", ALL, false), SPDY_EXEC).await;
    for kind in ["error", "stdin", "stdout"] {
        raw.open(&[("streamType", kind)]).await.unwrap();
    }
    for _ in 0..50 {
        raw.open(&[("streamType", "stdin")]).await.unwrap();
    }
    assert_eq!(raw.answers().await, Some((3, 50)));
}

/// Many megabytes to ports that do not read: the client has to wait.
#[tokio::test]
async fn a_websocket_cannot_be_filled_with_what_nobody_reads() {
    let server = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = server.url(local::port_forward(vec![port; 39])).unwrap();
    let mut socket = connect(&url, "v4.channel.k8s.io").await;
    let mut silent = Vec::new();
    for _ in 0..39 {
        silent.push(soon(listener.accept()).await.unwrap());
    }
    let mut message = vec![b'x'; 1 << 20];
    let mut sent = 0_usize;
    // The kernel takes some megabytes for each connection to a port, too.
    let stuck = tokio::time::timeout(Duration::from_secs(60), async {
        for channel in (0..78).step_by(2).cycle() {
            message[0] = channel;
            let sending = socket.send(Message::Binary(message.clone().into()));
            if tokio::time::timeout(Duration::from_secs(2), sending)
                .await
                .is_err()
            {
                return;
            }
            sent += 1;
        }
    });
    stuck.await.expect("the server stops reading");
    let one = sent / 39;
    assert!(one < 16, "{sent} MiB were taken");
}

#[tokio::test]
async fn sessions_are_bounded_with_a_pod_and_in_all() {
    let settings = Settings {
        sessions: SessionLimits { per_pod: 2, total: 3 },
        ..settings()
    };
    let server = Streaming::start(settings).await.unwrap();
    let ask = async |pod: &str| {
        let url = server.url(local::port_forward_of(pod, vec![])).unwrap();
        let (mut socket, answer) = request(&url, "POST", SPDY_FORWARD).await;
        let status = answer.split(' ').nth(1).unwrap().to_owned();
        let mut text = String::new();
        if status != "101" {
            soon(socket.read_to_string(&mut text)).await.unwrap();
        }
        (socket, status, text)
    };
    let first = ask("a").await;
    let second = ask("a").await;
    assert_eq!((&*first.1, &*second.1), ("101", "101"));
    let (_, status, text) = ask("a").await;
    assert_eq!(status, "429");
    assert!(
        text.contains("max_sessions_per_pod") && text.contains('2'),
        "{text}"
    );
    let other = ask("b").await;
    assert_eq!(other.1, "101");
    let (_, status, text) = ask("c").await;
    assert_eq!(status, "503");
    assert!(text.contains("max_sessions") && text.contains('3'), "{text}");
    // A reload changes the limits for those that come.
    let mut larger = super::settings();
    larger.sessions = SessionLimits { per_pod: 2, total: 4 };
    server.configure(&larger);
    assert_eq!(ask("c").await.1, "101");
    assert_eq!(server.states().sessions_max, 4);
    larger.sessions = SessionLimits { per_pod: 2, total: 3 };
    server.configure(&larger);
    drop((first, other));
    soon(async {
        while ask("c").await.1 != "101" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while ask("a").await.1 != "101" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(second);
}

/// Connections that ask for nothing do not keep those from being served that do.
#[tokio::test]
async fn the_oldest_silent_client_makes_room() {
    let server = start().await;
    let url = exec_url(&server, "true", OUTPUT, false);
    let address = split(&url).0;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Well before the time is over that each of them has.
    let asked = tokio::time::timeout(Duration::from_secs(5), request(&url, "POST", SPDY_EXEC));
    let (_socket, answer) = asked.await.expect("an answer while the others are silent");
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert_eq!(
        soon(silent[0].read(&mut [0])).await.unwrap_or(0),
        0,
        "the oldest is gone"
    );
}
