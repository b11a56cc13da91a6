//! HTTP clients, one for each set of TLS settings, with rustls and aws-lc-rs, which are chosen here and not for the whole
//! process.
//!
//! A client is reused for [`MAX_AGE`]: long enough to reuse connections, short enough for a renewed system CA bundle to take
//! effect without a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use url::Url;

use crate::client_cert::ClientCerts;
use crate::endpoint::{ClientPem, Endpoint, TlsSettings};
use crate::error::Error;
use crate::proxy::Proxies;

const MAX_AGE: Duration = Duration::from_secs(600);
const MAX_CLIENTS: usize = 64;
const USER_AGENT: &str = concat!("pausa/", env!("CARGO_PKG_VERSION"));

type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    tls: TlsSettings,
    dial_timeout: Duration,
    /// Of `hosts.toml`.
    proxy: Option<Url>,
}

#[derive(Default)]
struct Pool {
    roots: Option<(Instant, Arc<RootCertStore>)>,
    clients: HashMap<Key, (Instant, reqwest::Client)>,
}

/// The HTTP clients in use.
pub(crate) struct Connections {
    provider: Arc<CryptoProvider>,
    proxies: Arc<Proxies>,
    pool: Mutex<Pool>,
}

impl Connections {
    pub(crate) fn new(proxies: Proxies) -> Self {
        Self {
            proxies: Arc::new(proxies),
            provider: Arc::new(aws_lc_rs::default_provider()),
            pool: Mutex::default(),
        }
    }

    /// The client for `endpoint`. May block: it may read the system's CA bundle.
    pub(crate) fn client(
        &self,
        endpoint: &Endpoint,
        dial_timeout: Duration,
    ) -> Result<reqwest::Client, Error> {
        let key = Key {
            tls: endpoint.tls.clone(),
            dial_timeout: endpoint.dial_timeout.unwrap_or(dial_timeout),
            proxy: endpoint.proxy.clone(),
        };
        if let Some((born, client)) = self.pool.lock().clients.get(&key)
            && born.elapsed() < MAX_AGE
        {
            return Ok(client.clone());
        }
        let client = self.build(&key).map_err(|source| Error::Tls {
            host: endpoint.host(),
            source,
        })?;
        let mut pool = self.pool.lock();
        pool.clients.retain(|_, (born, _)| born.elapsed() < MAX_AGE);
        if pool.clients.len() < MAX_CLIENTS {
            pool.clients.insert(key, (Instant::now(), client.clone()));
        }
        Ok(client)
    }

    fn build(&self, key: &Key) -> Result<reqwest::Client, Cause> {
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .referer(false)
            // Redirects are followed by hand, to keep credentials from other hosts.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(key.dial_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .http2_initial_stream_window_size(4 * 1024 * 1024)
            .http2_initial_connection_window_size(16 * 1024 * 1024)
            .tls_backend_preconfigured(self.tls(&key.tls)?);
        let proxy = match &key.proxy {
            Some(proxy) => reqwest::Proxy::all(proxy.clone())?,
            None => {
                let proxies = Arc::clone(&self.proxies);
                reqwest::Proxy::custom(move |url| proxies.of(url).cloned())
            }
        };
        builder = builder.proxy(proxy);
        Ok(builder.build()?)
    }

    fn tls(&self, settings: &TlsSettings) -> Result<ClientConfig, Cause> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?;
        let builder = if settings.skip_verify {
            let verifier = AcceptAny {
                provider: Arc::clone(&self.provider),
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        } else {
            builder.with_root_certificates(self.roots(&settings.ca)?)
        };
        let mut config = if settings.client.is_empty() {
            builder.with_no_client_auth()
        } else {
            builder.with_client_cert_resolver(Arc::new(self.client_certs(&settings.client)?))
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn client_certs(&self, pairs: &[ClientPem]) -> Result<ClientCerts, Cause> {
        let mut keys = Vec::with_capacity(pairs.len());
        for ClientPem { chain, key } in pairs {
            let key = PrivateKeyDer::from_pem_slice(key)?;
            let key = CertifiedKey::from_der(certificates(chain)?, key, &self.provider)?;
            keys.push(Arc::new(key));
        }
        Ok(ClientCerts(keys))
    }

    /// The system's roots and those in `extra`.
    fn roots(&self, extra: &[Vec<u8>]) -> Result<Arc<RootCertStore>, Cause> {
        let known = self
            .pool
            .lock()
            .roots
            .clone()
            .filter(|(born, _)| born.elapsed() < MAX_AGE);
        let system = match known {
            Some((_, roots)) => roots,
            None => {
                let mut roots = RootCertStore::empty();
                let found = rustls_native_certs::load_native_certs();
                let (added, ignored) = roots.add_parsable_certificates(found.certs);
                for error in &found.errors {
                    tracing::warn!(%error, "cannot read part of the system's CA bundle; registries with certificates from it will be refused");
                }
                tracing::debug!(added, ignored, "loaded the system's CA bundle");
                let roots = Arc::new(roots);
                self.pool.lock().roots = Some((Instant::now(), Arc::clone(&roots)));
                roots
            }
        };
        if extra.is_empty() {
            return Ok(system);
        }
        let mut roots = RootCertStore::clone(&system);
        for bundle in extra {
            for certificate in certificates(bundle)? {
                roots.add(certificate)?;
            }
        }
        Ok(Arc::new(roots))
    }
}

/// The certificates of a PEM bundle; an error if it has none.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        Err("a certificate file holds no certificates".into())
    } else {
        Ok(found)
    }
}

/// `skip_verify = true`: accepts any certificate, but its holder must still prove possession of the key.
#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
