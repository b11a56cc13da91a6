//! The engine of the translation: every leaf of a foreign configuration meets the first rule that fits its path, and gets
//! exactly one class.
//!
//! A pure function of parsed TOML. What is meant by a key depends on others (a handler's options on its kind), so a rule may
//! look at the whole source.
//!
//! Must never: drop a key silently, print a secret, or panic on any table.

use toml::{Table, Value};

use crate::config::{Config, ConfigError};

/// Keys whose values are never shown.
const SECRETS: [&str; 6] = [
    "password",
    "auth",
    "identitytoken",
    "registrytoken",
    "headers",
    "header",
];
/// A shown value is at most this long.
const SHOWN: usize = 200;

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    /// Written to pausa's configuration.
    Mapped {
        /// The key there.
        to: String,
        value: String,
        /// What is different, if anything.
        note: Option<String>,
    },
    /// It has the value that its runtime has without it, and that changes nothing here.
    Default,
    /// pausa does the same without a key.
    Same { why: String },
    /// It is about something that pausa does not have or need.
    NotNeeded { why: String },
    /// pausa cannot do it.
    NoCounterpart { consequence: String, remedy: String },
    /// Not a key of this runtime, as far as pausa knows.
    Unknown,
}

/// A key that is no table, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leaf {
    /// The path with the names of plugins in short form, for rules.
    pub(super) path: Vec<String>,
    /// The key as in the file.
    pub(super) key: String,
    pub(super) value: Value,
}

impl Leaf {
    /// The value as TOML on one line, without secrets.
    pub(super) fn shown(&self) -> String {
        if self.is_secret() {
            return "(not shown)".to_owned();
        }
        let text = self.value.to_string();
        let mut text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if let Some((at, _)) = text.char_indices().nth(SHOWN) {
            text.truncate(at);
            text.push('…');
        }
        text
    }

    fn is_secret(&self) -> bool {
        self.path.iter().any(|part| SECRETS.contains(&part.as_str()))
    }
}

/// How a key is translated.
pub(super) enum Does {
    /// The key of pausa, and how it is set.
    Map(&'static str, fn(&mut Context<'_>) -> Done),
    Same(&'static str),
    NotNeeded(&'static str),
    /// Consequence and remedy.
    Lacks(&'static str, &'static str),
}

/// What a mapping did: it has set the key, perhaps with a difference to know; or the key has this class.
pub(super) type Done = Result<Option<String>, Class>;

/// It has set the key; the class follows from whether that changed anything.
pub(super) const SET: Done = Ok(None);

/// A translation of one key, or of those that a pattern covers.
pub(super) struct Rule {
    /// A pattern; see [`covers`].
    pub(super) path: &'static str,
    /// The values that the runtime has without the key, over its versions, as TOML.
    pub(super) default: &'static [&'static str],
    pub(super) does: Does,
}

/// Whether a pattern of parts between `/` fits a path; `*` is any one part, a last `**` one or more.
pub(super) fn covers(pattern: &str, path: &[String]) -> bool {
    let mut parts = path.iter();
    for wanted in pattern.split('/') {
        if wanted == "**" {
            return parts.next().is_some();
        }
        match parts.next() {
            Some(part) if wanted == "*" || wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

impl Rule {
    fn is_default(&self, value: &Value) -> bool {
        let same = |text: &&str| {
            let table: Result<Table, _> = toml::from_str(&format!("v = {text}"));
            table.is_ok_and(|table| table.get("v") == Some(value))
        };
        self.default.iter().any(same)
    }
}

/// What a mapping sees and changes.
pub(super) struct Context<'a> {
    pub(super) leaf: &'a Leaf,
    /// With paths in the form of [`Leaf::path`].
    pub(super) source: &'a Table,
    pub(super) config: &'a mut Config,
}

impl Context<'_> {
    /// The part of the leaf's path with this number.
    pub(super) fn part(&self, at: usize) -> &str {
        self.leaf.path.get(at).map_or("", String::as_str)
    }

    pub(super) fn text(&self) -> Result<&str, Class> {
        self.leaf.value.as_str().ok_or_else(|| wrong_type("a string"))
    }

    pub(super) fn flag(&self) -> Result<bool, Class> {
        self.leaf.value.as_bool().ok_or_else(|| wrong_type("a boolean"))
    }

    pub(super) fn number(&self) -> Result<i64, Class> {
        let value = &self.leaf.value;
        let text = || value.as_str().and_then(|text| text.parse().ok());
        value
            .as_integer()
            .or_else(text)
            .ok_or_else(|| wrong_type("a number"))
    }

    pub(super) fn texts(&self) -> Result<Vec<String>, Class> {
        texts(&self.leaf.value).ok_or_else(|| wrong_type("a list of strings"))
    }

    /// Whole seconds of a duration in Go's form or of a number.
    pub(super) fn seconds(&self) -> Result<u32, Class> {
        let value = &self.leaf.value;
        let seconds = match value {
            Value::String(text) => duration(text),
            Value::Integer(seconds) => u32::try_from(*seconds).ok(),
            _ => None,
        };
        seconds.ok_or_else(|| wrong_type("a duration such as \"1m30s\""))
    }
}

/// A value of the wrong type: the runtime would not have started with it.
fn wrong_type(expected: &str) -> Class {
    Class::NoCounterpart {
        consequence: format!("it is ignored: it is not {expected}"),
        remedy: "correct it in the source, or set the key of pausa by hand".to_owned(),
    }
}

pub(super) fn lacks(consequence: impl Into<String>, remedy: impl Into<String>) -> Done {
    Err(Class::NoCounterpart {
        consequence: consequence.into(),
        remedy: remedy.into(),
    })
}

pub(super) fn same(why: impl Into<String>) -> Done {
    Err(Class::Same { why: why.into() })
}

pub(super) fn not_needed(why: impl Into<String>) -> Done {
    Err(Class::NotNeeded { why: why.into() })
}

pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?;
    list.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Seconds of a duration as Go prints it (`4h0m0s`, `90s`, `1.5m`, `0`), fractions rounded up.
pub(super) fn duration(text: &str) -> Option<u32> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    if text == "0" || text.is_empty() {
        return Some(0);
    }
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == &rest[..end])?;
        rest = &rest[end..];
        sum += number * unit;
    }
    let sum = sum.ceil();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the range of the type, and without a fraction"
    )]
    (0.0..=f64::from(u32::MAX)).contains(&sum).then_some(sum as u32)
}

