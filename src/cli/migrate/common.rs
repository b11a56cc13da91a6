//! Mappings that both runtimes share.

use std::net::IpAddr;
use std::path::PathBuf;

use pausa_nri::validator::DefaultValidator;
use toml::{Table, Value};

use super::rules::{Class, Context, Does, Done, SET, get, lacks, same};
use crate::config::{Config, SecretFile};

pub(super) const NO_DECRYPTION: Does =
    Does::Lacks("encrypted images cannot be pulled", "pull them decrypted");

pub(super) fn log_level(context: &mut Context<'_>) -> Done {
    let level = match context.text()? {
        "" => "info",
        "warning" => "warn",
        "fatal" | "panic" => "error",
        level => level,
    };
    context.config.log.level = level.to_owned();
    SET
}

pub(super) fn stream_address(context: &mut Context<'_>) -> Done {
    let text = context.text()?.to_owned();
    if text.is_empty() {
        return SET;
    }
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => {
            context.config.streaming.address = address;
            SET
        }
        _ => lacks(
            "the streaming server listens on loopback, where kubelet connects to it: the address is part of its URLs",
            "set streaming.address if other hosts must reach it",
        ),
    }
}

pub(super) fn stream_port(context: &mut Context<'_>) -> Done {
    if context.leaf.value.as_str() == Some("") {
        return SET;
    }
    match u16::try_from(context.number()?) {
        Ok(port) => {
            context.config.streaming.port = port;
            SET
        }
        Err(_) => lacks("a free port is taken: it is not a port", "set streaming.port"),
    }
}

pub(super) fn stream_idle_timeout(context: &mut Context<'_>) -> Done {
    match context.seconds()? {
        // Unset.
        0 if context.leaf.value.as_str() == Some("") => SET,
        0 => lacks(
            "streams without data are closed after four hours",
            "set streaming.idle_timeout_seconds to a large number",
        ),
        seconds => {
            context.config.streaming.idle_timeout_seconds = seconds;
            SET
        }
    }
}

/// Certificate and key, which go together.
pub(super) fn tls_file(context: &mut Context<'_>, to: &str, cert: &[&str], key: &[&str]) -> Done {
    let file = |path: &[&str]| {
        let text = get(context.source, path)
            .and_then(Value::as_str)
            .unwrap_or_default();
        (!text.is_empty()).then(|| PathBuf::from(text))
    };
    match (file(cert), file(key)) {
        (Some(cert), Some(key)) if cert.is_absolute() && key.is_absolute() => {
            context.config.streaming.cert = Some(SecretFile::Path(cert));
            context.config.streaming.key = Some(SecretFile::Path(key));
            Err(Class::Mapped {
                to: to.to_owned(),
                value: context.leaf.shown(),
                note: None,
            })
        }
        _ => lacks(
            "streams have no TLS: certificate and key go together, as absolute paths",
            "set streaming.cert and streaming.key",
        ),
    }
}

pub(super) fn bin_dirs(context: &mut Context<'_>, dirs: Vec<String>) -> Done {
    let dirs: Vec<PathBuf> = dirs
        .into_iter()
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .collect();
    if dirs.is_empty() || dirs == [PathBuf::from("/opt/cni/bin")] {
        return same("the first of pausa's own");
    }
    context.config.cni.bin_dir = dirs;
    SET
}

pub(super) fn conf_dir(context: &mut Context<'_>) -> Done {
    let dir = context.text()?.trim_end_matches('/').to_owned();
    if !dir.is_empty() {
        context.config.cni.conf_dir = dir.into();
    }
    SET
}

/// A key of NRI's default validator, with or without CRI-O's prefix.
pub(super) fn validator(context: &mut Context<'_>) -> Done {
    let key = context.leaf.path.last().map_or("", String::as_str);
    let key = match key {
        "nri_enable_default_validator" => "enable",
        key => key.strip_prefix("nri_validator_").unwrap_or(key),
    };
    let read = || -> Option<DefaultValidator> {
        let mut table = Table::try_from(&context.config.nri.default_validator).ok()?;
        table.insert(key.to_owned(), context.leaf.value.clone());
        table.try_into().ok()
    };
    match read() {
        Some(validator) if validator == context.config.nri.default_validator => SET,
        Some(validator) => {
            let to = format!("nri.default_validator.{key}");
            context.config.nri.default_validator = validator;
            Err(Class::Mapped {
                to,
                value: context.leaf.shown(),
                note: None,
            })
        }
        None => lacks("the validator of pausa does not have it", "nothing"),
    }
}

/// The keys of a configuration that differ from the defaults, for a file.
pub(super) fn written(config: &Config) -> anyhow::Result<Table> {
    let default = Table::try_from(Config::default())?;
    let mut handlers = Table::new();
    for (name, handler) in &config.handlers {
        let table = difference(
            Table::try_from(handler)?,
            &Table::try_from(crate::config::Handler::default())?,
        );
        // The one with the empty name exists in any case.
        if !name.is_empty() || !table.is_empty() {
            handlers.insert(name.clone(), Value::Table(table));
        }
    }
    let mut table = difference(Table::try_from(config)?, &default);
    table.remove("handlers");
    if !handlers.is_empty() {
        table.insert("handlers".to_owned(), Value::Table(handlers));
    }
    Ok(table)
}

fn difference(table: Table, default: &Table) -> Table {
    let differs = |(key, value): (String, Value)| match (value, default.get(&key)) {
        (value, Some(default)) if value == *default => None,
        (Value::Table(inner), Some(Value::Table(default))) => {
            Some((key, Value::Table(difference(inner, default))))
        }
        (value, _) => Some((key, value)),
    };
    table.into_iter().filter_map(differs).collect()
}
