//! The streaming server's certificate: two PEM files, read again when they have changed.
//!
//! They are checked with each new connection. Two files cannot be replaced at once: while they do not match, or cannot
//! be read, the previous pair stays in use, and a warning says why.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Why a certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or parsed.
    #[error("cannot read a {what} from {}", path.display())]
    Read {
        /// `certificate` or `private key`.
        what: &'static str,
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("there is no certificate in {}: it must be PEM, the server's own one first", path.display())]
    Empty { path: PathBuf },
    /// They do not match, or the key type is not supported.
    #[error("cannot use the certificate {} with the key {}", cert.display(), key.display())]
    Unusable {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
}

/// Modification time and size of both files.
type Stamp = [Option<(SystemTime, u64)>; 2];

#[derive(Debug)]
pub(super) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    in_use: Mutex<InUse>,
}

#[derive(Debug)]
struct InUse {
    config: Arc<ServerConfig>,
    /// The files' stamp at the last read, successful or not.
    seen: Stamp,
}

impl Certificate {
    pub(super) fn open(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let seen = stamp(cert, key);
        let config = read(cert, key)?;
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            in_use: Mutex::new(InUse { config, seen }),
        })
    }

    /// The configuration to use now. Blocks: it looks at the files.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let now = stamp(&self.cert, &self.key);
        {
            let in_use = self.in_use.lock();
            if in_use.seen == now {
                return Arc::clone(&in_use.config);
            }
        }
        let read = read(&self.cert, &self.key);
        let mut in_use = self.in_use.lock();
        in_use.seen = now;
        match read {
            Ok(config) => {
                tracing::info!(cert = %self.cert.display(), "loaded a new certificate for the streaming server");
                in_use.config = config;
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "the streaming server keeps the certificate it has");
            }
        }
        Arc::clone(&in_use.config)
    }
}

fn stamp(cert: &Path, key: &Path) -> Stamp {
    [cert, key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let unreadable = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(unreadable("certificate", cert))?;
    if chain.is_empty() {
        return Err(TlsError::Empty {
            path: cert.to_owned(),
        });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable("private key", key))?;
    let unusable = |source| TlsError::Unusable {
        cert: cert.to_owned(),
        key: key.to_owned(),
        source,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    // HTTP/2 has no upgrade.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
