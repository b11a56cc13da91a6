//! Answers to challenges: Basic, and bearer tokens from a token server (distribution's token and OAuth2 specifications).
//!
//! Tokens are cached by realm, service, scope and the credentials used for them: a pod never uses a token obtained with another
//! pod's secret. The cache is bounded and in memory only. Concurrent requests for the same token share one request to the token
//! server.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use tokio::sync::watch;
use url::Url;

use crate::body::Body;
use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::endpoint::Endpoint;
use crate::error::{Error, Target};
use crate::transport::{self, Route};

const MAX_ENTRIES: usize = 1024;
const MAX_ANSWER: usize = 1024 * 1024;
/// The specification's default, in seconds, if the server says nothing.
const DEFAULT_LIFE: u64 = 60;
const MAX_LIFE: u64 = 3600;
/// A token is not used in its last seconds: it must still be valid when it arrives.
const MARGIN: Duration = Duration::from_secs(10);

/// The authentication that an endpoint requires for a repository.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Scheme {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: String,
    },
}

struct Entry {
    header: HeaderValue,
    until: Instant,
}

#[derive(Default)]
struct Known {
    /// By the endpoint's base and the repository.
    schemes: HashMap<(String, String), Scheme>,
    /// Endpoints with the same token server share its tokens.
    tokens: HashMap<Key, Entry>,
    /// Requests to token servers in flight. The receiver gets the header, or is closed without one after a failure.
    pending: HashMap<Key, watch::Receiver<Option<HeaderValue>>>,
}

/// The scheme, and the fingerprint of the credentials.
type Key = (Scheme, Digest);

/// How a request gets its token.
enum Turn<'a> {
    /// From the cache.
    Cached(HeaderValue),
    /// By asking the token server.
    Ask(PendingRequest<'a>),
    /// From a request in flight.
    Wait(watch::Receiver<Option<HeaderValue>>),
}

/// A request to the token server that others may wait for. If it is dropped without an answer, they ask for themselves.
struct PendingRequest<'a> {
    tokens: &'a Tokens,
    key: Key,
    answer: watch::Sender<Option<HeaderValue>>,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.tokens.0.lock().pending.remove(&self.key);
    }
}

/// Cached answers to challenges.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<Known>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.lock().tokens.len())
    }
}

impl Tokens {
    /// The `Authorization` that worked last time.
    pub(crate) fn known(&self, endpoint: &Endpoint, credentials: &Credentials) -> Option<HeaderValue> {
        let known = self.0.lock();
        let scheme = known.schemes.get(&place(endpoint))?;
        if let Some(header) = without_server(scheme, credentials) {
            return header.ok();
        }
        let entry = known.tokens.get(&(scheme.clone(), fingerprint(credentials)))?;
        (entry.until > Instant::now()).then(|| entry.header.clone())
    }

    /// Drops an answer that was refused.
    pub(crate) fn forget(&self, endpoint: &Endpoint, credentials: &Credentials) {
        let mut known = self.0.lock();
        if let Some(scheme) = known.schemes.remove(&place(endpoint)) {
            known.tokens.remove(&(scheme, fingerprint(credentials)));
        }
    }

