//! What is refused before anything is streamed.

use super::*;
use crate::error::ErrorKind;

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
const WEBSOCKET: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn v4() -> String {
    format!("{SPDY}X-Stream-Protocol-Version: v4.channel.k8s.io\r\n")
}

#[track_caller]
fn is(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
}

#[tokio::test]
async fn a_url_works_once() {
    let server = start().await;
    let url = exec_url(&server, "true", OUTPUT, false);
    let (_first, answer) = request(&url, "POST", &v4()).await;
    is(&answer, "101");
    assert!(
        answer.contains("\r\nconnection: upgrade\r\nupgrade: spdy/3.1\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n"),
        "{answer}"
    );
    is(&request(&url, "POST", &v4()).await.1, "404");
}

#[tokio::test]
async fn a_url_works_for_what_it_was_made_for() {
    let server = start().await;
    let url = exec_url(&server, "true", OUTPUT, false);
    is(
        &request(&url.replace("/exec/", "/attach/"), "POST", &v4()).await.1,
        "404",
    );
    is(&request(&url, "POST", &v4()).await.1, "404");
    for path in ["/", "/exec", "/exec/", "/exec/nonsense", "/other/x", "/exec/a/b"] {
        let url = format!("{}{path}", server.base);
        is(&request(&url, "GET", &v4()).await.1, "404");
    }
}

#[tokio::test]
async fn what_is_no_upgrade_is_refused_with_a_reason() {
    let server = start().await;
    let cases = [
        ("400", String::new()),
        ("400", "Upgrade: SPDY/3.1\r\n".into()),
        ("400", SPDY.into()),
        (
            "403",
            format!("{SPDY}X-Stream-Protocol-Version: v9.channel.k8s.io\r\n"),
        ),
        (
            "403",
            format!("{WEBSOCKET}Sec-WebSocket-Protocol: v9.channel.k8s.io\r\n"),
        ),
        ("400", WEBSOCKET.replace("Sec-WebSocket-Key", "X-Key")),
        ("426", WEBSOCKET.replace("13", "8")),
    ];
    for (status, headers) in cases {
        let url = exec_url(&server, "true", OUTPUT, false);
        let (_socket, answer) = request(&url, "GET", &headers).await;
        is(&answer, status);
        if headers.contains("X-Stream") {
            assert!(
                answer.contains("x-accepted-stream-protocol-versions: channel.k8s.io"),
                "{answer}"
            );
        }
    }
    let url = exec_url(&server, "true", OUTPUT, false);
    is(&request(&url, "PUT", &v4()).await.1, "405");
}

#[tokio::test]
async fn the_clients_order_decides() {
    let server = start().await;
    let asked = "X-Stream-Protocol-Version: v9.channel.k8s.io, v2.channel.k8s.io\r\n\
        X-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    let url = exec_url(&server, "true", OUTPUT, false);
    let (_socket, answer) = request(&url, "POST", &format!("{SPDY}{asked}")).await;
    assert!(
        answer.contains("x-stream-protocol-version: v2.channel.k8s.io"),
        "{answer}"
    );
    let asked = "Sec-WebSocket-Protocol: other, v4.channel.k8s.io, v5.channel.k8s.io\r\n";
    let url = exec_url(&server, "true", OUTPUT, false);
    let (_socket, answer) = request(&url, "GET", &format!("{WEBSOCKET}{asked}")).await;
    is(&answer, "101");
    assert!(
        answer.contains("sec-websocket-protocol: v4.channel.k8s.io"),
        "{answer}"
    );
    // The example of RFC 6455, section 1.3.
    assert!(
        answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
}

#[tokio::test]
async fn a_websocket_needs_the_ports_beforehand() {
    let server = start().await;
    for ports in [vec![], vec![80; 40]] {
        let url = server.url(local::port_forward(ports)).unwrap();
        let (_socket, answer) = request(&url, "GET", WEBSOCKET).await;
        is(&answer, "400");
    }
}

#[tokio::test]
async fn too_many_unused_urls_are_refused() {
    let server = start().await;
    for _ in 0..tokens::OUTSTANDING_MAX {
        exec_url(&server, "true", OUTPUT, false);
    }
    let failure = server.url(local::attach(OUTPUT)).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::ResourceExhausted);
}
