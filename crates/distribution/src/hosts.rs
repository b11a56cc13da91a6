//! containerd's `certs.d`: `<dir>/<host>/hosts.toml` names the mirrors of a registry and says how to reach them.
//!
//! Looked up in this order: `<host>_<port>_`, `<host>:<port>`, `_default` (docs/hosts.md of containerd). The files are small
//! and read at every use, so changes take effect at once. Without a `hosts.toml` the directory's `*.crt`, `*.cert` and `*.key`
//! are used as in Docker's layout.
//!
//! Unknown keys are errors: a mistyped `skip_verify` must not go unnoticed. Never ignores a bad file silently.

use std::io;
use std::path::{Path, PathBuf};

use crate::endpoint::{ClientPem, Endpoint, Source, TlsSettings};
use crate::error::Error;
use crate::reference::Reference;
use crate::resolver::{Resolver, default_endpoints};

mod file;
mod values;

#[cfg(test)]
mod tests;

const MAX_FILE: u64 = 1024 * 1024;

/// Directories in containerd's `certs.d` layout; the first one with the host is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostsDir {
    roots: Vec<PathBuf>,
}

impl HostsDir {
    /// Without `roots` every registry has its defaults.
    pub(crate) fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            roots: roots.into_iter().collect(),
        }
    }

    /// Adds a directory, searched after the others.
    pub(crate) fn add_root(&mut self, root: PathBuf) {
        self.roots.push(root);
    }

    /// The hosts that have a directory, in order.
    pub(crate) fn hosts(&self) -> Result<Vec<String>, Error> {
        let mut hosts = Vec::new();
        for root in &self.roots {
            let failed = |source| Error::ConfigRead {
                path: root.clone(),
                source,
            };
            let entries = match std::fs::read_dir(root) {
                Err(error) if is_absent(&error) => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().into_string().unwrap_or_default();
                if name != "_default" && entry.path().is_dir() {
                    let with_port = name.strip_suffix('_').and_then(|name| name.rsplit_once('_'));
                    hosts.push(
                        with_port.map_or_else(|| name.clone(), |(host, port)| format!("{host}:{port}")),
                    );
                }
            }
        }
        hosts.sort();
        hosts.dedup();
        Ok(hosts)
    }

    /// A directory for the host itself in any root is preferred to `_default` in any root.
    fn directory(&self, host: &str, with_default: bool) -> Result<Option<PathBuf>, Error> {
        let own = names(host);
        let default = with_default.then(|| vec!["_default".to_owned()]);
        for names in [Some(own), default].into_iter().flatten() {
            for path in self
                .roots
                .iter()
                .flat_map(|root| names.iter().map(|name| root.join(name)))
            {
                match std::fs::metadata(&path) {
                    Ok(meta) if meta.is_dir() => return Ok(Some(path)),
                    Ok(_) => {}
                    Err(e) if is_absent(&e) => {}
                    Err(source) => return Err(Error::ConfigRead { path, source }),
                }
            }
        }
        Ok(None)
    }

    /// The endpoints for `reference`, without those of `_default` unless `with_default`.
    pub(crate) fn endpoints_of(
        &self,
        reference: &Reference,
        with_default: bool,
    ) -> Result<Vec<Endpoint>, Error> {
        let Some(directory) = self.directory(reference.host(), with_default)? else {
            return default_endpoints(reference);
        };
        let path = directory.join("hosts.toml");
        match read(&path) {
            // An empty file counts as missing, as in containerd.
            Ok(bytes) if bytes.is_empty() => docker_endpoints(&directory, reference),
            Ok(bytes) => file::endpoints(&path, &bytes, reference),
            Err(Error::ConfigRead { source, .. }) if is_absent(&source) => {
                docker_endpoints(&directory, reference)
            }
            Err(error) => Err(error),
        }
    }
}

impl Resolver for HostsDir {
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        self.endpoints_of(reference, true)
    }
}

/// Directory names for a host. The grammar of references excludes slashes and `..`.
fn names(host: &str) -> Vec<String> {
    let mut names = Vec::with_capacity(2);
    if let Some((name, port)) = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        names.push(format!("{name}_{port}_"));
    }
    names.push(host.to_owned());
    names
}

pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A configuration file's content, at most [`MAX_FILE`] bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let result = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let failed = |source| Error::ConfigRead {
        path: path.to_owned(),
        source,
    };
    result.map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_FILE) {
        Ok(bytes)
    } else {
        Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)))
    }
}

/// The error for a file that cannot be parsed. Quotes no values: a header may be a secret.
pub(crate) fn syntax(path: &Path, bytes: &[u8], error: &toml::de::Error) -> Error {
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
        path: path.to_owned(),
        line,
        reason: crate::text::excerpt(reason.as_bytes()),
    }
}

/// The registry itself with the certificates in `directory`: `*.crt` are roots, `name.cert` with `name.key` is a client
/// certificate.
fn docker_endpoints(directory: &Path, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
    let (tls, certificates) = docker_layout(directory)?;
    let mut endpoints = default_endpoints(reference)?;
    for endpoint in &mut endpoints {
        if !certificates.is_empty() {
            endpoint.tls = tls.clone();
        }
        endpoint.source = Source {
            file: Some(directory.to_owned()),
            key: String::new(),
            certificates: certificates.clone(),
            rule: None,
        };
    }
    Ok(endpoints)
}

fn docker_layout(directory: &Path) -> Result<(TlsSettings, Vec<PathBuf>), Error> {
    let failed = |source| Error::ConfigRead {
        path: directory.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    let mut tls = TlsSettings::default();
    let mut used = Vec::new();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => tls.ca.push(read(&path)?),
            Some("cert") => {
                let key = path.with_extension("key");
                tls.client.push(ClientPem {
                    chain: read(&path)?,
                    key: read(&key)?,
                });
                used.push(path);
                used.push(key);
                continue;
            }
            _ => continue,
        }
        used.push(path);
    }
    Ok((tls, used))
}
