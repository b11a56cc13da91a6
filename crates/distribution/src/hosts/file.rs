//! One `hosts.toml`: its keys, and how they become endpoints.
//!
//! ```toml
//! server = "https://registry.example"      # asked last; https://<host> if absent
//! [host."https://mirror.example"]          # asked first, in the order of the file
//!   capabilities = ["pull", "resolve"]
//!   ca = "mirror.pem"                      # relative to the file
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::values::{duration, proxy};
use super::{read, syntax};
use crate::endpoint::{Capabilities, ClientPem, Endpoint, Fallback, Role, Source, TlsSettings, is_loopback};
use crate::error::Error;
use crate::reference::Reference;
use crate::resolver::default_endpoints;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Settings>,
    // The settings of `server` are at the top level. `flatten` would lose `deny_unknown_fields`.
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMany>>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
    proxy: Option<String>,
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
    proxy: Option<String>,
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
    let file: HostsFile = toml::from_slice(bytes).map_err(|error| syntax(path, bytes, &error))?;
    let mut hosts: Vec<(&Spanned<String>, &Settings)> = file.host.iter().collect();
    hosts.sort_by_key(|(name, _)| name.span().start);
    let mut endpoints = Vec::new();
    for (name, settings) in hosts {
        let key = format!("host.\"{}\"", name.get_ref());
        let mut mirrors = context.endpoint(&key, name.get_ref(), settings)?;
        mirrors.iter_mut().for_each(|mirror| mirror.role = Role::Mirror);
        endpoints.extend(mirrors);
    }
    let own = Settings {
        capabilities: file.capabilities,
        ca: file.ca,
        client: file.client,
        skip_verify: file.skip_verify,
        header: file.header,
        override_path: file.override_path,
        dial_timeout: file.dial_timeout,
        proxy: file.proxy,
    };
    match &file.server {
        Some(server) => endpoints.extend(context.endpoint("server", server, &own)?),
        None => {
            let mut defaults = default_endpoints(reference)?;
            for endpoint in &mut defaults {
                context.apply("", endpoint, &own)?;
            }
            endpoints.extend(defaults);
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

    /// The endpoint for one server; two if a loopback address may speak plain HTTP.
    fn endpoint(&self, key: &str, address: &str, settings: &Settings) -> Result<Vec<Endpoint>, Error> {
        let bare = !address.contains("://");
        let text = if bare {
            format!("https://{address}")
        } else {
            address.to_owned()
        };
        let mut base = Url::parse(&text).map_err(|_| self.invalid(key, address, "is not a URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none_or(str::is_empty) {
            return Err(self.invalid(key, address, "is not an http or https URL"));
        }
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(self.invalid("the URL of a host", "…", "must not hold credentials or a query"));
        }
        let path = base.path().trim_end_matches('/').to_owned();
        if settings.override_path == Some(true) || path.ends_with("/v2") {
            base.set_path(&path);
        } else {
            base.set_path(&format!("{path}/v2"));
        }
        let mut endpoint = Endpoint::new(base, self.reference);
        self.apply(key, &mut endpoint, settings)?;
        Ok(with_twin(endpoint, bare))
    }

    fn apply(&self, key: &str, endpoint: &mut Endpoint, settings: &Settings) -> Result<(), Error> {
        let sub = |name: &str| {
            if key.is_empty() || key == "server" {
                name.to_owned()
            } else {
                format!("{key}.{name}")
            }
        };
        endpoint.source = Source {
            file: Some(self.path.to_owned()),
            key: key.to_owned(),
            ..Source::default()
        };
        // An empty list restricts nothing, as in containerd.
        if let Some(list) = settings.capabilities.as_deref().filter(|list| !list.is_empty()) {
            endpoint.capabilities = self.capabilities(&sub("capabilities"), list)?;
        }
        if settings.ca.is_some() || settings.client.is_some() || settings.skip_verify.is_some() {
            endpoint.tls = self.tls(&sub, settings, &mut endpoint.source.certificates)?;
        }
        if let Some(headers) = &settings.header {
            endpoint.headers = self.headers(&sub("header"), headers)?;
        }
        if let Some(text) = &settings.proxy {
            endpoint.proxy = Some(proxy(text).map_err(|reason| self.invalid(&sub("proxy"), "…", reason))?);
        }
        if let Some(text) = &settings.dial_timeout {
            let parsed = duration(text).filter(|d| !d.is_zero());
            endpoint.dial_timeout = Some(parsed.ok_or_else(|| {
                self.invalid(
                    &sub("dial_timeout"),
                    text,
                    "is not a duration such as 500ms, 3s or 1m30s",
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
            match name.to_ascii_lowercase().as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                // Known, but this client never pushes.
                "push" => {}
                _ => return Err(self.invalid(key, name, "is not one of pull, resolve, push")),
            }
        }
        Ok(found)
    }

    fn tls(
        &self,
        sub: &impl Fn(&str) -> String,
        settings: &Settings,
        read: &mut Vec<PathBuf>,
    ) -> Result<TlsSettings, Error> {
        let mut tls = TlsSettings {
            skip_verify: settings.skip_verify.unwrap_or(false),
            ..TlsSettings::default()
        };
        for file in settings.ca.iter().flat_map(OneOrMany::as_slice) {
            tls.ca.push(self.load(file, read)?);
        }
        if let Some(client) = &settings.client {
            tls.client = self.client(&sub("client"), client, read)?;
        }
        Ok(tls)
    }

    /// A file named relative to this one.
    fn load(&self, file: &str, seen: &mut Vec<PathBuf>) -> Result<Vec<u8>, Error> {
        let path = self
            .path
            .parent()
            .map_or_else(|| PathBuf::from(file), |dir| dir.join(file));
        let bytes = read(&path)?;
        seen.push(path);
        Ok(bytes)
    }

    fn client(&self, key: &str, client: &Client, read: &mut Vec<PathBuf>) -> Result<Vec<ClientPem>, Error> {
        let both = |file: &str, read: &mut Vec<PathBuf>| {
            self.load(file, read).map(|pem| ClientPem {
                chain: pem.clone(),
                key: pem,
            })
        };
        let entries = match client {
            Client::One(file) => return Ok(vec![both(file, read)?]),
            Client::Many(entries) => entries,
        };
        let mut pairs = Vec::with_capacity(entries.len());
        for entry in entries {
            let files = match entry {
                ClientEntry::Both(file) => std::slice::from_ref(file),
                ClientEntry::Pair(files) => files.as_slice(),
            };
            pairs.push(match files {
                [file] => both(file, read)?,
                [file, none] if none.is_empty() => both(file, read)?,
                [chain, key] => ClientPem {
                    chain: self.load(chain, read)?,
                    key: self.load(key, read)?,
                },
                _ => {
                    return Err(self.invalid(key, &files.join(", "), "is not a pair of certificate and key"));
                }
            });
        }
        Ok(pairs)
    }

    fn headers(&self, key: &str, given: &BTreeMap<String, OneOrMany>) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for (name, values) in given {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| self.invalid(key, name, "is not the name of an HTTP header"))?;
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

/// An endpoint with a plain-HTTP twin if it needs one: an address on loopback without a scheme, and an `http` address with TLS
/// settings, for which containerd tries TLS first.
fn with_twin(mut endpoint: Endpoint, bare: bool) -> Vec<Endpoint> {
    let ambiguous = endpoint.base.scheme() == "http"
        && endpoint.tls != TlsSettings::default()
        && endpoint.base.port().is_some();
    let unsaid = bare && is_loopback(&endpoint.base);
    if !ambiguous && !unsaid {
        return vec![endpoint];
    }
    let mut plain = endpoint.clone();
    if endpoint.base.set_scheme("https").is_err() || plain.base.set_scheme("http").is_err() {
        return vec![plain];
    }
    plain.fallback = Fallback::AfterNoTls;
    vec![endpoint, plain]
}
