//! The result cache: one file per attachment, in the format and at the place of the reference library.
//!
//! `cnitool`, network plugins and another runtime after a migration read and write the same files, so the format
//! must not change: `<dir>/results/<network>-<container>-<interface>`, JSON of kind `cniCacheV1`. A file is replaced as a
//! whole, so a reader sees all or nothing. There is no fsync: if an entry is lost or damaged, DEL runs with the current
//! configuration, which is why a damaged entry counts as missing.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pausa_sys::{Durability, replace_file};
use rustix::fs::CWD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::Error;

const KIND: &str = "cniCacheV1";
/// Largest entry read: a plugin's largest result and a largest configuration in base64 fit.
const MAX_ENTRY: u64 = 4 << 20;

/// A cache directory, usually `/var/lib/cni`.
#[derive(Debug, Clone)]
pub struct ResultCache {
    results: PathBuf,
}

/// What ADD was called with and what it answered, as libcni keeps it in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the cache format")]
pub struct CachedAttachment {
    kind: String,
    /// For Kubernetes the pod sandbox's id.
    #[serde(rename = "containerId")]
    pub container_id: String,
    /// The configuration list that ADD used.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub config: Vec<u8>,
    #[serde(rename = "ifName")]
    pub if_name: String,
    #[serde(rename = "networkName")]
    pub network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub netns: String,
    /// `CNI_ARGS` of ADD.
    #[serde(rename = "cniArgs", default, skip_serializing_if = "Option::is_none")]
    pub cni_args: Option<Vec<(String, String)>>,
    /// Capability arguments of ADD.
    #[serde(rename = "capabilityArgs", default, skip_serializing_if = "Option::is_none")]
    pub capability_args: Option<Map<String, Value>>,
    /// What the last plugin of the chain printed; DEL passes it on as `prevResult`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl CachedAttachment {
    /// An entry for a new attachment.
    #[must_use]
    pub fn new(container_id: &str, if_name: &str, network_name: &str, config: Vec<u8>) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: container_id.to_owned(),
            config,
            if_name: if_name.to_owned(),
            network_name: network_name.to_owned(),
            netns: String::new(),
            cni_args: None,
            capability_args: None,
            result: None,
        }
    }
}

impl ResultCache {
    /// The cache below `dir`, which is created with the first entry.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            results: dir.join("results"),
        }
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// If the directory or file cannot be written.
    pub fn save(&self, entry: &CachedAttachment) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Cache {
                operation: "write",
                path,
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.results)
            .map_err(failed(&self.results))?;
        let path = self.path(&entry.network_name, &entry.container_id, &entry.if_name);
        let bytes = serde_json::to_vec(entry).map_err(|error| failed(&path)(error.into()))?;
        replace_file(CWD, &path, &bytes, Durability::Process).map_err(|error| Error::Cache {
            operation: error.operation,
            path: error.path,
            source: error.errno.into(),
        })
    }

    /// Reads an entry; a missing or damaged one is `None`.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn load(
        &self,
        network: &str,
        container: &str,
        if_name: &str,
    ) -> Result<Option<CachedAttachment>, Error> {
        let path = self.path(network, container, if_name);
        match read(&path) {
            Ok(bytes) => Ok(parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Cache {
                operation: "read",
                path,
                source,
            }),
        }
    }

    /// Removes an entry if there is one.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn remove(&self, network: &str, container: &str, if_name: &str) -> Result<(), Error> {
        let path = self.path(network, container, if_name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(|source| Error::Cache {
                operation: "remove from",
                path,
                source,
            }),
        }
    }

    /// All readable entries.
    ///
    /// # Errors
    /// The directory is there but cannot be read.
    pub fn entries(&self) -> Result<Vec<CachedAttachment>, Error> {
        self.matching(|_| true)
    }

    /// The entries of one container, also if their network has been renamed.
    ///
    /// # Errors
    /// The directory is there but cannot be read.
    pub fn entries_of(&self, container: &str) -> Result<Vec<CachedAttachment>, Error> {
        let mut entries = self.matching(|name| name.contains(container))?;
        entries.retain(|entry| entry.container_id == container);
        Ok(entries)
    }

    fn matching(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<CachedAttachment>, Error> {
        let failed = |source| Error::Cache {
            operation: "list",
            path: self.results.clone(),
            source,
        };
        let names = match std::fs::read_dir(&self.results) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(failed)?,
        };
        let mut entries = Vec::new();
        for name in names {
            let name = name.map_err(failed)?.file_name();
            let known = name
                .to_str()
                .is_some_and(|name| !name.starts_with('.') && wanted(name));
            if known {
                let entry = read(&self.results.join(&name))
                    .ok()
                    .and_then(|bytes| parse(&bytes));
                entries.extend(entry);
            }
        }
        Ok(entries)
    }

    fn path(&self, network: &str, container: &str, if_name: &str) -> PathBuf {
        self.results.join(format!("{network}-{container}-{if_name}"))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_ENTRY).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Option<CachedAttachment> {
    serde_json::from_slice::<CachedAttachment>(bytes)
        .ok()
        .filter(|entry| entry.kind == KIND)
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)
}
