//! A connection to a URL, and the head of an answer.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A connection, in the clear or not.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Io for T {}

/// Address and path of a URL.
fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").expect("a URL").1;
    rest.split_at(rest.find('/').expect("a path"))
}

/// Connects to the server of a URL; `ca` is a PEM file to trust, for https.
pub(crate) async fn connect(url: &str, ca: Option<&[u8]>) -> Box<dyn Io> {
    let address = split(url).0;
    let socket = TcpStream::connect(address)
        .await
        .expect("the streaming server listens");
    socket.set_nodelay(true).expect("TCP_NODELAY");
    let Some(ca) = ca else {
        assert!(url.starts_with("http://"), "{url}");
        return Box::new(socket);
    };
    assert!(url.starts_with("https://"), "{url}");
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(ca).expect("a certificate");
    roots.add(certificate).expect("a usable certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = address.rsplit_once(':').expect("a port").0.to_owned();
    let name = ServerName::try_from(host).expect("a name");
    let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
    Box::new(socket.expect("the server's certificate is good"))
}

/// Sends the head of a request; the head of the answer, in lower case.
pub(crate) async fn answer_to(io: &mut dyn Io, url: &str, headers: &str) -> String {
    let (address, path) = split(url);
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    io.write_all(head.as_bytes()).await.expect("a request is sent");
    let mut answer = Vec::new();
    // Byte by byte: what follows the head belongs to what comes after.
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(io.read_u8().await.expect("an answer"));
    }
    String::from_utf8(answer).expect("a head of text").to_lowercase()
}
