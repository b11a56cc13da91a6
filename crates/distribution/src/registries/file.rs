//! The files: keys, checks, and how drop-ins override the main file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Loaded;
use super::rule::{Mirror, PullFrom, Rule};
use super::short::Mode;
use crate::error::Error;
use crate::hosts::{is_absent, read, syntax};
use crate::reference::Reference;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Table>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    short_name_mode: Option<String>,
    /// Version 1.
    registries: Option<First>,
    // Known, but not used by a runtime for kubelet, which sends the credentials.
    #[serde(rename = "credential-helpers")]
    _credential_helpers: Option<Vec<String>>,
    #[serde(rename = "additional-layer-store-auth-helper")]
    _layer_store_helper: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    #[serde(default)]
    search: FirstList,
    #[serde(default)]
    insecure: FirstList,
    #[serde(default)]
    block: FirstList,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstList {
    #[serde(default)]
    registries: Vec<String>,
}

/// Reads the file at `path` and its drop-ins, in lexical order.
pub(super) fn load(path: &Path, required: bool) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    match read(path) {
        Ok(bytes) => apply(&mut loaded, path, &bytes)?,
        Err(Error::ConfigRead { source, .. }) if !required && is_absent(&source) => {}
        Err(error) => return Err(error),
    }
    for drop_in in drop_ins(path)? {
        apply(&mut loaded, &drop_in, &read(&drop_in)?)?;
    }
    Ok(loaded)
}

fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".d");
    let dir = PathBuf::from(name);
    let failed = |source: io::Error| Error::ConfigRead {
        path: dir.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    files.retain(|file| file.extension().is_some_and(|end| end == "conf") && file.is_file());
    files.sort();
    Ok(files)
}

