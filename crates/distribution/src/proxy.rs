//! Proxies from the environment, with the rules of Go's `httpproxy`: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, each also in lower
//! case, and `ALL_PROXY` if one of the first two is missing.
//!
//! `NO_PROXY` is a list of hosts (`example.com` with its subdomains, `.example.com` the subdomains only), addresses, networks
//! (`10.0.0.0/8`), any of them with a port, or `*`. Loopback is never proxied: a proxy elsewhere has another loopback.
//! A `proxy` in `hosts.toml` takes precedence.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use crate::endpoint::is_loopback;

#[cfg(test)]
mod tests;

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Except {
    Everything,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    /// Without the leading dot; whether the name itself counts too.
    Domain(String, bool, Option<u16>),
}

/// The proxies by URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    except: Vec<Except>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.as_ref().map(shown))
            .field("https", &self.https.as_ref().map(shown))
            .field("except", &self.except)
            .finish()
    }
}

impl Proxies {
    /// From the environment of this process. An invalid proxy is logged and ignored.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| {
            let found = lookup(name).filter(|value| !value.is_empty());
            found.or_else(|| lookup(&name.to_ascii_lowercase()).filter(|value| !value.is_empty()))
        };
        let proxy = |name: &str| {
            let text = value(name).or_else(|| value("ALL_PROXY"))?;
            let url = address(&text);
            if url.is_none() {
                // The value may hold a password.
                tracing::warn!(
                    variable = name,
                    "ignored a proxy variable: its value is not the address of a proxy"
                );
            }
            url
        };
        let list = value("NO_PROXY").unwrap_or_default();
        Self {
            http: proxy("HTTP_PROXY"),
            https: proxy("HTTPS_PROXY"),
            except: list.split(',').filter_map(except).collect(),
        }
    }

    pub(crate) fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        }?;
        (!is_loopback(url) && !self.except.iter().any(|except| except.covers(url))).then_some(proxy)
    }
}

impl Except {
    fn covers(&self, url: &Url) -> bool {
        let same_port = |port: &Option<u16>| port.is_none() || *port == url.port_or_known_default();
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        match self {
            Self::Everything => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Address(own, port) => address == Some(*own) && same_port(port),
            Self::Domain(domain, itself, port) => {
                let Some(Host::Domain(host)) = url.host() else {
                    return false;
                };
                let host = host.trim_end_matches('.');
                let below = host
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
                same_port(port) && (below || (*itself && host == domain))
            }
        }
    }
}

/// `proxy:8080` is `http://proxy:8080`.
fn address(text: &str) -> Option<Url> {
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&whole).ok()?;
    let known = matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
    (known && url.host_str().is_some_and(|host| !host.is_empty())).then_some(url)
}

fn except(entry: &str) -> Option<Except> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry.is_empty() {
        return None;
    }
    if entry == "*" {
        return Some(Except::Everything);
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return Some(Except::Network(network));
    }
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(Except::Address(address, None));
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (entry.as_str(), None),
    };
    if let Ok(address) = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
    {
        return Some(Except::Address(address, port));
    }
    let name = name.trim_end_matches('.');
    let name = name.strip_prefix('*').unwrap_or(name);
    let domain = name.strip_prefix('.');
    Some(Except::Domain(
        domain.unwrap_or(name).to_owned(),
        domain.is_none(),
        port,
    ))
}

/// A proxy's address without user and password.
pub(crate) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}
