//! One request to one endpoint: redirects, timeouts, authentication, and errors that say what happened.
//!
//! Invariants: `Authorization` and the headers of `hosts.toml` go to the endpoint's own origin only; a redirect never leads
//! from HTTPS to HTTP nor from another host into this node; a request that was refused with 401 is repeated once at most.

use std::net::Ipv6Addr;
use std::time::{Duration, SystemTime};

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::challenge::{self, Challenge};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, is_loopback};
use crate::error::{Error, Target};
use crate::text::excerpt;
use crate::token::Tokens;

const MAX_REDIRECTS: usize = 5;
const EXCERPT_BYTES: usize = 4096;
const EXCERPT_TIME: Duration = Duration::from_secs(5);

/// An endpoint and the HTTP client that reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    pub(crate) http: reqwest::Client,
    /// Time limit for waiting without receiving data.
    pub(crate) stall: Duration,
    /// Time limit until the head of a response: connecting and stalling.
    pub(crate) patience: Duration,
}

/// A request to a registry.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) tail: String,
    pub(crate) accept: Option<&'static str>,
    /// First byte wanted, if not all.
    pub(crate) from: Option<u64>,
    /// The byte after the last one wanted, if not all from there.
    pub(crate) until: Option<u64>,
}

impl Ask {
    pub(crate) fn target(&self, route: &Route) -> Target {
        Target::new(name(&self.method), &route.endpoint.url(&self.tail))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(accept) = self.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(from) = self.from {
            let last = self.until.map(|until| until.saturating_sub(1).to_string());
            let range = format!("bytes={from}-{}", last.unwrap_or_default());
            if let Ok(range) = HeaderValue::try_from(range) {
                headers.insert(RANGE, range);
            }
        }
        headers
    }
}

/// Sends `ask` and returns a successful answer with its body still to come.
pub(crate) async fn ask(
    route: &Route,
    ask: &Ask,
    tokens: &Tokens,
    credentials: &Credentials,
) -> Result<Response, Error> {
    let credentials = credentials.at(&route.endpoint);
    let known = tokens.known(&route.endpoint, credentials);
    let result = ask_with(route, ask, tokens, credentials, known).await;
    result.map_err(|error| error.without(&credentials.secrets()))
}

async fn ask_with(
    route: &Route,
    ask: &Ask,
    tokens: &Tokens,
    credentials: &Credentials,
    known: Option<HeaderValue>,
) -> Result<Response, Error> {
    let answer = follow(route, ask, known.as_ref()).await?;
    if answer.response.status() != StatusCode::UNAUTHORIZED || !answer.own {
        return success(answer, known.as_ref()).await;
    }
    let target = ask.target(route);
    let challenges = challenges(&answer.response);
    // Reads the body too, so that the connection can be reused.
    let refused = success(answer, known.as_ref()).await;
    let authorization = tokens
        .answer(route, &target, &challenges, credentials, known.as_ref())
        .await?;
    if Some(&authorization) == known.as_ref() {
        // Sending the same again would only count as one more wrong password.
        tokens.forget(&route.endpoint, credentials);
        return refused;
    }
    let answer = follow(route, ask, Some(&authorization)).await?;
    if answer.response.status() == StatusCode::UNAUTHORIZED {
        tokens.forget(&route.endpoint, credentials);
    }
    success(answer, Some(&authorization)).await
}

struct Answer {
    response: Response,
    target: Target,
    /// Whether it came from the endpoint itself and not from the target of a redirect.
    own: bool,
}

