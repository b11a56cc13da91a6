//! A gRPC call with an `:authority` of our choice, which no client library lets through.
//!
//! HTTP/2 by hand, no more than this takes: preface, SETTINGS, one HEADERS with literal fields (RFC 7541 6.2.2), one
//! DATA, and reading frames until the stream ends (RFC 9113).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Calls `path` with an empty message and returns the answer's message; the error names the frame that refused.
pub(crate) fn call(socket: &Path, path: &str, authority: Option<&str>) -> Result<Vec<u8>, String> {
    exchange(socket, path, authority).map_err(|e| e.to_string())?
}

fn exchange(socket: &Path, path: &str, authority: Option<&str>) -> std::io::Result<Result<Vec<u8>, String>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    if let Some(authority) = authority {
        fields.insert(3, (":authority", authority));
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short header fields"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    frame(&mut out, HEADERS, END_HEADERS, 1, &block);
    frame(&mut out, DATA, END_STREAM, 1, &[0; 5]);
    stream.write_all(&out)?;
    let mut message = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, ACK, 0, &[]);
                stream.write_all(&ack)?;
            }
            DATA => message.extend_from_slice(&payload),
            RST_STREAM | GOAWAY => return Ok(Err(format!("frame of type {kind}: {payload:?}"))),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let body = message.get(5..).map(<[u8]>::to_vec);
            return Ok(body.ok_or_else(|| "no message in the answer".to_owned()));
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("small frames").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