    /// How to get the token of `key`, which is not the refused one in `tried`.
    fn turn(&self, key: &Key, tried: Option<&HeaderValue>) -> Turn<'_> {
        let mut known = self.0.lock();
        if let Some(entry) = known.tokens.get(key) {
            if Some(&entry.header) != tried && entry.until > Instant::now() {
                return Turn::Cached(entry.header.clone());
            }
            known.tokens.remove(key);
        }
        if let Some(asked) = known.pending.get(key) {
            return Turn::Wait(asked.clone());
        }
        let (answer, asked) = watch::channel(None);
        known.pending.insert(key.clone(), asked);
        Turn::Ask(PendingRequest {
            tokens: self,
            key: key.clone(),
            answer,
        })
    }

    fn remember(&self, key: Key, header: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut known = self.0.lock();
        let tokens = &mut known.tokens;
        if tokens.len() >= MAX_ENTRIES {
            tokens.retain(|_, entry| entry.until > now);
        }
        let oldest = tokens.iter().min_by_key(|(_, entry)| entry.until);
        if tokens.len() >= MAX_ENTRIES
            && let Some(oldest) = oldest.map(|(key, _)| key.clone())
        {
            tokens.remove(&oldest);
        }
        let until = now + life;
        tokens.insert(key, Entry { header, until });
    }

    /// The `Authorization` that answers `challenges`, from a token server if they name one. `tried` was refused.
    pub(crate) async fn answer(
        &self,
        route: &Route,
        target: &Target,
        challenges: &[Challenge],
        credentials: &Credentials,
        tried: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let refused = |reason| Error::Challenge {
            target: target.clone(),
            offered: offered(challenges),
            reason,
        };
        let scheme = scheme(challenges, &route.endpoint)
            .ok_or_else(|| refused("it is neither Basic nor Bearer with a realm"))?;
        {
            let mut known = self.0.lock();
            if known.schemes.len() >= MAX_ENTRIES {
                known.schemes.clear();
            }
            known.schemes.insert(place(&route.endpoint), scheme.clone());
        }
        if let Some(header) = without_server(&scheme, credentials) {
            return header.map_err(refused);
        }
        let key = (scheme, fingerprint(credentials));
        let pending = match self.turn(&key, tried) {
            Turn::Cached(header) => return Ok(header),
            Turn::Ask(pending) => Some(pending),
            Turn::Wait(mut asked) => {
                let answer = asked.wait_for(Option::is_some).await;
                if let Some(header) = answer.ok().and_then(|answer| answer.clone()) {
                    return Ok(header);
                }
                // That request failed or was dropped; only its own caller knows why.
                None
            }
        };
        let (token, life) = fetch(route, &key.0, credentials, &refused).await?;
        let header = sensitive(&token).map_err(refused)?;
        self.remember(key, header.clone(), life);
        if let Some(pending) = pending {
            pending.answer.send_replace(Some(header.clone()));
        }
        Ok(header)
    }
}

fn place(endpoint: &Endpoint) -> (String, String) {
    (endpoint.base.as_str().to_owned(), endpoint.repository.clone())
}

/// The scheme that `challenges` require. A token is preferred to a password.
fn scheme(challenges: &[Challenge], endpoint: &Endpoint) -> Option<Scheme> {
    let bearer = challenges
        .iter()
        .find(|c| c.scheme == "bearer" && c.param("realm").is_some());
    if let Some(bearer) = bearer {
        let scope = match bearer.param("scope") {
            Some(scope) if !scope.is_empty() => scope.to_owned(),
            _ => format!("repository:{}:pull", endpoint.repository),
        };
        return Some(Scheme::Bearer {
            realm: bearer.param("realm").unwrap_or_default().to_owned(),
            service: bearer.param("service").map(str::to_owned),
            scope,
        });
    }
    let basic = challenges.iter().any(|c| c.scheme == "basic");
    basic.then_some(Scheme::Basic)
}

/// The answer if it needs no token server, or why there is none. `None` if a token server must be asked.
fn without_server(scheme: &Scheme, credentials: &Credentials) -> Option<Result<HeaderValue, &'static str>> {
    match (scheme, credentials) {
        (_, Credentials::Only { .. }) => Some(Err("the credentials are not bound to a host")),
        (Scheme::Basic, Credentials::Basic { username, password }) => {
            Some(sensitive(&basic(username, password)))
        }
        (Scheme::Basic, Credentials::Anonymous) => Some(Err("no credentials were given")),
        (Scheme::Basic, Credentials::IdentityToken(_)) => Some(Err("an identity token cannot answer that")),
        (Scheme::Basic, Credentials::RegistryToken(_)) => Some(Err("a registry token cannot answer that")),
        (Scheme::Bearer { .. }, Credentials::RegistryToken(token)) => {
            Some(sensitive(&format!("Bearer {token}")))
        }
        (Scheme::Bearer { .. }, _) => None,
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, &'static str> {
    let mut header = HeaderValue::try_from(text).map_err(|_| "its token cannot be sent in a header")?;
    header.set_sensitive(true);
    Ok(header)
}