async fn follow(route: &Route, ask: &Ask, authorization: Option<&HeaderValue>) -> Result<Answer, Error> {
    let start = route.endpoint.url(&ask.tail);
    let mut url = start.clone();
    for _ in 0..=MAX_REDIRECTS {
        let own = same_origin(&start, &url);
        let target = Target::new(name(&ask.method), &url);
        let mut headers = ask.headers();
        if own {
            // The protocol's headers override configured ones.
            let mut configured = route.endpoint.headers.clone();
            configured.extend(headers);
            headers = configured;
            if let Some(authorization) = authorization {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
        }
        let request = route
            .http
            .request(ask.method.clone(), url.clone())
            .headers(headers);
        let response = send(request, &target, route.patience).await?;
        match redirect(&response, &url, &target)? {
            Some(next) => url = next,
            None => {
                return Ok(Answer {
                    response,
                    target,
                    own,
                });
            }
        }
    }
    Err(Error::Redirect {
        target: Target::new(name(&ask.method), &url),
        reason: "there are too many of them",
    })
}

/// Sends one request and waits for the head of its answer.
pub(crate) async fn send(
    request: reqwest::RequestBuilder,
    target: &Target,
    patience: Duration,
) -> Result<Response, Error> {
    match tokio::time::timeout(patience, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(Error::Transport {
            target: target.clone(),
            source: error.without_url(),
        }),
        Err(_) => Err(Error::Stalled {
            target: target.clone(),
            step: "an answer",
            after: patience,
        }),
    }
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

fn name(method: &Method) -> &'static str {
    if *method == Method::HEAD { "HEAD" } else { "GET" }
}

/// The target of the redirect, if the response is one.
fn redirect(response: &Response, from: &Url, target: &Target) -> Result<Option<Url>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let refused = |reason| Error::Redirect {
        target: target.clone(),
        reason,
    };
    let to = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| from.join(value).ok())
        .ok_or_else(|| refused("it has no usable Location"))?;
    allowed(from, &to).map_err(refused)?;
    Ok(Some(to))
}

/// Whether a server at `from` may redirect to `to`.
pub(crate) fn allowed(from: &Url, to: &Url) -> Result<(), &'static str> {
    match (from.scheme(), to.scheme()) {
        ("https", "https") | ("http", "http" | "https") => {}
        ("https", "http") => return Err("it leads from HTTPS to plain HTTP"),
        _ => return Err("it leads to a URL that is not HTTP"),
    }
    if is_this_node(to) && !is_this_node(from) {
        return Err("it leads from another host into this node");
    }
    if is_link_local(to) && !is_link_local(from) && !is_this_node(from) {
        return Err("it leads from another network to a link-local address of this node's");
    }
    Ok(())
}

/// Loopback in every spelling that reaches it.
fn is_this_node(url: &Url) -> bool {
    let unspecified = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_unspecified(),
        Some(url::Host::Ipv6(address)) => {
            let mapped = address.to_ipv4_mapped();
            address.is_unspecified() || mapped.is_some_and(|a| a.is_loopback() || a.is_unspecified())
        }
        _ => false,
    };
    unspecified || is_loopback(url)
}

/// A link-local address, or the one that serves as such. Cloud providers serve the node's identity there, to whatever asks
/// from the node.
fn is_link_local(url: &Url) -> bool {
    const AMAZON: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_link_local(),
        Some(url::Host::Ipv6(address)) => {
            let mapped = address.to_ipv4_mapped();
            address == AMAZON
                || address.is_unicast_link_local()
                || mapped.is_some_and(|address| address.is_link_local())
        }
        _ => false,
    }
}

fn challenges(response: &Response) -> Vec<Challenge> {
    let values = response.headers().get_all(WWW_AUTHENTICATE);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .take(8)
        .flat_map(challenge::parse)
        .collect()
}

/// The response if its status is a success; otherwise its error, from which `authorization` is removed.
async fn success(answer: Answer, authorization: Option<&HeaderValue>) -> Result<Response, Error> {
    if answer.response.status().is_success() {
        return Ok(answer.response);
    }
    let sent = authorization.and_then(|header| header.to_str().ok()?.split_once(' '));
    let sent: Vec<String> = sent.map(|(_, token)| token.to_owned()).into_iter().collect();
    Err(failure(answer.response, answer.target).await.without(&sent))
}

/// The error for an answer with an error status.
pub(crate) async fn failure(mut response: Response, target: Target) -> Error {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| wait(value.to_str().ok()?.trim()));
    let mut bytes = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > EXCERPT_BYTES {
                break;
            }
        }
    };
    // A body that comes too slowly is left out of the error.
    drop(tokio::time::timeout(EXCERPT_TIME, reading).await);
    Error::Status {
        target,
        status,
        excerpt: explain(&bytes),
        retry_after,
    }
}

/// `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
fn wait(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[derive(Deserialize)]
struct Explanation {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The server's words: those of the specification's error format if it is used, else the beginning of the body.
fn explain(bytes: &[u8]) -> String {
    match serde_json::from_slice::<Explanation>(bytes) {
        Ok(found) => {
            let reasons: Vec<String> = found
                .errors
                .iter()
                .take(4)
                .map(|reason| format!("{}: {}", reason.code, reason.message))
                .collect();
            excerpt(reasons.join("; ").as_bytes())
        }
        Err(_) => excerpt(bytes),
    }
}
