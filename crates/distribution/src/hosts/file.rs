//! One `hosts.toml`: its keys, and how they become endpoints.
//!
//! ```toml
//! server = "https://registry.example"      # who is asked last; https://<host> if absent
//! [host."https://mirror.example"]          # asked first, in the order of the file
//!   capabilities = ["pull", "resolve"]
//!   ca = "mirror.pem"                      # relative to the file
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::read;
use crate::error::Error;
use crate::reference::Reference;
use crate::resolver::{Capabilities, ClientPem, Endpoint, Fallback, default_endpoints, is_loopback};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Settings>,
    // The settings of `server` stand at the top. `flatten` would lose `deny_unknown_fields`.
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMany>>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMany>>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// One file with certificate and key, several such files, or pairs of files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Many(Vec<ClientEntry>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ClientEntry {
    Both(String),
    Pair(Vec<String>),
}

/// The endpoints that the file at `path` gives for `reference`.
pub(super) fn endpoints(path: &Path, bytes: &[u8], reference: &Reference) -> Result<Vec<Endpoint>, Error> {
    let context = Context { path, reference };
    let file: HostsFile = toml::from_slice(bytes).map_err(|error| context.syntax(bytes, &error))?;
    let mut hosts: Vec<(&Spanned<String>, &Settings)> = file.host.iter().collect();
    hosts.sort_by_key(|(name, _)| name.span().start);
    let mut endpoints = Vec::new();
    for (name, settings) in hosts {
        let key = format!("host.\"{}\"", name.get_ref());
        endpoints.extend(context.endpoint(&key, name.get_ref(), settings)?);
    }
    let own = Settings {
        capabilities: file.capabilities,
        ca: file.ca,
        client: file.client,
        skip_verify: file.skip_verify,
        header: file.header,
        override_path: file.override_path,
        dial_timeout: file.dial_timeout,
    };
    match &file.server {
        Some(server) => endpoints.extend(context.endpoint("server", server, &own)?),
        None => {
            let mut fallback = default_endpoints(reference)?;
            for endpoint in &mut fallback {
                context.apply("", endpoint, &own)?;
            }
            endpoints.extend(fallback);
        }
    }
    Ok(endpoints)
}

struct Context<'a> {
    path: &'a Path,
    reference: &'a Reference,
}