/// A default of the runtime that differs from pausa's, for when the source does not name its key.
#[derive(Clone, Copy)]
pub(super) struct Implied {
    /// Patterns of the keys, any of which replaces this.
    pub(super) unless: &'static [&'static str],
    /// The key of pausa.
    pub(super) to: &'static str,
    pub(super) set: fn(&mut Config),
    pub(super) why: &'static str,
}

/// A translated key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) leaf: Leaf,
    pub(super) class: Class,
}

/// A default that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenDefault {
    pub(super) to: &'static str,
    pub(super) value: String,
    pub(super) why: &'static str,
}

/// Translates all leaves by the rules, on top of `config`. `before` may class a leaf before any rule.
pub(super) fn translate(
    leaves: Vec<Leaf>,
    rules: &[Rule],
    implied: &[Implied],
    before: impl Fn(&Leaf, &Table) -> Option<Class>,
    config: &mut Config,
) -> (Vec<Entry>, Vec<WrittenDefault>) {
    let mut source = Table::new();
    for leaf in &leaves {
        insert(&mut source, &leaf.path, leaf.value.clone());
    }
    let mut defaults = Vec::new();
    for default in implied {
        let named = |pattern: &&str| leaves.iter().any(|leaf| covers(pattern, &leaf.path));
        if default.unless.iter().any(named) {
            continue;
        }
        (default.set)(config);
        defaults.push(WrittenDefault {
            to: default.to,
            value: shown_key(config, default.to),
            why: default.why,
        });
    }
    let entries = leaves.into_iter().map(|leaf| {
        let class = before(&leaf, &source).unwrap_or_else(|| classify(&leaf, &source, rules, config));
        Entry { leaf, class }
    });
    (entries.collect(), defaults)
}

fn classify(leaf: &Leaf, source: &Table, rules: &[Rule], config: &mut Config) -> Class {
    let Some(rule) = rules.iter().find(|rule| covers(rule.path, &leaf.path)) else {
        return Class::Unknown;
    };
    let default = rule.is_default(&leaf.value);
    match &rule.does {
        Does::Map(to, set) => {
            let earlier = config.clone();
            let mut context = Context {
                leaf,
                source,
                config: &mut *config,
            };
            let note = match set(&mut context) {
                Err(Class::NoCounterpart { .. } | Class::NotNeeded { .. } | Class::Same { .. })
                    if default =>
                {
                    return Class::Default;
                }
                Err(class) => return class,
                Ok(note) => note,
            };
            // What pausa would not start with is no translation.
            if let Err(ConfigError::Value { expected, .. }) = config.validate()
                && earlier.validate().is_ok()
            {
                *config = earlier;
                return Class::NoCounterpart {
                    consequence: format!("{to} cannot have this value; it must be {expected}"),
                    remedy: format!("set {to} by hand"),
                };
            }
            if *config != earlier {
                let to = (*to).to_owned();
                let value = shown_key(config, &to);
                return Class::Mapped { to, value, note };
            }
            if default && note.is_none() {
                return Class::Default;
            }
            let value = shown_key(config, to);
            match note {
                Some(note) => Class::Mapped {
                    to: (*to).to_owned(),
                    value,
                    note: Some(note),
                },
                None => Class::Same {
                    why: format!("{to} is {value} already"),
                },
            }
        }
        _ if default => Class::Default,
        Does::Same(why) => Class::Same {
            why: (*why).to_owned(),
        },
        Does::NotNeeded(why) => Class::NotNeeded {
            why: (*why).to_owned(),
        },
        Does::Lacks(consequence, remedy) => Class::NoCounterpart {
            consequence: (*consequence).to_owned(),
            remedy: (*remedy).to_owned(),
        },
    }
}

