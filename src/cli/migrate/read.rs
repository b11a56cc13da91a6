//! Reads the files of a foreign configuration, later ones over earlier ones.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use toml::{Table, Value};

/// Largest configuration file.
const FILE_MAX: u64 = 4 << 20;
/// Most files that an import may name.
const FILES_MAX: usize = 1000;

/// The merged files.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) files: Vec<PathBuf>,
    pub(super) table: Table,
}

pub(super) fn file(path: &Path) -> anyhow::Result<Table> {
    let text = text(path)?;
    toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))
}

pub(super) fn text(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(FILE_MAX).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// Tables key by key, other values as a whole.
pub(super) fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The files that a path or pattern means, relative to the directory of the file in which it stands.
pub(super) fn expand(parent: &Path, import: &str) -> anyhow::Result<Vec<PathBuf>> {
    let path = parent.parent().unwrap_or_else(|| Path::new("/")).join(import);
    if !import.contains('*') {
        return Ok(vec![path]);
    }
    let found = glob::glob(&path.to_string_lossy())
        .with_context(|| format!("{import:?} in {} is not a pattern", parent.display()))?;
    let mut files = found.take(FILES_MAX).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}
