//! Answers to challenges: Basic, and bearer tokens from a token server (distribution's token and OAuth2 specifications).
//!
//! Tokens are remembered by realm, service, scope and the very credentials they were got with: a pod never uses what another
//! pod's secret earned. The cache is bounded and lives in memory only. Who needs a token that somebody else is asking for
//! already waits for that one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
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
/// What the specification says where the server does not.
const DEFAULT_LIFE: u64 = 60;
const MAX_LIFE: u64 = 3600;
/// A token is not used in its last seconds: it must still be valid when it arrives.
const MARGIN: Duration = Duration::from_secs(10);

/// What an endpoint asked for when it was last asked for a repository.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Wish {
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
    wishes: HashMap<(String, String), Wish>,
    /// By the wish and the credentials: endpoints with one token server share its tokens.
    tokens: HashMap<Key, Entry>,
    /// Tokens that are being asked for; the receiver gets the header, or ends without.
    asked: HashMap<Key, watch::Receiver<Option<HeaderValue>>>,
}

/// What is wished for, and with which credentials.
type Key = (Wish, Digest);

/// Who asks a token server.
enum Turn<'a> {
    /// Nobody needs to.
    Known(HeaderValue),
    /// The caller, for everybody.
    Ask(Asking<'a>),
    /// Somebody else does.
    Wait(watch::Receiver<Option<HeaderValue>>),
}

/// The duty to ask. Dropped without an answer, those who wait ask for themselves.
struct Asking<'a> {
    tokens: &'a Tokens,
    key: Key,
    answer: watch::Sender<Option<HeaderValue>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.tokens.lock().asked.remove(&self.key);
    }
}

