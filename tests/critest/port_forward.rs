//! PortForward: connections to ports inside of a pod, over SPDY, a WebSocket, and SPDY inside a WebSocket.

use pausa::proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Code;

use crate::harness::stream::{Forwarder, Ports};
use crate::harness::{Pod, ok, on_node, on_pausa, refused, strings};

/// A server in the pod that sends everything back until its end, and another that listens on `::1` alone.
const SERVERS: &str = "nc -ll -p 7007 -e cat & \
    httpd -p '[::1]:7008' -h /tmp & \
    for port in 7007 7008; do while ! netstat -tln | grep -q \":$port \"; do sleep 0.02; done; done; \
    echo listening; wait";
const ECHO: u16 = 7007;
const SIX: u16 = 7008;
const NOBODY: u16 = 7009;

async fn serving(pod: &Pod<'_>) {
    let container = pod
        .start(|config| config.command = strings(&["sh", "-c", SERVERS]))
        .await;
    container.says("listening").await;
}

fn on_host_network(config: &mut v1::PodSandboxConfig) {
    let security = crate::harness::pod::pod_security(config);
    security.namespace_options.get_or_insert_default().network = v1::NamespaceMode::Node.into();
}

/// A connection goes to the pod's localhost; what is sent after the client's end of sending still comes back.
#[test]
#[ignore = "needs root"]
fn both_directions_end_alone() {
    on_node(async |node| {
        let pod = node.pod().await;
        serving(&pod).await;
        let mut forwarders = vec![Forwarder::spdy(&pod.forward_url(&[]).await).await];
        if node.is_pausa() {
            forwarders.push(Forwarder::tunnel(&pod.forward_url(&[]).await).await);
        }
        for forwarder in &mut forwarders {
            for question in ["hello", ""] {
                let (answer, error) = forwarder.connect(ECHO).await.ask(question.as_bytes()).await;
                assert_eq!((&answer[..], &*error), (question.as_bytes(), ""));
            }
        }
    });
}

/// Many connections at once over one session, each its own.
#[test]
#[ignore = "needs root"]
fn many_connections_at_once() {
    on_pausa(async |node| {
        let pod = node.pod_with(on_host_network).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                });
            }
        });
        for mut forwarder in [
            Forwarder::spdy(&pod.forward_url(&[]).await).await,
            Forwarder::tunnel(&pod.forward_url(&[]).await).await,
        ] {
            let mut connections = Vec::new();
            for _ in 0..50 {
                connections.push(forwarder.connect(port).await);
            }
            let asked = connections
                .into_iter()
                .enumerate()
                .map(async |(number, connection)| {
                    let question = format!("number {number}\n").repeat(5000);
                    let (answer, error) = connection.ask(question.as_bytes()).await;
                    assert_eq!(error, "", "number {number}");
                    assert_eq!(answer.len(), question.len(), "number {number}");
                    assert!(answer == question.as_bytes(), "number {number}");
                });
            futures_util::future::join_all(asked).await;
        }
        server.abort();
    });
}

/// A port nobody listens on is an error of that connection, which names the port; others go on.
#[test]
#[ignore = "needs root"]
fn an_error_leaves_the_others_alone() {
    on_node(async |node| {
        let pod = node.pod().await;
        serving(&pod).await;
        let mut forwarder = Forwarder::spdy(&pod.forward_url(&[]).await).await;
        let mut open = forwarder.connect(ECHO).await;
        open.output.write_all(b"before").await.unwrap();
        let mut bytes = [0; 6];
        open.input.read_exact(&mut bytes).await.unwrap();
        let (answer, error) = forwarder.connect(NOBODY).await.ask(b"anybody?").await;
        assert_eq!(answer, b"");
        assert!(error.contains("7009"), "{error}");
        if node.is_pausa() {
            assert!(error.contains("127.0.0.1") && error.contains("::1"), "{error}");
        }
        let (answer, error) = open.ask(b" and after").await;
        assert_eq!((&answer[..], &*error), (&b" and after"[..], ""));
    });
}

/// Where nobody listens on 127.0.0.1, `::1` is asked.
#[test]
#[ignore = "needs root"]
fn ipv6_is_tried_too() {
    on_node(async |node| {
        let pod = node.pod().await;
        serving(&pod).await;
        let mut forwarder = Forwarder::spdy(&pod.forward_url(&[]).await).await;
        let connection = forwarder.connect(SIX).await;
        let (answer, error) = connection.ask(b"GET /nothing HTTP/1.0\r\n\r\n").await;
        assert_eq!(error, "");
        assert!(
            answer.starts_with(b"HTTP/1"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    });
}

/// A pod on the host network forwards to the node's localhost.
#[test]
#[ignore = "needs root"]
fn a_pod_on_the_host_network() {
    on_node(async |node| {
        let pod = node.pod_with(on_host_network).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut forwarder = Forwarder::spdy(&pod.forward_url(&[]).await).await;
        let connection = forwarder.connect(port).await;
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut question = Vec::new();
            socket.read_to_end(&mut question).await.unwrap();
            socket.write_all(&question).await.unwrap();
        };
        let ((), (answer, error)) = tokio::join!(serve, connection.ask(b"hello"));
        assert_eq!((&answer[..], &*error), (&b"hello"[..], ""));
    });
}

/// WebSocket `v4.channel.k8s.io`: two channels for each port of the request, each beginning with the port.
#[test]
#[ignore = "needs root"]
fn two_channels_a_port() {
    on_node(async |node| {
        let pod = node.pod().await;
        serving(&pod).await;
        for protocol in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
            let url = pod.forward_url(&[i32::from(NOBODY), i32::from(ECHO)]).await;
            let mut ports = Ports::start(&url, protocol).await;
            ports.send(2, b"hello").await;
            ports
                .until(2, &[&ECHO.to_le_bytes()[..], b"hello"].concat())
                .await;
            let error = ports.until(1, &NOBODY.to_le_bytes()).await;
            assert!(error.starts_with(&NOBODY.to_le_bytes()), "{error:?}");
            ports.until(0, &NOBODY.to_le_bytes()).await;
            ports.until(3, &ECHO.to_le_bytes()).await;
        }
    });
}

/// CRI PortForward: what cannot be is refused before there is a URL.
#[test]
#[ignore = "needs root"]
fn wrong_requests_are_refused() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let mut runtime = node.runtime();
        let forward = |id: &str, port: &[i32]| v1::PortForwardRequest {
            pod_sandbox_id: id.to_owned(),
            port: port.to_vec(),
        };
        refused(
            Code::InvalidArgument,
            runtime.port_forward(forward("", &[80])).await,
        );
        for port in [-1, 0, 65_536] {
            let answer = runtime.port_forward(forward(&pod.id, &[port])).await;
            assert!(refused(Code::InvalidArgument, answer).contains(&port.to_string()));
        }
        refused(
            Code::NotFound,
            runtime.port_forward(forward(&"0".repeat(64), &[80])).await,
        );
        pod.stop().await;
        let text = refused(
            Code::FailedPrecondition,
            runtime.port_forward(forward(&pod.id, &[80])).await,
        );
        assert!(text.contains(&pod.id), "{text}");
    });
}

impl Pod<'_> {
    /// A URL to forward ports at.
    pub(crate) async fn forward_url(&self, ports: &[i32]) -> String {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: self.id.clone(),
            port: ports.to_vec(),
        };
        ok("PortForward", self.node.runtime().port_forward(request).await).url
    }
}