/// The value of a key of pausa, on one line.
fn shown_key(config: &Config, key: &str) -> String {
    let Ok(table) = Table::try_from(config) else {
        return String::new();
    };
    // A key of the handlers is the same in all of them.
    let key = key.replace("handlers.NAME", "handlers");
    let mut at = Value::Table(table);
    for part in key.split('.') {
        let next = match &at {
            Value::Table(table) if key.starts_with("handlers") && part != "handlers" => {
                let first = table.get(part);
                first.or_else(|| table.get("").and_then(|handler| handler.get(part)))
            }
            Value::Table(table) => table.get(part),
            _ => None,
        };
        match next {
            Some(next) => at = next.clone(),
            None => return String::new(),
        }
    }
    match at {
        // A handler, or all of them.
        Value::Table(table) if key == "handlers" => {
            let names = table.keys().filter(|name| !name.is_empty());
            names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string().replace('\n', " "),
    }
}

pub(super) fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table
        .entry(first.clone())
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        insert(inner, rest, value);
    }
}

/// The value at a path of parts between `/`.
pub(super) fn get<'a>(source: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (last, tables) = path.split_last()?;
    let mut table = source;
    for part in tables {
        table = table.get(*part)?.as_table()?;
    }
    table.get(*last)
}

/// All keys of a table that are no tables, in its order. `short` makes the path for rules of the path in the file.
pub(super) fn leaves(table: &Table, short: impl Fn(&[&str]) -> Vec<String>) -> Vec<Leaf> {
    fn walk<'a>(
        table: &'a Table,
        path: &mut Vec<&'a str>,
        short: &impl Fn(&[&str]) -> Vec<String>,
        into: &mut Vec<Leaf>,
    ) {
        for (key, value) in table {
            path.push(key);
            match value {
                Value::Table(inner) if !inner.is_empty() => walk(inner, path, short, into),
                // An empty table is the same as none.
                Value::Table(_) => {}
                value => into.push(Leaf {
                    path: short(path),
                    key: path.iter().map(|part| quoted(part)).collect::<Vec<_>>().join("."),
                    value: value.clone(),
                }),
            }
            path.pop();
        }
    }
    let mut found = Vec::new();
    walk(table, &mut Vec::new(), &short, &mut found);
    found
}

/// A part of a TOML key.
fn quoted(part: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !part.is_empty() && part.chars().all(bare) {
        return part.to_owned();
    }
    Value::String(part.to_owned()).to_string()
}

/// What a runtime handler's programs amount to here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Like `builtin`.
    Builtin,
    /// A program around runc that adds something: `builtin`, without what it adds.
    Wrapper(String),
    /// Another kind of isolation, or an unknown program.
    Foreign(String),
}

impl Kind {
    /// Of the program that runs containers; empty for the default one.
    pub(super) fn of_program(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        match name {
            "" | "runc" | "crun" | "youki" => Self::Builtin,
            name if name.starts_with("nvidia-container-runtime") => Self::Wrapper(name.to_owned()),
            name => Self::Foreign(name.to_owned()),
        }
    }
}

/// For a program that only adds something to runc.
pub(super) fn wrapper_class(program: &str) -> Done {
    lacks(
        format!(
            "{program} is not run: containers of this handler are built in, and get no GPUs by environment variables"
        ),
        "use CDI: `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, and the device plugin with the strategy cdi-cri",
    )
}

/// For a handler that pausa does not have. It is not written: a pod must not run with less isolation than it asks for.
pub(super) fn foreign_class(handler: &str, program: &str) -> Class {
    Class::NoCounterpart {
        consequence: format!(
            "there is no handler {handler:?} ({program}): pods of its RuntimeClass are refused"
        ),
        remedy: "keep these pods on nodes with the other runtime, by the RuntimeClass's `scheduling`"
            .to_owned(),
    }
}
