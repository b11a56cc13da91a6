//! The HTTP upgrade: the requested protocol and the negotiated subprotocol.
//!
//! ```text
//!   request ─▶ method, path ─▶ token redeemed ─▶ admitted ─▶ SPDY or WebSocket ─▶ subprotocol ─▶ 101
//!                   404, 405           404         429, 503         400                403
//! ```
//!
//! SPDY names its subprotocols in `X-Stream-Protocol-Version` (a convention of Kubernetes), a WebSocket in
//! `Sec-WebSocket-Protocol` (RFC 6455). In both, the client's order decides.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::forward;
use super::remote::Version;
use super::websocket::Form;

/// The subprotocols of SPDY, in requests and answers.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// In a refusal: the supported subprotocols.
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";
const PORT_FORWARD: &str = "portforward.k8s.io";
const TUNNELLED_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

pub(super) type Answer = Response<Full<Bytes>>;

/// How a client of exec or attach is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    Spdy(Version),
    WebSocket(Version, Form),
}

/// How a client of port-forward is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forward {
    Spdy,
    /// SPDY inside a WebSocket.
    Tunnel,
    WebSocket(Form),
}

/// The connection of an exec or attach with the answer that upgrades to it, or the refusal.
pub(super) fn remote(headers: &HeaderMap) -> Result<(Remote, Answer), Box<Answer>> {
    match kind(headers)? {
        Kind::Spdy => {
            let (name, version) = choose_spdy(headers, &Version::SPDY)?;
            Ok((Remote::Spdy(version), switch_to_spdy(name)))
        }
        Kind::WebSocket(key) => {
            let choice = choose_websocket(headers, &Version::WEBSOCKET)?;
            let (version, form) = choice.map_or(Version::FIRST, |(_, what)| what);
            let answer = switch_to_websocket(key, choice.map(|(name, _)| name));
            Ok((Remote::WebSocket(version, form), answer))
        }
    }
}

/// The connection of a port-forward with the answer that upgrades to it, or the refusal.
pub(super) fn port_forward(headers: &HeaderMap) -> Result<(Forward, Answer), Box<Answer>> {
    match kind(headers)? {
        Kind::Spdy => {
            let (name, ()) = choose_spdy(headers, &[(PORT_FORWARD, ())])?;
            Ok((Forward::Spdy, switch_to_spdy(name)))
        }
        Kind::WebSocket(key) => {
            let mut known = vec![(TUNNELLED_PORT_FORWARD, Forward::Tunnel)];
            known.extend(forward::PROTOCOLS.map(|(name, form)| (name, Forward::WebSocket(form))));
            let choice = choose_websocket(headers, &known)?;
            let kind = choice.map_or(Forward::WebSocket(Form::Binary), |(_, kind)| kind);
            Ok((kind, switch_to_websocket(key, choice.map(|(name, _)| name))))
        }
    }
}

pub(super) fn refusal(status: StatusCode, why: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(why.into()));
    *answer.status_mut() = status;
    // A second request would have nothing to ask for.
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

enum Kind<'a> {
    Spdy,
    WebSocket(&'a [u8]),
}

fn kind(headers: &HeaderMap) -> Result<Kind<'_>, Box<Answer>> {
    let wants_upgrade = words(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"));
    let upgrade =
        |name: &str| wants_upgrade && words(headers, &UPGRADE).any(|word| word.eq_ignore_ascii_case(name));
    if upgrade(SPDY) {
        return Ok(Kind::Spdy);
    }
    if !upgrade("websocket") {
        let why = "this is a stream: send \"Connection: Upgrade\" and \"Upgrade: SPDY/3.1\" or \"Upgrade: websocket\"";
        return Err(refusal(StatusCode::BAD_REQUEST, why).into());
    }
    if !words(headers, &SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
        let mut answer = refusal(
            StatusCode::UPGRADE_REQUIRED,
            "the version of WebSocket must be 13",
        );
        let headers = answer.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(answer.into());
    }
    match headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) => Ok(Kind::WebSocket(key.as_bytes())),
        None => Err(refusal(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Key is missing").into()),
    }
}

/// The elements of a list header, in one line or several.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// The client's first choice that is known.
fn choose<T: Copy>(
    headers: &HeaderMap,
    name: &HeaderName,
    known: &[(&'static str, T)],
) -> Option<(&'static str, T)> {
    words(headers, name).find_map(|word| known.iter().find(|(name, _)| *name == word).copied())
}

fn choose_spdy<T: Copy>(
    headers: &HeaderMap,
    known: &[(&'static str, T)],
) -> Result<(&'static str, T), Box<Answer>> {
    if !headers.contains_key(STREAM_PROTOCOL) {
        let why = "the header X-Stream-Protocol-Version is missing: it lists the protocols of the client";
        return Err(refusal(StatusCode::BAD_REQUEST, why).into());
    }
    choose(headers, &STREAM_PROTOCOL, known).ok_or_else(|| {
        let mut answer = refusal(StatusCode::FORBIDDEN, unknown(headers, &STREAM_PROTOCOL, known));
        for (name, _) in known {
            answer
                .headers_mut()
                .append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(name));
        }
        answer.into()
    })
}

/// None if the client asks for no subprotocol.
fn choose_websocket<T: Copy>(
    headers: &HeaderMap,
    known: &[(&'static str, T)],
) -> Result<Option<(&'static str, T)>, Box<Answer>> {
    if words(headers, &SEC_WEBSOCKET_PROTOCOL).next().is_none() {
        return Ok(None);
    }
    let choice = choose(headers, &SEC_WEBSOCKET_PROTOCOL, known);
    let unknown = || {
        refusal(
            StatusCode::FORBIDDEN,
            unknown(headers, &SEC_WEBSOCKET_PROTOCOL, known),
        )
    };
    choice.map(Some).ok_or_else(|| unknown().into())
}

fn unknown<T>(headers: &HeaderMap, name: &HeaderName, known: &[(&'static str, T)]) -> String {
    let asked: Vec<_> = words(headers, name).take(16).collect();
    let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    format!(
        "no common protocol: the client speaks {}, this server {}",
        asked.join(", "),
        known.join(", ")
    )
}

fn switch_to_spdy(protocol: &'static str) -> Answer {
    let mut answer = switch(HeaderValue::from_static(SPDY));
    let headers = answer.headers_mut();
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    answer
}

fn switch_to_websocket(key: &[u8], protocol: Option<&'static str>) -> Answer {
    let mut answer = switch(HeaderValue::from_static("websocket"));
    let headers = answer.headers_mut();
    // Base64 is always a valid header value.
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    answer
}

fn switch(upgrade: HeaderValue) -> Answer {
    let mut answer = refusal(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, upgrade);
    answer
}
