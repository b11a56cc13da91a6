//! Answers to challenges: Basic, and bearer tokens from a token server (distribution's token and OAuth2 specifications).
//!
//! Answers are remembered for an endpoint, a repository and the very credentials they were got with: a pod never uses what
//! another pod's secret earned. The cache is bounded and lives in memory only.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    base: String,
    repository: String,
    credentials: Digest,
}

struct Entry {
    header: HeaderValue,
    until: Instant,
}

/// The answers known to work.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Entry>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.lock().len())
    }
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` that worked last time.
    pub(crate) fn known(&self, endpoint: &Endpoint, credentials: &Credentials) -> Option<HeaderValue> {
        let entries = self.lock();
        let entry = entries.get(&key(endpoint, credentials))?;
        (entry.until > Instant::now()).then(|| entry.header.clone())
    }

    /// Drops an answer that turned out not to work.
    pub(crate) fn forget(&self, endpoint: &Endpoint, credentials: &Credentials) {
        self.lock().remove(&key(endpoint, credentials));
    }

    fn remember(&self, endpoint: &Endpoint, credentials: &Credentials, header: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut entries = self.lock();
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, entry| entry.until > now);
        }
        if entries.len() >= MAX_ENTRIES
            && let Some(oldest) = entries
                .iter()
                .min_by_key(|(_, entry)| entry.until)
                .map(|(key, _)| key.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(
            key(endpoint, credentials),
            Entry {
                header,
                until: now + life,
            },
        );
    }

    /// The `Authorization` that answers `challenges`, got from a token server if they say so.
    pub(crate) async fn answer(
        &self,
        route: &Route,
        target: &Target,
        challenges: &[Challenge],
        credentials: &Credentials,
    ) -> Result<HeaderValue, Error> {
        self.forget(&route.endpoint, credentials);
        let refused = |reason| Error::Challenge {
            target: target.clone(),
            offered: offered(challenges),
            reason,
        };
        let bearer = challenges
            .iter()
            .find(|c| c.scheme == "bearer" && c.param("realm").is_some());
        let (header, life) = if let Some(bearer) = bearer {
            fetch(route, bearer, credentials, &refused).await?
        } else if challenges.iter().any(|c| c.scheme == "basic") {
            match credentials {
                Credentials::Basic { username, password } => {
                    (basic(username, password), Duration::from_secs(MAX_LIFE))
                }
                Credentials::Anonymous => return Err(refused("no credentials were given")),
                Credentials::IdentityToken(_) => return Err(refused("an identity token cannot answer that")),
            }
        } else {
            return Err(refused("that is neither Basic nor Bearer with a realm"));
        };
        let mut header =
            HeaderValue::try_from(header).map_err(|_| refused("its token cannot be sent in a header"))?;
        header.set_sensitive(true);
        self.remember(&route.endpoint, credentials, header.clone(), life);
        Ok(header)
    }
}

fn key(endpoint: &Endpoint, credentials: &Credentials) -> Key {
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
    }
    Key {
        base: endpoint.base.as_str().to_owned(),
        repository: endpoint.repository.clone(),
        credentials: hasher.finish(),
    }
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

/// Asks the token server named in `bearer`.
async fn fetch(
    route: &Route,
    bearer: &Challenge,
    credentials: &Credentials,
    refused: &(impl Fn(&'static str) -> Error + Sync),
) -> Result<(String, Duration), Error> {
    let realm = bearer.param("realm").and_then(|realm| Url::parse(realm).ok());
    let mut url = realm.ok_or_else(|| refused("its token server's address is no URL"))?;
    // The registry names the realm: it must not lead credentials (or us) where a redirect may not.
    transport::allowed(&route.endpoint.base, &url)
        .map_err(|_| refused("its token server is less safe than itself"))?;
    let scope = match bearer.param("scope") {
        Some(scope) if !scope.is_empty() => scope.to_owned(),
        _ => format!("repository:{}:pull", route.endpoint.repository),
    };
    let mut fields = vec![("scope", scope.as_str())];
    if let Some(service) = bearer.param("service") {
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
        Credentials::Anonymous => {
            url.query_pairs_mut().extend_pairs(&fields);
            ("GET", http.get(url.clone()))
        }
    }
}