fn apply(loaded: &mut Loaded, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file: File = toml::from_slice(bytes).map_err(|error| syntax(path, bytes, &error))?;
    let check = Check { path };
    let file = check.first_version(file)?;
    if let Some(hosts) = file.unqualified_search_registries {
        let hosts: Result<Vec<_>, _> = hosts.iter().map(|host| check.search(host)).collect();
        loaded.short.search = Some((hosts?, path.to_owned()));
    }
    match file.short_name_mode.as_deref() {
        None | Some("") => {}
        Some("enforcing") => loaded.short.mode = Mode::Enforcing,
        Some("permissive" | "disabled") => loaded.short.mode = Mode::Permissive,
        Some(other) => {
            let reason = "is not one of enforcing, permissive, disabled";
            return Err(check.invalid("short-name-mode", other, reason));
        }
    }
    for (name, full) in file.aliases {
        if full.is_empty() {
            loaded.short.aliases.remove(&name);
        } else {
            check.alias(&name, &full)?;
            loaded.short.aliases.insert(name, full);
        }
    }
    for table in file.registry {
        let rule = check.rule(table)?;
        // Only a drop-in can replace a rule: within one file the first one of a prefix counts.
        match loaded.rules.iter_mut().find(|old| old.prefix == rule.prefix) {
            Some(old) if old.file != rule.file => *old = rule,
            Some(_) => {}
            None => loaded.rules.push(rule),
        }
    }
    Ok(())
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn invalid(&self, key: &str, value: &str, reason: &'static str) -> Error {
        Error::ConfigValue {
            path: self.path.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            reason,
        }
    }

    /// Version 1 has three lists of hosts and cannot be mixed with version 2.
    fn first_version(&self, mut file: File) -> Result<File, Error> {
        let Some(first) = file.registries.take() else {
            return Ok(file);
        };
        if !file.registry.is_empty() || file.unqualified_search_registries.is_some() {
            return Err(self.invalid(
                "registries",
                "",
                "is of version 1 and cannot be mixed with version 2",
            ));
        }
        if !first.search.registries.is_empty() {
            file.unqualified_search_registries = Some(first.search.registries);
        }
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        let hosts = first.block.registries.iter().map(|host| (host, true));
        for (host, block) in hosts.chain(first.insecure.registries.iter().map(|host| (host, false))) {
            let table = tables.entry(host.clone()).or_insert_with(|| Table {
                prefix: String::new(),
                location: host.clone(),
                insecure: false,
                blocked: false,
                mirror_by_digest_only: false,
                mirror: Vec::new(),
            });
            table.blocked |= block;
            table.insecure |= !block;
        }
        file.registry = tables.into_values().collect();
        Ok(file)
    }

    /// A location or prefix without a trailing slash.
    fn place(&self, key: &str, text: &str) -> Result<String, Error> {
        if text.contains("://") {
            return Err(self.invalid(key, text, "may have no scheme"));
        }
        match text.trim_end_matches('/') {
            "" => Err(self.invalid(key, text, "is empty")),
            trimmed => Ok(trimmed.to_owned()),
        }
    }

    fn search(&self, host: &str) -> Result<String, Error> {
        let key = "unqualified-search-registries";
        let host = self.place(key, host)?;
        let whole = format!("{host}/a");
        if host.contains('/') || Reference::is_short(&whole) || whole.parse::<Reference>().is_err() {
            return Err(self.invalid(key, &host, "is not a host with an optional port"));
        }
        Ok(host)
    }

    fn alias(&self, name: &str, full: &str) -> Result<(), Error> {
        let key = format!("aliases.\"{name}\"");
        if !Reference::is_short(name) || !Reference::split_name(name).1.is_empty() {
            return Err(self.invalid(
                &key,
                full,
                "has a name that is not a short name without tag and digest",
            ));
        }
        let bare = Reference::split_name(full).1.is_empty();
        if !bare || Reference::is_short(full) || full.parse::<Reference>().is_err() {
            return Err(self.invalid(&key, full, "is not a full name without tag and digest"));
        }
        Ok(())
    }

    fn rule(&self, table: Table) -> Result<Rule, Error> {
        let wild = table.prefix.starts_with('*');
        let location = match table.location.as_str() {
            "" if wild => None,
            "" if table.prefix.is_empty() => {
                return Err(self.invalid("registry", "", "has neither prefix nor location"));
            }
            // The name is not rewritten then.
            "" => None,
            given => Some(self.place("registry.location", given)?),
        };
        let prefix = match (table.prefix.as_str(), &location) {
            ("", Some(location)) => location.clone(),
            (given, _) => self.place("registry.prefix", given)?,
        };
        if let Some(domain) = prefix.strip_prefix('*')
            && (!domain.starts_with('.') || domain.len() < 2 || domain.contains(['*', '/', ':', '@']))
        {
            return Err(self.invalid(
                "registry.prefix",
                &prefix,
                "is not a wildcard such as *.example.com",
            ));
        }
        if prefix.get(1..).is_some_and(|rest| rest.contains('*')) {
            return Err(self.invalid(
                "registry.prefix",
                &prefix,
                "has a * that is not the first character",
            ));
        }
        let mut mirrors = Vec::with_capacity(table.mirror.len());
        for mirror in table.mirror {
            let key = format!("registry \"{prefix}\", mirror");
            mirrors.push(Mirror {
                location: self.place(&key, &mirror.location)?,
                insecure: mirror.insecure,
                pull: self.pull_from(&key, &mirror.pull_from_mirror, table.mirror_by_digest_only)?,
            });
        }
        Ok(Rule {
            file: self.path.to_owned(),
            prefix,
            location,
            insecure: table.insecure,
            blocked: table.blocked,
            mirrors,
        })
    }

    fn pull_from(&self, key: &str, text: &str, by_digest_only: bool) -> Result<PullFrom, Error> {
        if by_digest_only && !text.is_empty() {
            let reason = "cannot be combined with mirror-by-digest-only";
            return Err(self.invalid(&format!("{key}.pull-from-mirror"), text, reason));
        }
        match text {
            "" if by_digest_only => Ok(PullFrom::DigestOnly),
            "" | "all" => Ok(PullFrom::All),
            "digest-only" => Ok(PullFrom::DigestOnly),
            "tag-only" => Ok(PullFrom::TagOnly),
            _ => Err(self.invalid(
                &format!("{key}.pull-from-mirror"),
                text,
                "is not one of all, digest-only, tag-only",
            )),
        }
    }
}
