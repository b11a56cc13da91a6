//! What errors are made of: their kinds, the request they are about, and texts fit to be shown.

use std::fmt;

use super::Error;

/// What callers must tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The registry wants (other) credentials.
    Unauthorized,
    /// The registry does not know the image, manifest or blob.
    NotFound,
    /// The registry asks to slow down.
    RateLimited,
    /// The image is not built for the wanted platform.
    NoMatchingPlatform,
    /// The network, a timeout or the registry itself; worth another try later.
    Unavailable,
    /// Bytes came that are not those asked for.
    DigestMismatch,
    /// A reference or digest does not parse.
    InvalidReference,
    /// Something this client refuses on purpose.
    Unsupported,
    /// The registry's answer breaks the distribution or image specification.
    InvalidAnswer,
    /// The node's configuration forbids the image.
    Blocked,
    /// The node's own configuration or the given credentials.
    Config,
}

/// Which request an error is about. Has no query string, so it is safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// HTTP method.
    pub method: &'static str,
    /// Host and port as in the URL.
    pub host: String,
    /// Path of the URL.
    pub path: String,
}

impl Target {
    pub(crate) fn new(method: &'static str, url: &url::Url) -> Self {
        let host = url.host_str().unwrap_or("?");
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Self {
            method,
            host,
            path: url.path().chars().take(300).collect(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.method, self.path, self.host)
    }
}

pub(super) fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "check the image pull secret and that it may pull this repository",
        404 | 410 => "check the image's name and tag, and whether it is private",
        429 => "the registry limits the rate: log in, use a mirror, or wait",
        500..=599 => "the registry has a problem of its own, try again later",
        _ => "the registry does not accept this request",
    }
}

pub(super) fn quoted(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!(" (\"{excerpt}\")")
    }
}

pub(crate) fn chain_all(tried: &[Error]) -> String {
    let texts: Vec<String> = tried
        .iter()
        .map(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                text.push_str(": ");
                text.push_str(&inner.to_string());
                cause = inner.source();
            }
            text
        })
        .collect();
    texts.join("; then ")
}

/// At most 200 characters of a server's (or user's) words, fit for a log line.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let head = bytes.get(..1024).unwrap_or(bytes);
    let text = String::from_utf8_lossy(head);
    // Control characters could forge log lines or drive a terminal.
    let mut words = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    words.chars().take(200).collect()
}
