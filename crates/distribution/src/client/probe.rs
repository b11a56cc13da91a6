//! Asking every endpoint of a reference for its manifest's head: which work, and what each says the tag is.

use reqwest::Method;
use serde::Serialize;

use super::{Client, content_digest, manifest_ask};
use crate::credentials::Credentials;
use crate::error::{Error, chain_all};
use crate::reference::Reference;
use crate::transport;

/// What one endpoint said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Where its API begins, as in [`Step::url`](crate::Step::url).
    pub url: String,
    /// The manifest's digest, if it has the image and tells the digest.
    pub digest: Option<String>,
    /// Why it is of no use, if it is not.
    pub error: Option<String>,
}

impl Client {
    /// Asks all endpoints that a pull of `reference` may ask, each once, whatever the others say.
    ///
    /// # Errors
    /// When configuration is wrong or blocks the image.
    pub async fn probe(&self, reference: &Reference, credentials: &Credentials) -> Result<Vec<Probe>, Error> {
        let failover = self.failover(reference, reference.digest().is_none()).await?;
        let mut probes = Vec::new();
        for route in failover.routes() {
            let ask = manifest_ask(Method::HEAD, &route, reference, reference.digest());
            let answer = transport::ask(&route, &ask, &self.inner.tokens, credentials).await;
            let (digest, error) = match answer {
                Ok(response) => (content_digest(response.headers()), None),
                Err(error) => (None, Some(chain_all(&[error]))),
            };
            probes.push(Probe {
                url: route.endpoint.base.to_string(),
                digest: digest.map(|digest| digest.to_string()),
                error,
            });
        }
        Ok(probes)
    }
}