impl Context<'_> {
    fn invalid(&self, key: &str, value: &str, reason: &'static str) -> Error {
        Error::ConfigValue {
            path: self.path.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            reason,
        }
    }

    fn syntax(&self, bytes: &[u8], error: &toml::de::Error) -> Error {
        let before = error
            .span()
            .and_then(|span| bytes.get(..span.start))
            .unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        // The parser names keys in backticks and values in double quotes.
        let parts = error.message().split('"').enumerate();
        let reason: String = parts
            .map(|(at, part)| if at % 2 == 0 { part } else { "…" })
            .collect();
        Error::ConfigSyntax {
            path: self.path.to_owned(),
            line,
            reason: crate::error::excerpt(reason.as_bytes()),
        }
    }

    /// The endpoint for one server; two where a loopback address may turn out to speak plain HTTP.
    fn endpoint(&self, key: &str, address: &str, settings: &Settings) -> Result<Vec<Endpoint>, Error> {
        let bare = !address.contains("://");
        let text = if bare {
            format!("https://{address}")
        } else {
            address.to_owned()
        };
        let mut base = Url::parse(&text).map_err(|_| self.invalid(key, address, "is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none_or(str::is_empty) {
            return Err(self.invalid(key, address, "is no http or https URL"));
        }
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(self.invalid(
                "the URL of a host",
                "…",
                "may hold neither credentials nor a query",
            ));
        }
        let path = base.path().trim_end_matches('/').to_owned();
        if settings.override_path == Some(true) || path.ends_with("/v2") {
            base.set_path(&path);
        } else {
            base.set_path(&format!("{path}/v2"));
        }
        let mut endpoint = Endpoint::new(base, self.reference);
        self.apply(key, &mut endpoint, settings)?;
        let mut found = vec![endpoint];
        if let Some(first) = found.first()
            && bare
            && is_loopback(&first.base)
        {
            let mut plain = first.clone();
            if plain.base.set_scheme("http").is_ok() {
                plain.fallback = Fallback::AfterNoTls;
                found.push(plain);
            }
        }
        Ok(found)
    }

    fn apply(&self, key: &str, endpoint: &mut Endpoint, settings: &Settings) -> Result<(), Error> {
        let sub = |name: &str| {
            if key.is_empty() || key == "server" {
                name.to_owned()
            } else {
                format!("{key}.{name}")
            }
        };
        if let Some(list) = &settings.capabilities {
            endpoint.capabilities = self.capabilities(&sub("capabilities"), list)?;
        }
        if let Some(ca) = &settings.ca {
            endpoint.tls.ca = ca
                .as_slice()
                .iter()
                .map(|file| self.load(file))
                .collect::<Result<_, _>>()?;
        }
        if let Some(client) = &settings.client {
            endpoint.tls.client = self.client(&sub("client"), client)?;
        }
        endpoint.tls.skip_verify = settings.skip_verify.unwrap_or(false);
        if let Some(headers) = &settings.header {
            endpoint.headers = self.headers(&sub("header"), headers)?;
        }
        if let Some(text) = &settings.dial_timeout {
            let parsed = duration(text).filter(|d| !d.is_zero());
            endpoint.dial_timeout = Some(parsed.ok_or_else(|| {
                self.invalid(
                    &sub("dial_timeout"),
                    text,
                    "is no duration such as 500ms, 3s or 1m30s",
                )
            })?);
        }
        Ok(())
    }

    fn capabilities(&self, key: &str, list: &[String]) -> Result<Capabilities, Error> {
        let mut found = Capabilities {
            pull: false,
            resolve: false,
        };
        for name in list {
            match name.as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                // Known, and nothing this client does.
                "push" => {}
                _ => return Err(self.invalid(key, name, "is none of pull, resolve, push")),
            }
        }
        Ok(found)
    }

    fn load(&self, file: &str) -> Result<Vec<u8>, Error> {
        read(
            &self
                .path
                .parent()
                .map_or_else(|| PathBuf::from(file), |dir| dir.join(file)),
        )
    }

    fn client(&self, key: &str, client: &Client) -> Result<Vec<ClientPem>, Error> {
        let both = |file: &String| {
            self.load(file).map(|pem| ClientPem {
                chain: pem.clone(),
                key: pem,
            })
        };
        let entries = match client {
            Client::One(file) => return Ok(vec![both(file)?]),
            Client::Many(entries) => entries,
        };
        let mut pairs = Vec::with_capacity(entries.len());
        for entry in entries {
            pairs.push(match entry {
                ClientEntry::Both(file) => both(file)?,
                ClientEntry::Pair(files) => match files.as_slice() {
                    [cert] => both(cert)?,
                    [cert, key] if key.is_empty() => both(cert)?,
                    [cert, key] => ClientPem {
                        chain: self.load(cert)?,
                        key: self.load(key)?,
                    },
                    _ => {
                        return Err(self.invalid(
                            key,
                            &files.join(", "),
                            "is no pair of certificate and key",
                        ));
                    }
                },
            });
        }
        Ok(pairs)
    }

    fn headers(&self, key: &str, given: &BTreeMap<String, OneOrMany>) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for (name, values) in given {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| self.invalid(key, name, "is no name of an HTTP header"))?;
            for value in values.as_slice() {
                // The value may be a secret: it stays out of the error.
                let mut value = HeaderValue::from_str(value)
                    .map_err(|_| self.invalid(key, name, "has a value that HTTP headers cannot carry"))?;
                value.set_sensitive(true);
                headers.append(header.clone(), value);
            }
        }
        Ok(headers)
    }
}

/// Go's durations, as far as they make sense here: whole numbers with `ms`, `s`, `m`, `h`, one after the other.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let unit = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(unit)?;
        total = total.checked_add(match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        })?;
        rest = after;
    }
    Some(total)
}
