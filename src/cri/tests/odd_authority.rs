//! A client made of bytes, because no Rust client can be made to say such authorities.

use loona_hpack::{Decoder, Encoder};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Client {
    socket: UnixStream,
    encoder: Encoder<'static>,
    decoder: Decoder<'static>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let mut socket = UnixStream::connect(&server.socket).await.unwrap();
        socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self {
            socket,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
        }
    }

    /// Sends a Version request, its header block in two frames.
    async fn send(&mut self, stream: u32, authority: &str) {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/runtime.v1.RuntimeService/Version"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block = self
            .encoder
            .encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
        let (head, tail) = block.split_at(block.len() / 2);
        let message = v1::VersionRequest { version: "v1".into() }.encode_to_vec();
        let length = u8::try_from(message.len()).unwrap();
        let body = [&[0, 0, 0, 0, length][..], &message].concat();
        let bytes = [
            frame(HEADERS, 0, stream, head),
            frame(CONTINUATION, END_HEADERS, stream, tail),
            frame(DATA, END_STREAM, stream, &body),
        ];
        self.socket.write_all(&bytes.concat()).await.unwrap();
    }

    /// Reads until the stream ends; the response and `grpc-status`, or the frame that ended it otherwise.
    async fn receive(&mut self, stream: u32) -> Result<(v1::VersionResponse, String), u8> {
        let mut body = Vec::new();
        loop {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await.map_err(|_| GOAWAY)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.socket.read_exact(&mut payload).await.unwrap();
            let (kind, flags) = (head[3], head[4]);
            if kind == SETTINGS && flags == 0 {
                // A server that has hung up has said why before: read on.
                self.socket.write_all(&frame(SETTINGS, 1, 0, &[])).await.ok();
            }
            if kind == GOAWAY {
                return Err(kind);
            }
            if u32::from_be_bytes(head[5..].try_into().unwrap()) != stream {
                continue;
            }
            match kind {
                DATA => body.extend(payload),
                HEADERS => {
                    let fields = self.decoder.decode(&payload).unwrap();
                    if flags & END_STREAM != 0 {
                        let status = fields.into_iter().find(|(name, _)| name == b"grpc-status");
                        let response = v1::VersionResponse::decode(body.get(5..).unwrap_or_default());
                        return Ok((response.unwrap(), String::from_utf8(status.unwrap().1).unwrap()));
                    }
                }
                RST_STREAM => return Err(kind),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn clients_that_call_the_server_by_its_path_are_served() {
    let server = Server::start().await;
    let path = server.socket.to_str().unwrap();
    let relative = &path[1..];
    let escaped = path.replace('/', "%2F");
    for authority in [path, relative, &escaped, "", "localhost", "localhost:80"] {
        let mut client = Client::connect(&server).await;
        // From the second request on the fields are references into the dynamic table.
        for stream in [1, 3, 5, 7] {
            client.send(stream, authority).await;
            let answer = client.receive(stream).await;
            let (response, status) = answer.unwrap_or_else(|frame| panic!("{authority:?}: {frame}"));
            assert_eq!((response.runtime_name.as_str(), status.as_str()), ("pausa", "0"));
        }
    }
}

#[tokio::test]
async fn a_broken_client_is_told_so_by_http2() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    // An index into a table that is empty.
    let broken = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0x40]);
    client.socket.write_all(&broken).await.unwrap();
    assert_eq!(client.receive(1).await, Err(GOAWAY));
    server
        .runtime()
        .await
        .version(v1::VersionRequest::default())
        .await
        .unwrap();
}
