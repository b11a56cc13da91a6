//! The client's side of exec, attach and port-forward: SPDY/3.1 on the URL that a runtime has answered with, as kubectl and
//! crictl speak it. Every runtime with CRI understands it.
//!
//! ```text
//!   URL ─▶ TCP, TLS ─▶ HTTP upgrade ─▶ Session ─▶ streams: error, stdin, stdout, stderr, resize
//! ```
//!
//! Must never: send credentials, or follow a redirection.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use pausa_spdy::{Config, Headers, RecvHalf, Role, Session, Stream};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::failure::CommandError;

/// Bytes of an error that a runtime tells.
const MAX_ERROR: usize = 64 * 1024;

#[derive(Debug, Default, Clone, Args)]
pub(super) struct StreamFlags {
    /// Certificates in PEM to trust, for a runtime whose streaming server uses TLS.
    #[arg(long, value_name = "FILE")]
    streaming_ca: Option<PathBuf>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Goes to a URL and asks for `protocol`.
pub(super) async fn start(url: &str, protocol: &str, flags: &StreamFlags) -> anyhow::Result<Session> {
    let failed = || format!("cannot stream from {url}, where the runtime sends its clients");
    let uri: Uri = url.parse().with_context(failed)?;
    upgraded(&uri, protocol, flags).await.with_context(failed)
}

async fn upgraded(uri: &Uri, protocol: &str, flags: &StreamFlags) -> anyhow::Result<Session> {
    let authority = uri.authority().context("the URL has no address")?;
    let is_encrypted = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let socket = TcpStream::connect((address, port)).await.context("connect")?;
    socket.set_nodelay(true)?;
    let io: Box<dyn Io> = match is_encrypted {
        true => Box::new(encrypted(socket, address, flags).await?),
        false => Box::new(socket),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority.as_str())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header("X-Stream-Protocol-Version", protocol)
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let text = http_body_util::Limited::new(answer.into_body(), MAX_ERROR);
        let text = http_body_util::BodyExt::collect(text).await;
        let text = text.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
        anyhow::bail!("it answers {status}: {}", text.unwrap_or_default());
    }
    let io = TokioIo::new(hyper::upgrade::on(answer).await?);
    Ok(Session::start(io, Role::Client, Config::default()))
}

async fn encrypted(
    socket: TcpStream,
    host: &str,
    flags: &StreamFlags,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let Some(ca) = &flags.streaming_ca else {
        let text = "the runtime's streaming server uses TLS: give its certificate or that of its authority as \
                    --streaming-ca; with pausa it is the file `streaming.cert` of the configuration";
        return Err(CommandError::Usage(text.to_owned()).into());
    };
    let roots = roots(ca).with_context(|| format!("--streaming-ca {}", ca.display()))?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
}

fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "it has no certificate in PEM");
    Ok(roots)
}

/// Opens a stream with headers.
pub(super) async fn open(session: &Session, headers: &[(&str, &str)]) -> anyhow::Result<Stream> {
    let opened = session.open(headers.iter().copied().collect::<Headers>()).await;
    opened.with_context(|| format!("the runtime does not take the stream {headers:?}"))
}

/// Opens a stream of which only the other side sends.
pub(super) async fn open_to_read(session: &Session, headers: &[(&str, &str)]) -> anyhow::Result<RecvHalf> {
    let (incoming, mut outgoing) = open(session, headers).await?.split();
    outgoing.shutdown().await?;
    Ok(incoming)
}

/// What a stream of errors has to say, to its end; empty if it says nothing. Go's servers reset their streams when they have said
/// everything.
pub(super) async fn error_text(mut stream: RecvHalf) -> anyhow::Result<String> {
    let mut text = Vec::new();
    loop {
        match stream.chunk().await {
            Ok(Some(bytes)) => text.extend_from_slice(&bytes),
            Ok(None) => break,
            Err(_) if !text.is_empty() => break,
            Err(error) => return Err(error).context("the runtime has cut the connection"),
        }
        anyhow::ensure!(
            text.len() <= MAX_ERROR,
            "the runtime's error is longer than {MAX_ERROR} bytes"
        );
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What came of a command, `metav1.Status` in JSON (protocol `v4.channel.k8s.io`).
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// The exit code of a command.
pub(super) fn exit_code(text: &str) -> anyhow::Result<ExitCode> {
    let wrong = || format!("the runtime does not say what came of the command, but {text:?}");
    let status: Status = serde_json::from_str(text).with_context(wrong)?;
    if status.status == "Success" {
        return Ok(ExitCode::SUCCESS);
    }
    let code = status
        .details
        .causes
        .iter()
        .find(|cause| cause.reason == "ExitCode");
    match code.map(|cause| cause.message.parse::<u8>()) {
        Some(Ok(code)) if status.reason == "NonZeroExitCode" => Ok(ExitCode::from(code)),
        _ if status.status == "Failure" => Err(anyhow::Error::msg(status.message)),
        _ => Err(anyhow::Error::msg(wrong())),
    }
}

#[cfg(test)]
mod tests;