/// The answers known to work.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<Known>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.lock().tokens.len())
    }
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` that worked last time.
    pub(crate) fn known(&self, endpoint: &Endpoint, credentials: &Credentials) -> Option<HeaderValue> {
        let known = self.lock();
        let wish = known.wishes.get(&place(endpoint))?;
        if let Some(header) = without_server(wish, credentials) {
            return header.ok();
        }
        let entry = known.tokens.get(&(wish.clone(), fingerprint(credentials)))?;
        (entry.until > Instant::now()).then(|| entry.header.clone())
    }

    /// Drops an answer that turned out not to work.
    pub(crate) fn forget(&self, endpoint: &Endpoint, credentials: &Credentials) {
        let mut known = self.lock();
        if let Some(wish) = known.wishes.remove(&place(endpoint)) {
            known.tokens.remove(&(wish, fingerprint(credentials)));
        }
    }

    /// Who is to ask for the token of `key`; `tried` is one that does not work.
    fn turn(&self, key: &Key, tried: Option<&HeaderValue>) -> Turn<'_> {
        let mut known = self.lock();
        if let Some(entry) = known.tokens.get(key) {
            if Some(&entry.header) != tried && entry.until > Instant::now() {
                return Turn::Known(entry.header.clone());
            }
            known.tokens.remove(key);
        }
        if let Some(asked) = known.asked.get(key) {
            return Turn::Wait(asked.clone());
        }
        let (answer, asked) = watch::channel(None);
        known.asked.insert(key.clone(), asked);
        Turn::Ask(Asking {
            tokens: self,
            key: key.clone(),
            answer,
        })
    }

    fn remember(&self, key: Key, header: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut known = self.lock();
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

    /// The `Authorization` that answers `challenges`, got from a token server if they say so. `tried` is what did not do.
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
        let wish = wish(challenges, &route.endpoint)
            .ok_or_else(|| refused("that is neither Basic nor Bearer with a realm"))?;
        {
            let mut known = self.lock();
            if known.wishes.len() >= MAX_ENTRIES {
                known.wishes.clear();
            }
            known.wishes.insert(place(&route.endpoint), wish.clone());
        }
        if let Some(header) = without_server(&wish, credentials) {
            return header.map_err(refused);
        }
        let key = (wish, fingerprint(credentials));
        let asking = match self.turn(&key, tried) {
            Turn::Known(header) => return Ok(header),
            Turn::Ask(asking) => Some(asking),
            Turn::Wait(mut asked) => {
                let answer = asked.wait_for(Option::is_some).await;
                if let Some(header) = answer.ok().and_then(|answer| answer.clone()) {
                    return Ok(header);
                }
                // Who asked has failed or gone away, and said so to its own caller only.
                None
            }
        };
        let (token, life) = fetch(route, &key.0, credentials, &refused).await?;
        let header = sensitive(&token).map_err(refused)?;
        self.remember(key, header.clone(), life);
        if let Some(asking) = asking {
            asking.answer.send_replace(Some(header.clone()));
        }
        Ok(header)
    }
}

fn place(endpoint: &Endpoint) -> (String, String) {
    (endpoint.base.as_str().to_owned(), endpoint.repository.clone())
}

/// What `challenges` ask for. A token goes before a password.
fn wish(challenges: &[Challenge], endpoint: &Endpoint) -> Option<Wish> {
    let bearer = challenges
        .iter()
        .find(|c| c.scheme == "bearer" && c.param("realm").is_some());
    if let Some(bearer) = bearer {
        let scope = match bearer.param("scope") {
            Some(scope) if !scope.is_empty() => scope.to_owned(),
            _ => format!("repository:{}:pull", endpoint.repository),
        };
        return Some(Wish::Bearer {
            realm: bearer.param("realm").unwrap_or_default().to_owned(),
            service: bearer.param("service").map(str::to_owned),
            scope,
        });
    }
    let basic = challenges.iter().any(|c| c.scheme == "basic");
    basic.then_some(Wish::Basic)
}

/// The answer that needs no token server, if there is one, or why there can be none.
fn without_server(wish: &Wish, credentials: &Credentials) -> Option<Result<HeaderValue, &'static str>> {
    match (wish, credentials) {
        (_, Credentials::Only { .. }) => Some(Err("its credentials were not chosen by host")),
        (Wish::Basic, Credentials::Basic { username, password }) => {
            Some(sensitive(&basic(username, password)))
        }
        (Wish::Basic, Credentials::Anonymous) => Some(Err("no credentials were given")),
        (Wish::Basic, Credentials::IdentityToken(_)) => Some(Err("an identity token cannot answer that")),
        (Wish::Basic, Credentials::RegistryToken(_)) => Some(Err("a registry token cannot answer that")),
        (Wish::Bearer { .. }, Credentials::RegistryToken(token)) => {
            Some(sensitive(&format!("Bearer {token}")))
        }
        (Wish::Bearer { .. }, _) => None,
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
        crate::error::excerpt(names.join(", ").as_bytes())
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

/// Asks the token server that `wish` names.
async fn fetch(
    route: &Route,
    wish: &Wish,
    credentials: &Credentials,
    refused: &(impl Fn(&'static str) -> Error + Sync),
) -> Result<(String, Duration), Error> {
    let Wish::Bearer {
        realm,
        service,
        scope,
    } = wish
    else {
        return Err(refused("that is no token server"));
    };
    let mut url = Url::parse(realm).map_err(|_| refused("its token server's address is no URL"))?;
    // The registry names the realm: it must not lead credentials (or us) where a redirect may not.
    transport::allowed(&route.endpoint.base, &url)
        .map_err(|_| refused("its token server is less safe than itself"))?;
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
        serde_json::from_slice(&body).map_err(|_| unusable("it is not the JSON of a token server"))?;
    let token = answer
        .token
        .filter(|t| !t.is_empty())
        .or(answer.access_token)
        .filter(|t| !t.is_empty());
    let token = token.ok_or_else(|| unusable("it has no token"))?;
    let life = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE));
    Ok((format!("Bearer {token}"), life.saturating_sub(MARGIN)))
}

/// What to send to the token server at `url`. Secrets never get into the URL.
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
