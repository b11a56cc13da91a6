//! Reads the configuration file and its drop-ins.
//!
//! Each file is checked separately, so that an error names the file, and then merged: tables key by key, other values as a
//! whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULT_PATH, Handler, MetricsAddress};

/// Two keys are similar if at most this many letters differ.
const SIMILAR: usize = 3;

/// The defaults, overridden by the file `path` and by the drop-ins in `config.d` in the same directory. Without `path`, the file
/// is [`DEFAULT_PATH`], which need not exist.
pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    let main = path.unwrap_or_else(|| Path::new(DEFAULT_PATH));
    let mut merged = Table::new();
    for file in std::iter::once(main.to_owned()).chain(drop_ins(main)?) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound && path.is_none() && file == main => continue,
            Err(source) => return Err(ConfigError::Read { path: file, source }),
        };
        merge(&mut merged, parse(&file, &text)?);
    }
    let mut config: Config = merged.try_into().map_err(|source| ConfigError::Parse {
        path: main.to_owned(),
        source: Box::new(source),
    })?;
    config.handlers.entry(String::new()).or_default();
    Ok(config)
}

/// `config.d/*.toml` in the directory of the file, in lexical order.
fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let dir = main.with_file_name("config.d");
    let failed = |source| ConfigError::Read {
        path: dir.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut files = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    files.retain(|file| file.extension().is_some_and(|ext| ext == "toml"));
    files.sort();
    Ok(files)
}

/// Parses and checks one file.
fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let wrong = |source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let table: Table = toml::from_str(text).map_err(wrong)?;
    if let Some((key, nearest)) = unknown_key(&table, &known_keys(), "") {
        return Err(ConfigError::UnknownKey {
            path: path.to_owned(),
            key,
            nearest,
        });
    }
    // Only for its errors, which contain the line.
    toml::from_str::<Config>(text).map_err(wrong)?;
    Ok(table)
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// All keys: the defaults with all optional values set, and `*` for names that the user chooses.
fn known_keys() -> Table {
    let mut full = Config::default();
    full.seccomp.default_profile = Some(PathBuf::new());
    full.apparmor.default_profile = Some(String::new());
    full.images.auth_file = Some(PathBuf::new());
    full.blockio.config_file = Some(PathBuf::new());
    full.metrics.address = Some(MetricsAddress::Unix(PathBuf::new()));
    (full.streaming.cert, full.streaming.key) = (Some(PathBuf::new()), Some(PathBuf::new()));
    let handler = Handler {
        writable_layer_limit: "1Mi".parse().ok(),
        pod_writable_layer_limit: "1Mi".parse().ok(),
        ..Handler::default()
    };
    full.handlers = [("*".to_owned(), handler)].into();
    Table::try_from(full).expect("the defaults are UTF-8 and have no null")
}

/// The first key in `table` that is not in `known`, and the most similar known key.
fn unknown_key(table: &Table, known: &Table, prefix: &str) -> Option<(String, Option<String>)> {
    for (key, value) in table {
        let full = format!("{prefix}{key}");
        match (known.get(key).or_else(|| known.get("*")), value) {
            (None, _) => {
                let nearest = known
                    .keys()
                    .map(|candidate| (distance(key, candidate), candidate))
                    .min()
                    .filter(|(letters, _)| *letters <= SIMILAR)
                    .map(|(_, candidate)| format!("{prefix}{candidate}"));
                return Some((full, nearest));
            }
            (Some(Value::Table(inner)), Value::Table(below)) => {
                if let Some(found) = unknown_key(below, inner, &format!("{full}.")) {
                    return Some(found);
                }
            }
            // Deserializing finds a wrong type.
            (Some(_), _) => {}
        }
    }
    None
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
