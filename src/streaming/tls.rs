//! The streaming server's certificate: two PEM files, read again when they have changed.
//!
//! They are looked at with each new connection. Two files cannot be replaced at once: while they do not fit
//! each other, or cannot be read, the pair before them stays in use, and a warning says why.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Why a pair of files will not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or has nothing of the kind in it.
    #[error("cannot read a {what} from {}", path.display())]
    Read {
        /// `certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The file has no certificate in it.
    #[error("there is no certificate in {}: it must be PEM, the server's own one first", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// They do not fit each other, or the key's kind is not known.
    #[error("cannot use the certificate {} with the key {}", cert.display(), key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// What is compared to find out whether a file has changed.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// See the module.
#[derive(Debug)]
pub(super) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    in_use: Mutex<InUse>,
}

#[derive(Debug)]
struct InUse {
    config: Arc<ServerConfig>,
    /// Of the files when they were last read, whether they could be used or not.
    seen: Stamp,
}

impl Certificate {
    /// Reads a pair that must be usable.
    pub(super) fn open(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let seen = stamp(cert, key);
        let config = read(cert, key)?;
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            in_use: Mutex::new(InUse { config, seen }),
        })
    }

    /// The pair to use now. Touches the disk.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let now = stamp(&self.cert, &self.key);
        {
            let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
            if in_use.seen == now {
                return Arc::clone(&in_use.config);
            }
        }
        let read = read(&self.cert, &self.key);
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.seen = now;
        match read {
            Ok(config) => {
                tracing::info!(cert = %self.cert.display(), "the streaming server's certificate was replaced");
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
    // An upgrade is a thing of HTTP/1.1 alone.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