fn fingerprint(credentials: &Credentials) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    match credentials {
        Credentials::Anonymous => {}
        Credentials::Basic { username, password } => {
            hasher.update(b"basic\0");
            hasher.update(username.as_bytes());
            hasher.update(b"\0");
            hasher.update(password.as_bytes());
        }
        Credentials::IdentityToken(token) => {
            hasher.update(b"identity\0");
            hasher.update(token.as_bytes());
        }
        Credentials::RegistryToken(token) => {
            hasher.update(b"registry\0");
            hasher.update(token.as_bytes());
        }
        Credentials::Only { credentials, .. } => return fingerprint(credentials),
    }
    hasher.finish()
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn offered(challenges: &[Challenge]) -> String {
    let names: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
    if names.is_empty() {
        "without saying how".to_owned()
    } else {
        crate::text::excerpt(names.join(", ").as_bytes())
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Requests a token from the token server that `scheme` names.
async fn fetch(
    route: &Route,
    scheme: &Scheme,
    credentials: &Credentials,
    refused: &(impl Fn(&'static str) -> Error + Sync),
) -> Result<(String, Duration), Error> {
    let Scheme::Bearer {
        realm,
        service,
        scope,
    } = scheme
    else {
        return Err(refused("it has no token server"));
    };
    let mut url = Url::parse(realm).map_err(|_| refused("its token server's address is not a URL"))?;
    // The registry names the realm: it must not send credentials or requests where a redirect may not lead.
    transport::allowed(&route.endpoint.base, &url)
        .map_err(|_| refused("its token server is less secure than the registry"))?;
    let mut fields = vec![("scope", scope.as_str())];
    if let Some(service) = service {
        fields.push(("service", service));
    }
    let (method, request) = token_request(&route.http, &mut url, fields, credentials);
    let target = Target::new(method, &url);
    let response = transport::send(request, &target, route.patience).await?;
    if !response.status().is_success() {
        return Err(transport::failure(response, target).await);
    }
    let body = Body::new(response, target.clone(), route.stall)
        .whole("token", MAX_ANSWER)
        .await?;
    let unusable = |reason| Error::Answer {
        target: target.clone(),
        reason,
    };
    let answer: TokenAnswer =
        serde_json::from_slice(&body).map_err(|_| unusable("it is not the JSON of a token response"))?;
    let token = answer
        .token
        .filter(|t| !t.is_empty())
        .or(answer.access_token)
        .filter(|t| !t.is_empty());
    let token = token.ok_or_else(|| unusable("it has no token"))?;
    let life = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE));
    Ok((format!("Bearer {token}"), life.saturating_sub(MARGIN)))
}

/// The request for the token server at `url`. Secrets never get into the URL.
fn token_request<'a>(
    http: &reqwest::Client,
    url: &mut Url,
    mut fields: Vec<(&'static str, &'a str)>,
    credentials: &'a Credentials,
) -> (&'static str, reqwest::RequestBuilder) {
    match credentials {
        Credentials::IdentityToken(token) => {
            fields.push(("grant_type", "refresh_token"));
            fields.push(("client_id", "pausa"));
            fields.push(("refresh_token", token));
            let form = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&fields)
                .finish();
            let request = http.post(url.clone()).body(form);
            (
                "POST",
                request.header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
            )
        }
        Credentials::Basic { username, password } => {
            url.query_pairs_mut().extend_pairs(&fields);
            let request = http.get(url.clone());
            ("GET", request.header(AUTHORIZATION, basic(username, password)))
        }
        _ => {
            url.query_pairs_mut().extend_pairs(&fields);
            ("GET", http.get(url.clone()))
        }
    }
}
