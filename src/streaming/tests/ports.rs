//! Port-forward over WebSockets, and what all transports share.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::websocket::connect;
use super::*;

#[tokio::test]
async fn two_channels_a_port() {
    let server = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap().port();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = nobody.local_addr().unwrap().port();
    drop(nobody);
    let echo = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 5];
        socket.read_exact(&mut bytes).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
    });
    let url = server.url(local::port_forward(vec![closed, open])).unwrap();
    let mut socket = connect(&url, "v4.channel.k8s.io").await;
    socket
        .send(Message::Binary(b"\x02hello".to_vec().into()))
        .await
        .unwrap();
    let mut got: [Vec<u8>; 4] = Default::default();
    soon(async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Binary(bytes) = message {
                got[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
        }
    })
    .await;
    echo.await.unwrap();
    assert_eq!(got[0], closed.to_le_bytes());
    assert_eq!(got[1][..2], closed.to_le_bytes());
    let why = String::from_utf8_lossy(&got[1][2..]);
    assert!(
        why.contains(&closed.to_string()) && why.contains("refused"),
        "{why}"
    );
    assert_eq!(got[2], [&open.to_le_bytes()[..], b"hello"].concat());
    assert_eq!(got[3], open.to_le_bytes(), "no error on the other port");
}
