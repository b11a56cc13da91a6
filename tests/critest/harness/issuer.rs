//! A token server (distribution's token specification): it hands out tokens that a registry of this suite believes, to those
//! who know the password or the refresh token.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use serde_json::json;

const SERVICE: &str = "critest";

/// What a client must know.
pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "s3cret";
pub(crate) const REFRESH: &str = "refresh-me";

struct Key {
    pair: KeyPair,
    certificate: Vec<u8>,
}

/// Starts a token server and returns the `auth` part of the configuration of a registry that believes it.
pub(crate) fn start(dir: &Path) -> String {
    let pair = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["issuer.test".to_owned()]).expect("a name");
    let certificate = params.self_signed(&pair).expect("a certificate");
    let bundle = dir.join("issuer.pem");
    std::fs::write(&bundle, certificate.pem()).expect("the issuer's certificate");
    let key = Arc::new(Key {
        pair,
        certificate: certificate.der().to_vec(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound above");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let key = Arc::clone(&key);
            // A client that hangs up is none of the test's business.
            std::thread::spawn(move || answer(stream, &key).ok());
        }
    });
    format!(
        "auth:\n  token:\n    realm: http://{address}/token\n    service: {SERVICE}\n    issuer: issuer.test\n    rootcertbundle: {}\n",
        bundle.display()
    )
}

fn answer(mut stream: TcpStream, key: &Key) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut authorization, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                value.clone_into(&mut authorization);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap_or(0);
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let query = first.split(' ').nth(1).and_then(|path| path.split_once('?'));
    let form = match query {
        Some((_, query)) => query.to_owned(),
        None => String::from_utf8_lossy(&body).into_owned(),
    };
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let known = authorization == basic || form.contains(&format!("refresh_token={REFRESH}"));
    let (status, text) = if known {
        ("200 OK", json!({ "token": token(key, &form) }).to_string())
    } else {
        (
            "401 Unauthorized",
            json!({ "details": "who are you?" }).to_string(),
        )
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// A signed token for the scope in `form`, which here is a plain `repository:NAME:pull`.
fn token(key: &Key, form: &str) -> String {
    let scope = form.split('&').find_map(|field| field.strip_prefix("scope="));
    let scope = scope.unwrap_or_default().replace("%3A", ":").replace("%2F", "/");
    let name = scope.split(':').nth(1).unwrap_or_default();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&key.certificate)]});
    let claims = json!({
        "iss": "issuer.test", "sub": USER, "aud": SERVICE, "jti": "1",
        "iat": now - 60, "nbf": now - 60, "exp": now + 600,
        "access": [{"type": "repository", "name": name, "actions": ["pull"]}],
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(&claims));
    let signature = key.pair.sign(text.as_bytes()).expect("a signature");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(raw(&signature)))
}

/// Both numbers of an ECDSA signature in 32 bytes each (RFC 7518, section 3.4), out of DER.
fn raw(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::with_capacity(64);
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let digits = &rest[2..2 + length];
        let digits = digits.strip_prefix(&[0]).unwrap_or(digits);
        out.resize(out.len() + 32 - digits.len(), 0);
        out.extend_from_slice(digits);
        rest = &rest[2 + length..];
    }
    out
}
