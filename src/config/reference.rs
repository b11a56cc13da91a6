//! What docs/configuration.md says about each key, for `pausa config default` and for pausa.toml(5).
//!
//! That file is the only documentation of keys. Its tables are parsed, and tests hold them complete: there is no second list.

use std::fmt::Write as _;

use roff::{Inline, Roff, bold, roman};
use toml::{Table, Value};

use super::{Config, ConfigError};

const DOCS: &str = include_str!("../../docs/configuration.md");
/// Longest line of a comment.
const WIDTH: usize = 100;

/// A table of the file.
#[derive(Debug, Default)]
struct Section {
    /// The table's name in TOML; empty for the keys at the top.
    name: &'static str,
    /// What is written before the table.
    intro: String,
    keys: Vec<Key>,
}

/// A row.
#[derive(Debug)]
struct Key {
    name: &'static str,
    default: String,
    flag: String,
    meaning: String,
}

/// The sections in the order of the file.
fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut inside = false;
    for line in DOCS.lines() {
        if line.starts_with("## ") || line.starts_with("### ") {
            let name = match line {
                "## Keys" => Some(""),
                _ => line
                    .strip_prefix("### `[")
                    .and_then(|rest| rest.strip_suffix("]`")),
            };
            inside = name.is_some();
            sections.extend(name.map(|name| Section {
                name,
                ..Section::default()
            }));
            continue;
        }
        let Some(section) = sections.last_mut().filter(|_| inside) else {
            continue;
        };
        match line.strip_prefix("| `") {
            Some(_) => section.keys.extend(key(line)),
            None if section.keys.is_empty() && !line.starts_with('|') && !line.is_empty() => {
                let space = if section.intro.is_empty() { "" } else { " " };
                section.intro += space;
                section.intro += &plain(line);
            }
            None => {}
        }
    }
    sections
}

/// `| key | default | flag, in some tables | meaning |`.
fn key(row: &'static str) -> Option<Key> {
    let row = row.strip_prefix('|')?.strip_suffix('|')?;
    // A cell may be empty.
    let cells: Vec<&str> = row.split(" |").map(str::trim).collect();
    let (name, rest) = cells.split_first()?;
    let (meaning, rest) = rest.split_last()?;
    let at = |index: usize| rest.get(index).map(|cell| plain(cell)).unwrap_or_default();
    Some(Key {
        name: name.trim_matches('`'),
        default: at(0),
        flag: at(1),
        meaning: plain(meaning),
    })
}

/// Text of a paragraph or cell without Markdown's links. What is below in the file is named.
fn plain(markdown: &str) -> String {
    let mut text = String::with_capacity(markdown.len());
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        text += before;
        match link
            .split_once("](")
            .map(|(label, more)| (label, more.split_once(')')))
        {
            Some((label, Some((target, after)))) if !label.contains([']', '`']) => {
                match target.strip_prefix('#') {
                    Some(_) => _ = write!(text, "docs/configuration.md{target}"),
                    None => text += label,
                }
                rest = after;
            }
            _ => {
                text.push('[');
                rest = link;
            }
        }
    }
    text + rest
}

/// The defaults as TOML, each key below its documentation.
///
/// # Errors
/// A default cannot be expressed in TOML, which is a mistake in it.
pub fn default_toml() -> Result<String, ConfigError> {
    let defaults = Config::default();
    let defaults = Table::try_from(&defaults).map_err(|source| ConfigError::Print { source })?;
    let mut text =
        "# The configuration of pausa with every key at its default; see pausa.toml(5).\n".to_owned();
    for section in sections() {
        let (name, at) = match section.name {
            "handlers.NAME" => ("handlers.\"\"", vec!["handlers", ""]),
            "" => ("", Vec::new()),
            name => (name, vec![name]),
        };
        text.push('\n');
        comment(&mut text, &section.intro);
        if !name.is_empty() {
            // Writing to a String cannot fail.
            _ = write!(text, "[{name}]\n\n");
        }
        for key in &section.keys {
            comment(&mut text, &key.meaning);
            let path = at.iter().copied().chain(key.name.split('.'));
            _ = match lookup(&defaults, path) {
                Some(value) => write!(text, "{} = {value}\n\n", key.name),
                // There is no value that means unset.
                None => write!(text, "#{} = \"\"\n\n", key.name),
            };
        }
    }
    Ok(text.trim_end().to_owned() + "\n")
}

fn lookup<'a>(table: &'a Table, mut path: impl Iterator<Item = &'a str>) -> Option<&'a Value> {
    let first = table.get(path.next()?);
    path.try_fold(first?, |value, key| value.get(key))
}

fn comment(text: &mut String, paragraph: &str) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let width = word.chars().count() + 1;
        if column == 0 || column + width > WIDTH {
            if column > 0 {
                text.push('\n');
            }
            text.push('#');
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += width;
    }
    if column > 0 {
        text.push('\n');
    }
}

/// The manual page pausa.toml(5), for `man`.
pub fn manual() -> String {
    let version = concat!("pausa ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", ["pausa.toml", "5", "", version, "pausa"]);
    page.control("SH", ["NAME"]);
    page.text([roman("pausa.toml - configuration of the container runtime pausa")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([
        bold(super::DEFAULT_PATH),
        roman(", "),
        bold("/etc/pausa/config.d/*.toml"),
    ]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in [
        "pausa runs without a configuration file. Later sources override earlier ones: the defaults below; the file, or the one \
         given with --config; config.d/*.toml in its directory, in lexical order, where tables are merged key by key and other \
         values are replaced as a whole; the flags of pausa serve.",
        "pausa config validate checks the files, pausa config default prints the defaults, and pausa config diff shows what \
         differs from them and from what the daemon runs with.",
        "A reload (systemctl reload pausa, or SIGHUP) reads the files again and changes every key at once that does not say that \
         it needs a restart. An invalid file changes nothing.",
    ] {
        page.text([roman(paragraph)]);
        page.control("PP", []);
    }
    for section in sections() {
        let heading = match section.name {
            "" => "KEYS".to_owned(),
            name => format!("[{name}]"),
        };
        page.control("SH", [heading.as_str()]);
        if !section.intro.is_empty() {
            page.text(inline(&section.intro));
        }
        for key in &section.keys {
            page.control("TP", []);
            let mut title = vec![bold(key.name), roman(" (default ")];
            title.extend(inline(&key.default));
            if !key.flag.is_empty() {
                title.push(roman(", flag "));
                title.extend(inline(&key.flag));
            }
            title.push(roman(")"));
            page.text(title);
            page.text(inline(&key.meaning));
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("pausa"),
        roman("(1), docs/configuration.md and docs/operations.md in pausa's sources"),
    ]);
    page.to_roff()
}

/// Code in bold.
fn inline(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts
        .map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) })
        .collect()
}

/// The full keys, such as `network.bridge.name` or `handlers.NAME.kind`, and whether the text says that a change needs a restart.
#[cfg(test)]
pub(crate) fn documented() -> std::collections::BTreeMap<String, bool> {
    const RESTART: &str = "a restart.";
    let mut keys = std::collections::BTreeMap::new();
    for section in sections() {
        let all = section.intro.contains("need a restart");
        for key in &section.keys {
            let full = match section.name {
                "" => key.name.to_owned(),
                section => format!("{section}.{}", key.name),
            };
            assert!(
                key.meaning.starts_with(|c: char| c.is_alphanumeric() || c == '`'),
                "{key:?}"
            );
            let twice = keys.insert(full, all || key.meaning.ends_with(RESTART));
            assert!(twice.is_none(), "{key:?}");
        }
    }
    keys
}
