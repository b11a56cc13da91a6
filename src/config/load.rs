//! Reads the configuration file and its drop-ins.
//!
//! Each file is checked separately, so that an error names the file, and then merged: tables key by key, other values as a
//! whole.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ipnet::Ipv6Net;
use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULT_PATH, Handler, MetricsAddress, SecretFile};

/// Two keys are similar if at most this many letters differ.
const SIMILAR: usize = 3;
/// No file has more wrong lines that are worth reading.
const WRONG_LINES: usize = 50;

/// The defaults, overridden by the file `path` and by the drop-ins in `config.d` in the same directory. Without `path`, the file
/// is [`DEFAULT_PATH`], which need not exist.
pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    let (config, errors) = load_all(path);
    errors.into_iter().next().map_or(Ok(config), Err)
}

/// As [`load`], with all errors that can be found. What is wrong is left out of the configuration.
pub fn load_all(path: Option<&Path>) -> (Config, Vec<ConfigError>) {
    let main = path.unwrap_or_else(|| Path::new(DEFAULT_PATH));
    let mut errors = Vec::new();
    let mut merged = Table::new();
    let drop_ins = drop_ins(main).unwrap_or_else(|error| {
        errors.push(error);
        Vec::new()
    });
    for file in std::iter::once(main.to_owned()).chain(drop_ins) {
        match std::fs::read_to_string(&file) {
            Ok(text) => merge(&mut merged, parse(&file, &text, &mut errors)),
            Err(e) if e.kind() == ErrorKind::NotFound && path.is_none() && file == main => {}
            Err(source) => errors.push(ConfigError::Read { path: file, source }),
        }
    }
    let mut config = merged.try_into().unwrap_or_else(|source| {
        errors.push(ConfigError::Parse {
            path: main.to_owned(),
            source: Box::new(source),
        });
        Config::default()
    });
    config.handlers.entry(String::new()).or_default();
    (config, errors)
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
    files.retain(|file| is_drop_in(file));
    files.sort();
    Ok(files)
}

/// Files in `config.d` that are not read, because of their names.
pub fn ignored(path: Option<&Path>) -> Vec<PathBuf> {
    let main = path.unwrap_or_else(|| Path::new(DEFAULT_PATH));
    let entries = std::fs::read_dir(main.with_file_name("config.d"));
    let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|file| !is_drop_in(file)).collect();
    files.sort();
    files
}

fn is_drop_in(file: &Path) -> bool {
    file.extension().is_some_and(|ext| ext == "toml")
}

/// Parses and checks one file. What is wrong is left out.
fn parse(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Table {
    let wrong = |source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let table: Table = match toml::from_str(text) {
        Ok(table) => table,
        Err(source) => {
            errors.push(wrong(source));
            return Table::new();
        }
    };
    unknown_keys(&table, &known_keys(), "", &mut |key, nearest| {
        errors.push(ConfigError::UnknownKey {
            path: path.to_owned(),
            key,
            nearest,
        });
    });
    // Errors of the text, not of the table, contain the line. The parser stops at the first one: its lines are blanked, and
    // the rest is parsed again, as long as it is TOML.
    let mut rest = text.to_owned();
    for _ in 0..WRONG_LINES {
        let Ok(table) = toml::from_str(&rest) else {
            return Table::new();
        };
        let Err(source) = toml::from_str::<Config>(&rest) else {
            return table;
        };
        let place = source.span();
        errors.push(wrong(source));
        match place {
            Some(place) => blank(&mut rest, place),
            None => return Table::new(),
        }
    }
    Table::new()
}

/// Replaces the lines of a place by empty ones.
fn blank(text: &mut String, place: Range<usize>) {
    let begin = text[..place.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[place.end..]
        .find('\n')
        .map_or(text.len(), |at| place.end + at);
    let lines = text[begin..end].matches('\n').count();
    text.replace_range(begin..end, &"\n".repeat(lines));
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
pub(crate) fn known_keys() -> Table {
    let mut full = Config::default();
    full.seccomp.default_profile = Some(PathBuf::new());
    full.apparmor.default_profile = Some(String::new());
    full.images.auth_file = Some(SecretFile::Path(PathBuf::new()));
    full.blockio.config_file = Some(PathBuf::new());
    full.network.bridge.subnet_v6 = Some(Ipv6Net::default());
    full.metrics.address = Some(MetricsAddress::Unix("/".into()));
    full.streaming.cert = full.images.auth_file.clone();
    full.streaming.key = full.images.auth_file.clone();
    let handler = Handler {
        writable_layer_limit: "1Mi".parse().ok(),
        pod_writable_layer_limit: "1Mi".parse().ok(),
        ..Handler::default()
    };
    full.handlers = [("*".to_owned(), handler)].into();
    Table::try_from(full).expect("the defaults are UTF-8 and have no null")
}

/// Calls `found` with each key in `table` that is not in `known`, and the most similar known key.
fn unknown_keys(table: &Table, known: &Table, prefix: &str, found: &mut impl FnMut(String, Option<String>)) {
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
                found(full, nearest);
            }
            (Some(Value::Table(inner)), Value::Table(below)) => {
                unknown_keys(below, inner, &format!("{full}."), found);
            }
            // Deserializing finds a wrong type.
            (Some(_), _) => {}
        }
    }
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
