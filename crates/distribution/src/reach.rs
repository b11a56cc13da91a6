//! Whether the servers that a pull would ask answer at all.
//!
//! One request to the base of each server's API (distribution spec, "Determining Support"), over the connection that a pull
//! would have: certificates, proxies and headers included. Credentials come with each pull and are not part of it.
//!
//! Must never: repeat a request, or follow a redirect.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::connect::Connections;
use crate::endpoint::{Endpoint, Fallback, Role, authority};
use crate::error::{Error, Target};
use crate::proxy::Proxies;
use crate::reference::Reference;
use crate::registries::Registries;
use crate::resolver::Resolver as _;
use crate::transport::send;

#[cfg(test)]
mod tests;

/// A server, and what came of asking it.
#[derive(Debug)]
pub struct Reached {
    /// Base URL of its API, with `/v2`, without credentials.
    pub url: String,
    /// `host` or `host:port`.
    pub host: String,
    /// Whether it stands in for the registry, which is asked as well.
    pub is_mirror: bool,
    /// Whether the request went through a proxy.
    pub by_proxy: bool,
    /// The HTTP status, or why there is none.
    pub outcome: Result<u16, Error>,
}

/// Asks the servers of a reference, all at once, each for at most `limit`. May block on files.
///
/// # Errors
/// The configuration cannot be read, has a mistake, or blocks the reference.
pub async fn reach(
    registries: &Registries,
    reference: &Reference,
    proxies: &Proxies,
    limit: Duration,
) -> Result<Vec<Reached>, Error> {
    let connections = Arc::new(Connections::new(proxies.clone()));
    // A server with those that are asked in its place if it does not speak TLS.
    let mut groups: Vec<Vec<Endpoint>> = Vec::new();
    for endpoint in registries.endpoints(reference)? {
        match groups.last_mut().filter(|_| endpoint.fallback != Fallback::None) {
            Some(group) => group.push(endpoint),
            None => groups.push(vec![endpoint]),
        }
    }
    let mut asked = JoinSet::new();
    for (at, group) in groups.into_iter().enumerate() {
        let (connections, proxies) = (Arc::clone(&connections), proxies.clone());
        asked.spawn(async move {
            let mut last = None;
            for endpoint in group {
                let reached = ask(&connections, &endpoint, &proxies, limit).await;
                let answered = reached.outcome.is_ok();
                last = Some(reached);
                if answered {
                    break;
                }
            }
            (at, last)
        });
    }
    let mut reached = asked.join_all().await;
    reached.sort_by_key(|(at, _)| *at);
    Ok(reached.into_iter().filter_map(|(_, reached)| reached).collect())
}

async fn ask(
    connections: &Arc<Connections>,
    endpoint: &Endpoint,
    proxies: &Proxies,
    limit: Duration,
) -> Reached {
    let mut url = endpoint.base.clone();
    url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
    let target = Target::new("GET", &url);
    let (pool, of) = (Arc::clone(connections), endpoint.clone());
    // It reads the system's certificates.
    let client = tokio::task::spawn_blocking(move || pool.client(&of, limit)).await;
    let outcome = match client {
        Ok(Ok(client)) => {
            let request = client.get(url).headers(endpoint.headers.clone());
            let answer = send(request, &target, limit).await;
            answer.map(|response| response.status().as_u16())
        }
        Ok(Err(error)) => Err(error),
        // A panic, or the end of the tokio runtime.
        Err(_) => Err(Error::Stalled {
            target,
            step: "a client",
            after: limit,
        }),
    };
    let mut shown = endpoint.base.clone();
    // Not for URLs without a host, which no endpoint has.
    shown.set_username("").ok();
    shown.set_password(None).ok();
    Reached {
        url: shown.to_string(),
        host: authority(&shown),
        is_mirror: endpoint.role == Role::Mirror,
        by_proxy: endpoint.proxy.is_some() || proxies.of(&endpoint.base).is_some(),
        outcome,
    }
}
