//! A bare SPDY/3.1 server for trying foreign peers by hand: `cargo run -p pausa-spdy --example echo -- 127.0.0.1:7000`.
//!
//! No HTTP comes before the frames. What a stream does depends on its header `mode`: `echo` (default) sends back what
//! comes, `sink` reads and says how much that was, `source` sends as many bytes as the header `bytes` says, `refuse` is
//! refused. The program ends with its first connection.

use std::io;

use bytes::Bytes;
use pausa_spdy::{Config, Headers, Incoming, Role, RstStatus, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let (connection, _) = listener.accept().await?;
    connection.set_nodelay(true)?;
    let session = Session::start(connection, Role::Server, Config::default());
    while let Some(incoming) = session.accept().await {
        tokio::spawn(async move {
            if let Err(error) = serve(incoming).await {
                eprintln!("{error}");
            }
        });
    }
    println!("end: {:?}", session.closed().await);
    Ok(())
}

async fn serve(incoming: Incoming) -> io::Result<()> {
    let headers = incoming.headers().clone();
    if headers.get("mode") == Some("refuse") {
        incoming.refuse(RstStatus::RefusedStream);
        return Ok(());
    }
    let (mut recv, mut send) = incoming.accept(Headers::new()).split();
    match headers.get("mode") {
        Some("source") => {
            let mut left = headers
                .get("bytes")
                .and_then(|bytes| bytes.parse().ok())
                .unwrap_or(0);
            let block = Bytes::from_static(&[b'x'; 64 * 1024]);
            while left > 0 {
                let some = block.len().min(left);
                send.send(block.slice(..some)).await?;
                left -= some;
            }
        }
        Some("sink") => {
            let mut length = 0;
            while let Some(chunk) = recv.chunk().await? {
                length += chunk.len();
            }
            send.write_all(length.to_string().as_bytes()).await?;
        }
        _ => {
            while let Some(chunk) = recv.chunk().await? {
                send.send(chunk).await?;
            }
        }
    }
    send.shutdown().await?;
    // A peer that only reads ends its side afterwards.
    while recv.chunk().await?.is_some() {}
    Ok(())
}
