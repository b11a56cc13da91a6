//! Registry hosts of containerd's configuration: directories of `hosts.toml`, and the older tables of mirrors, which become
//! such files.
//!
//! Must never: write a credential.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::rules::{Class, Context, Done, SET, get, lacks, texts};

/// A `hosts.toml` to write.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct HostsFile {
    pub(super) path: PathBuf,
    pub(super) content: String,
}

/// `registry.config_path`: directories between colons.
pub(super) fn config_path(context: &mut Context<'_>) -> Done {
    let text = context.text()?.to_owned();
    let mut dirs = text.split(':').filter(|dir| !dir.is_empty());
    let Some(first) = dirs.next() else {
        return SET;
    };
    context.config.registry_config_dir = PathBuf::from(first);
    let others: Vec<&str> = dirs.collect();
    if others.is_empty() {
        return SET;
    }
    Ok(Some(format!(
        "there is one directory: copy those of the hosts that only {} has",
        others.join(", ")
    )))
}

/// The directory of a host in `certs.d`, if its name can be one.
fn directory(host: &str) -> Option<&str> {
    if host == "*" {
        return Some("_default");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_' | '[' | ']');
    (!host.is_empty() && !host.starts_with('.') && host.chars().all(plain)).then_some(host)
}

/// An endpoint that a `hosts.toml` can have.
fn is_url(endpoint: &str) -> bool {
    let host = endpoint
        .strip_prefix("https://")
        .or_else(|| endpoint.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && !host.contains(['"', '\\', '@', '?', '#', ' ']) && host.is_ascii()
    })
}

fn host_of(endpoint: &str) -> &str {
    let (_, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    rest.split('/').next().unwrap_or_default()
}

fn table<'a>(source: &'a Table, name: &str) -> Option<&'a Table> {
    get(source, &["images", "registry", name])?.as_table()
}

/// The settings of `configs.HOST.tls` under their names in `hosts.toml`.
fn tls(source: &Table, host: &str) -> Table {
    let mut settings = Table::new();
    let Some(tls) = table(source, "configs")
        .and_then(|hosts| hosts.get(host)?.get("tls"))
        .and_then(Value::as_table)
    else {
        return settings;
    };
    let text = |key| {
        tls.get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    if tls.get("insecure_skip_verify").and_then(Value::as_bool) == Some(true) {
        settings.insert("skip_verify".to_owned(), Value::Boolean(true));
    }
    if let Some(ca) = text("ca_file") {
        settings.insert("ca".to_owned(), Value::from(ca));
    }
    if let (Some(cert), Some(key)) = (text("cert_file"), text("key_file")) {
        let pair = Value::Array(vec![Value::from(cert), Value::from(key)]);
        settings.insert("client".to_owned(), Value::Array(vec![pair]));
    }
    settings
}

/// The files that `mirrors` and `configs` amount to.
pub(super) fn of_mirrors(source: &Table, certs_d: &Path) -> Vec<HostsFile> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (host, mirror) in table(source, "mirrors").into_iter().flatten() {
        let endpoints = mirror.get("endpoint").and_then(Value::as_array);
        let endpoints = endpoints.into_iter().flatten().filter_map(Value::as_str);
        let mut endpoints: Vec<&str> = endpoints
            .filter(|endpoint| is_url(endpoint))
            .map(|endpoint| endpoint.trim_end_matches('/'))
            .collect();
        // A section can be there only once. The first counts.
        let mut seen = BTreeSet::new();
        endpoints.retain(|endpoint| seen.insert(*endpoint));
        if !endpoints.is_empty() {
            files.insert(host, endpoints);
        }
    }
    for (host, _) in table(source, "configs").into_iter().flatten() {
        if !tls(source, host).is_empty() {
            files.entry(host).or_default();
        }
    }
    let file = |(host, endpoints): (&str, Vec<&str>)| {
        let directory = directory(host)?;
        let mut file = Table::new();
        let own = tls(source, host);
        if !own.is_empty() && host != "*" {
            file.insert("server".to_owned(), Value::from(format!("https://{host}")));
            file.extend(own);
        }
        let mut content = file.to_string();
        for endpoint in endpoints {
            let mut section = tls(source, host_of(endpoint));
            let capabilities = ["pull", "resolve"].map(Value::from).to_vec();
            section.insert("capabilities".to_owned(), Value::Array(capabilities));
            let gap = if content.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            _ = write!(content, "{gap}[host.{}]\n{section}", Value::from(endpoint));
        }
        Some(HostsFile {
            path: certs_d.join(directory).join("hosts.toml"),
            content,
        })
    };
    files.into_iter().filter_map(file).collect()
}

/// `mirrors.HOST.endpoint`.
pub(super) fn mirror_class(context: &mut Context<'_>) -> Done {
    let (host, key) = (context.part(3), context.part(4));
    if key == "rewrite" {
        return lacks(
            "repositories are not renamed",
            "set override_path in the hosts.toml",
        );
    }
    let endpoints = texts(&context.leaf.value).unwrap_or_default();
    if key != "endpoint" || directory(host).is_none() || !endpoints.iter().any(|endpoint| is_url(endpoint)) {
        return lacks(
            "the mirror is not used: host or endpoints are not what a hosts.toml can have",
            "write the hosts.toml by hand",
        );
    }
    let unusable: Vec<&str> = endpoints
        .iter()
        .map(String::as_str)
        .filter(|endpoint| !is_url(endpoint))
        .collect();
    file_class(
        host,
        context.leaf.shown(),
        (!unusable.is_empty()).then(|| format!("without {}", unusable.join(", "))),
    )
}

/// `configs.HOST.tls.KEY`.
pub(super) fn tls_class(context: &mut Context<'_>) -> Done {
    let (host, key) = (context.part(3), context.part(5));
    let is_pair = matches!(key, "cert_file" | "key_file");
    let effective = match key {
        "insecure_skip_verify" => context.leaf.value.as_bool() == Some(true),
        "ca_file" | "cert_file" | "key_file" => {
            context.leaf.value.as_str().is_some_and(|text| !text.is_empty())
        }
        _ => return Err(Class::Unknown),
    };
    if !effective {
        return Err(Class::Default);
    }
    let settings = tls(context.source, host);
    if directory(host).is_none() || is_pair && !settings.contains_key("client") {
        return lacks(
            "it is not used: the host cannot have a directory, or certificate and key are not both there",
            "write the hosts.toml by hand",
        );
    }
    file_class(host, context.leaf.shown(), None)
}

fn file_class(host: &str, value: String, note: Option<String>) -> Done {
    let directory = directory(host).unwrap_or_default();
    Err(Class::Mapped {
        to: format!("certs.d/{directory}/hosts.toml"),
        value,
        note,
    })
}
