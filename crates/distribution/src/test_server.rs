//! A small HTTP/1.1 server that misbehaves on demand. One request a connection; never used outside tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::client::{Client, ClientConfig};
use crate::digest::Digest;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::resolver::Resolver;
use crate::retry::RetryPolicy;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The first byte of a `Range` header.
    pub(crate) fn from(&self) -> Option<usize> {
        self.range().map(|(first, _)| first)
    }

    /// First and last byte of a `Range` header; the last may be left open.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }
}

/// What the server says, and how it fails while saying it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    stall: Option<usize>,
    no_length: bool,
    drip: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        Self {
            status,
            headers: Vec::new(),
            body,
            cut: None,
            stall: None,
            no_length: false,
            drip: false,
        }
    }

    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, body)
    }

    /// `blob` from byte `from` on, as a correct server answers a range.
    pub(crate) fn part(blob: &[u8], from: usize) -> Self {
        Self::piece(blob, from, blob.len() - 1)
    }

    fn piece(blob: &[u8], first: usize, last: usize) -> Self {
        let range = format!("bytes {first}-{last}/{}", blob.len());
        Self::new(206, &blob[first..=last]).with("Content-Range", &range)
    }

    /// Whole or part, as `request` asks.
    pub(crate) fn ranged(blob: &[u8], request: &Request) -> Self {
        match request.range() {
            Some((first, last)) => {
                let last = last.unwrap_or(blob.len() - 1).min(blob.len() - 1);
                Self::piece(blob, first, last)
            }
            None => Self::ok(blob),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Closes the connection after so many bytes of the body.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// Says nothing more after so many bytes of the body.
    pub(crate) fn stall(mut self, after: usize) -> Self {
        self.stall = Some(after);
        self
    }

    /// Sends the body in small pieces, far too slowly.
    pub(crate) fn drip(mut self) -> Self {
        self.drip = true;
        self
    }

    /// Sends no Content-Length: the body ends with the connection.
    pub(crate) fn no_length(mut self) -> Self {
        self.no_length = true;
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, requests): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&log));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&requests)));
            }
        });
        Self { address, log, task }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let reply = handler(&request);
    let head_only = request.method == "HEAD";
    log.lock().unwrap().push(request);
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
    if !reply.no_length {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() || head_only {
        return;
    }
    for piece in reply.body.chunks(1024).take_while(|_| reply.drip) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stream.write_all(piece).await.is_err() {
            return;
        }
    }
    let end = reply.cut.or(reply.stall).unwrap_or(reply.body.len());
    if stream.write_all(&reply.body[..end]).await.is_ok() && reply.stall.is_some() {
        // Until the client hangs up.
        drop(stream.read(&mut [0; 1]).await);
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&piece[..n]);
        // A TLS ClientHello: answer as Go's plain HTTP server does.
        if bytes[0] == 0x16 {
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
                .await
                .ok()?;
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(k, _)| k.eq_ignore_ascii_case("content-length"));
    let length: usize = length.and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    while bytes.len() < end + 4 + length {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&piece[..n]);
    }
    let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

/// Endpoints given by hand, in order.
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) Vec<String>);

impl Resolver for Fixed {
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        let base = |url: &String| Url::parse(&format!("{url}/v2")).unwrap();
        Ok(self
            .0
            .iter()
            .map(|url| Endpoint::new(base(url), reference))
            .collect())
    }
}

/// Short limits, so that failing is quick.
pub(crate) fn config() -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_millis(300),
        retry: RetryPolicy {
            rounds: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
        },
        ..ClientConfig::default()
    }
}

/// A client that asks `servers` in order.
pub(crate) fn client(servers: &[&Server]) -> Client {
    Client::with_resolver(
        Arc::new(Fixed(servers.iter().map(|s| s.url()).collect())),
        config(),
    )
}

/// A reference on `server` itself.
pub(crate) fn reference(server: &Server) -> Reference {
    format!("{}/team/app:v1", server.host()).parse().unwrap()
}

pub(crate) fn descriptor(blob: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/octet-stream".into(),
        digest: Digest::sha256(blob),
        size: u64::try_from(blob.len()).unwrap(),
        urls: Vec::new(),
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    }
}
