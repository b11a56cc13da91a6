//! What differs between two configurations, and which of it a running daemon can take over.
//!
//! Invariant: the configuration of a running daemon changes only in keys that do not need a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use toml::{Table, Value};

use super::{Config, ConfigError};

/// Keys, and with a dot at the end tables, of which something exists under the old value: a socket, a directory, a name that
/// clients have adopted, a decision about a container that runs, a plugin's state. docs/configuration.md says it of the same.
const RESTART: [&str; 20] = [
    "cadvisor.",
    "cgroup_driver",
    "cni.cache_dir",
    "cpu.",
    "enable_selinux",
    "listen",
    "log.format",
    "metrics.",
    "network.bridge.",
    "network.mode",
    "nri.",
    "root",
    "runtime_name",
    "state",
    "streaming.address",
    "streaming.cert",
    "streaming.key",
    "streaming.port",
    "tracing.endpoint",
    "tracing.sampling_ratio",
];

/// Whether a key changes only with a restart of the daemon.
pub(super) fn needs_restart(key: &str) -> bool {
    RESTART.iter().any(|known| match known.strip_suffix('.') {
        Some(_) => key.starts_with(known),
        None => key == *known,
    })
}

/// A key that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// With all tables, separated by dots.
    pub key: String,
    /// None where it is not set.
    pub old: Option<Value>,
    pub new: Option<Value>,
}

impl Change {
    /// Whether it takes effect only with a restart of the daemon.
    pub fn needs_restart(&self) -> bool {
        needs_restart(&self.key)
    }
}

/// Keys whose values differ, by key.
///
/// # Errors
/// A path is not UTF-8.
pub fn changes(old: &Config, new: &Config) -> Result<Vec<Change>, ConfigError> {
    let (mut old, new) = (entries(&table(old)?), entries(&table(new)?));
    let mut changed: Vec<Change> = new
        .into_iter()
        .filter_map(|(key, new)| {
            let old = old.remove(&key);
            (old.as_ref() != Some(&new)).then_some(Change {
                key,
                old,
                new: Some(new),
            })
        })
        .collect();
    changed.extend(old.into_iter().map(|(key, old)| Change {
        key,
        old: Some(old),
        new: None,
    }));
    changed.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(changed)
}

fn table(config: &Config) -> Result<Table, ConfigError> {
    Table::try_from(config).map_err(|source| ConfigError::Print { source })
}

/// All values by their full key.
pub(super) fn entries(table: &Table) -> BTreeMap<String, Value> {
    fn collect(table: &Table, prefix: &str, into: &mut BTreeMap<String, Value>) {
        let bare = |key: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            !key.is_empty() && key.chars().all(plain)
        };
        for (key, value) in table {
            let key = match bare(key) {
                true => format!("{prefix}{key}"),
                false => format!("{prefix}{}", Value::from(key.as_str())),
            };
            match value {
                Value::Table(inner) => collect(inner, &format!("{key}."), into),
                value => drop(into.insert(key, value.clone())),
            }
        }
    }
    let mut entries = BTreeMap::new();
    collect(table, "", &mut entries);
    entries
}

/// The configuration that a daemon runs with, and the files and flags that it came from.
pub struct Running {
    current: ArcSwap<Config>,
    read: Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Running").field(&self.current.load()).finish()
    }
}

/// What a reload would do.
#[derive(Debug)]
pub struct Reload {
    pub changes: Vec<Change>,
    /// What the daemon runs with afterwards: keys that need a restart are as they were.
    pub config: Config,
}

impl Running {
    /// `read` reads and validates the files, with the flags of the start.
    pub fn new(
        config: Config,
        read: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            current: ArcSwap::from_pointee(config),
            read: Box::new(read),
        }
    }

    /// What the daemon runs with now.
    pub fn config(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn read(&self) -> Result<Reload, ConfigError> {
        let (old, new) = (self.config(), (self.read)()?);
        let changes = changes(&old, &new)?;
        let mut kept = table(&new)?;
        for change in changes.iter().filter(|change| change.needs_restart()) {
            restore(&mut kept, &change.key, change.old.as_ref());
        }
        let config: Config = kept.try_into().map_err(|source| ConfigError::Merge {
            source: Box::new(source),
        })?;
        config.validate()?;
        Ok(Reload { changes, config })
    }

    /// From now on this is what the daemon runs with.
    pub fn set(&self, config: Config) {
        self.current.store(Arc::new(config));
    }
}

/// Sets a key, whose tables are there and have bare names, or removes it.
fn restore(table: &mut Table, key: &str, value: Option<&Value>) {
    if let Some((outer, inner)) = key.split_once('.') {
        if let Some(Value::Table(table)) = table.get_mut(outer) {
            restore(table, inner, value);
        }
        return;
    }
    match value {
        Some(value) => drop(table.insert(key.to_owned(), value.clone())),
        None => drop(table.remove(key)),
    }
}
