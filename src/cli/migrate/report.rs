//! What `pausa migrate` says: the configuration to write, and what became of each key.

use std::fmt::Write as _;

use serde::Serialize;
use toml::Table;

use super::common;
use super::hosts::HostsFile;
use super::images::Listed;
use super::rules::{Class, Entry, WrittenDefault};
use crate::cli::output::escape;
use crate::config::Config;

/// Something to know that no single key says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Advice {
    pub(super) fact: String,
    pub(super) remedy: String,
}

impl Advice {
    pub(super) fn new(fact: &str, remedy: &str) -> Self {
        Self {
            fact: fact.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

/// The result of a translation.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) runtime: &'static str,
    pub(super) config: Config,
    pub(super) entries: Vec<Entry>,
    pub(super) defaults: Vec<WrittenDefault>,
    pub(super) hosts: Vec<HostsFile>,
    pub(super) advice: Vec<Advice>,
}

/// The same in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    runtime: &'static str,
    files: Vec<String>,
    /// The configuration as TOML.
    config: String,
    /// Where it was written; without, nothing was.
    written: Option<String>,
    hosts_files: &'a [HostsFile],
    keys: Vec<Key>,
    defaults: Vec<Default>,
    advice: &'a [Advice],
    /// With --images.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<&'a [Listed]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    key: String,
    value: String,
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_value: Option<String>,
    /// Why, or what is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Serialize)]
struct Default {
    key: &'static str,
    value: String,
    why: &'static str,
}

impl Report {
    pub(super) fn new(
        runtime: &'static str,
        config: Config,
        entries: Vec<Entry>,
        defaults: Vec<WrittenDefault>,
        hosts: Vec<HostsFile>,
        advice: Vec<Advice>,
    ) -> Self {
        Self {
            runtime,
            config,
            entries,
            defaults,
            hosts,
            advice,
        }
    }

    /// The file to write.
    pub(super) fn toml(&self, files: &[String]) -> anyhow::Result<String> {
        let table: Table = common::written(&self.config)?;
        let mut text = String::from("# Written by `pausa migrate`");
        if !files.is_empty() {
            // A newline in a name would end the comment.
            _ = write!(text, " from {}", escape(&files.join(", ")));
        }
        _ = write!(text, "\n\n{}", toml::to_string(&table)?);
        Ok(text)
    }

    pub(super) fn document<'a>(
        &'a self,
        files: &[String],
        written: Option<String>,
        images: Option<&'a [Listed]>,
    ) -> anyhow::Result<Document<'a>> {
        let key = |entry: &Entry| {
            let mut key = Key {
                key: entry.leaf.key.clone(),
                value: entry.leaf.shown(),
                class: name(&entry.class),
                to: None,
                new_value: None,
                note: None,
                remedy: None,
            };
            match entry.class.clone() {
                Class::Mapped { to, value, note } => {
                    (key.to, key.new_value, key.note) = (Some(to), Some(value), note);
                }
                Class::Same { why } | Class::NotNeeded { why } => key.note = Some(why),
                Class::NoCounterpart { consequence, remedy } => {
                    (key.note, key.remedy) = (Some(consequence), Some(remedy));
                }
                Class::Default | Class::Unknown => {}
            }
            key
        };
        let default = |default: &WrittenDefault| Default {
            key: default.to,
            value: default.value.clone(),
            why: default.why,
        };
        Ok(Document {
            runtime: self.runtime,
            files: files.to_vec(),
            config: self.toml(files)?,
            written,
            hosts_files: &self.hosts,
            keys: self.entries.iter().map(key).collect(),
            defaults: self.defaults.iter().map(default).collect(),
            advice: &self.advice,
            images,
        })
    }

    /// What became of the keys, for people. What needs a decision comes first.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let count = |class: &str| {
            self.entries
                .iter()
                .filter(|entry| name(&entry.class) == class)
                .count()
        };
        self.problems(&mut text);
        self.section(
            &mut text,
            "unknown",
            "Not keys that pausa knows of this runtime; look at them:",
        );
        if !self.advice.is_empty() {
            text.push_str("To know:\n");
            for Advice { fact, remedy } in &self.advice {
                _ = writeln!(text, "  {fact}\n    {remedy}");
            }
            text.push('\n');
        }
        self.section(&mut text, "mapped", "Written:");
        if !self.defaults.is_empty() {
            _ = writeln!(
                text,
                "Written because the default of {} is another one:",
                self.runtime
            );
            for default in &self.defaults {
                _ = writeln!(text, "  {} = {} ({})", default.to, default.value, default.why);
            }
            text.push('\n');
        }
        self.section(&mut text, "same", "The same without a key:");
        self.section(&mut text, "not-needed", "Not needed:");
        _ = writeln!(
            text,
            "{} keys: {} written, {} the same, {} not needed, {} left at their defaults, {} without a counterpart, {} unknown",
            self.entries.len(),
            count("mapped"),
            count("same"),
            count("not-needed"),
            count("default"),
            count("no-counterpart"),
            count("unknown"),
        );
        text
    }

    /// What has no counterpart, by what follows from it.
    fn problems(&self, text: &mut String) {
        let mut groups: Vec<(&str, &str, Vec<&Entry>)> = Vec::new();
        for entry in &self.entries {
            if let Class::NoCounterpart { consequence, remedy } = &entry.class {
                match groups.iter_mut().find(|(known, _, _)| known == consequence) {
                    Some((_, _, entries)) => entries.push(entry),
                    None => groups.push((consequence, remedy, vec![entry])),
                }
            }
        }
        if groups.is_empty() {
            return;
        }
        text.push_str("No counterpart:\n");
        for (consequence, remedy, entries) in groups {
            for entry in entries {
                _ = writeln!(
                    text,
                    "  {} = {}",
                    escape(&entry.leaf.key),
                    escape(&entry.leaf.shown())
                );
            }
            _ = writeln!(text, "    {}", escape(consequence));
            if remedy != "nothing" {
                _ = writeln!(text, "    to do: {}", escape(remedy));
            }
        }
        text.push('\n');
    }

    fn section(&self, text: &mut String, class: &str, heading: &str) {
        let mut entries = self
            .entries
            .iter()
            .filter(|entry| name(&entry.class) == class)
            .peekable();
        if entries.peek().is_none() {
            return;
        }
        _ = writeln!(text, "{heading}");
        for entry in entries {
            let key = escape(&entry.leaf.key);
            _ = match &entry.class {
                Class::Mapped { to, value, note } => {
                    let note = note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
                    writeln!(
                        text,
                        "  {key} → {} = {}{}",
                        escape(to),
                        escape(value),
                        escape(&note)
                    )
                }
                Class::Same { why } | Class::NotNeeded { why } => {
                    writeln!(text, "  {key} = {}: {}", escape(&entry.leaf.shown()), escape(why))
                }
                _ => writeln!(text, "  {key} = {}", escape(&entry.leaf.shown())),
            };
        }
        text.push('\n');
    }
}

/// The class in JSON.
pub(super) fn name(class: &Class) -> &'static str {
    match class {
        Class::Mapped { .. } => "mapped",
        Class::Default => "default",
        Class::Same { .. } => "same",
        Class::NotNeeded { .. } => "not-needed",
        Class::NoCounterpart { .. } => "no-counterpart",
        Class::Unknown => "unknown",
    }
}
