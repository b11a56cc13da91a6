//! YAML as JSON values. One document; JSON is read as well, because YAML 1.2 contains it.
//!
//! What plain scalars are, the caller says: [`Scalars`]. Everything quoted or tagged is a text, and so are keys. There are no
//! merge keys (`<<`), and no keys of more than 1024 bytes.
//!
//! Must never: take more memory than the caller allows, or time out of proportion to that, whatever the text says. Anchors
//! that repeat each other are the usual way to try, and collections of almost nothing another.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// How deep collections may nest.
const DEPTH: usize = 16;
/// A mapping with one key costs as much as one with eleven.
const MAPPING: usize = 640;

/// What plain scalars are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalars {
    /// What Go's YAML library makes of them, as far as JSON has it: null, booleans, numbers with the prefixes and the octal
    /// zero of YAML 1.1 (`0660`). Booleans are those of YAML 1.2, so that `on` and `y` are texts.
    Typed,
    /// Null, or texts as they are written (`080`). Go's library reads them like this for fields that are texts.
    Text,
}

/// Why a text is no YAML that can be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum YamlError {
    /// It is not YAML.
    #[error(transparent)]
    Syntax(#[from] ScanError),
    /// It is YAML, but not JSON, or too much.
    #[error("line {line}: {problem}")]
    Unusable { line: usize, problem: &'static str },
}

/// The document in a text; null if there is none. All values together, anchors and what replaces aliases included, take at
/// most about `memory` bytes.
///
/// # Errors
/// It is not YAML, has more than one document, the same key twice in a mapping, collections as keys, or too much in it.
pub fn parse(text: &str, scalars: Scalars, memory: usize) -> Result<Value, YamlError> {
    let mut builder = Builder {
        scalars,
        memory,
        root: None,
        open: Vec::new(),
        anchors: BTreeMap::new(),
    };
    for next in Parser::new_from_str(text) {
        let (event, span) = next?;
        builder.take(event).map_err(|problem| YamlError::Unusable {
            line: span.start.line(),
            problem,
        })?;
    }
    Ok(builder.root.unwrap_or_default())
}

#[derive(Debug)]
struct Builder {
    scalars: Scalars,
    /// What is left of it, in bytes.
    memory: usize,
    root: Option<Value>,
    open: Vec<Collection>,
    anchors: BTreeMap<usize, Value>,
}

/// A collection whose end has not been read.
#[derive(Debug)]
struct Collection {
    content: Content,
    anchor: usize,
}

#[derive(Debug)]
enum Content {
    Sequence(Vec<Value>),
    Mapping {
        map: Map<String, Value>,
        /// The key whose value comes next.
        key: Option<String>,
    },
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = match style {
                    ScalarStyle::Plain if tag.is_none() => plain(&text, self.scalars),
                    _ => Value::String(text.into_owned()),
                };
                self.count(memory(&value))?;
                self.place(value, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Content::Sequence(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => {
                let (map, key) = (Map::new(), None);
                self.begin(Content::Mapping { map, key }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Collection { content, anchor }) = self.open.pop() else {
                    return Err("something ends that has not begun");
                };
                let value = match content {
                    Content::Sequence(list) => Value::Array(list),
                    Content::Mapping { map, .. } => Value::Object(map),
                };
                self.place(value, anchor)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value = value.ok_or("an alias is part of what it stands for")?;
                self.count(memory(&value))?;
                self.place(value, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => Err("there is more than one document"),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, content: Content, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() == DEPTH {
            return Err("it nests too deep");
        }
        self.count(match content {
            Content::Sequence(_) => size_of::<Value>(),
            Content::Mapping { .. } => MAPPING,
        })?;
        self.open.push(Collection { content, anchor });
        Ok(())
    }

    /// Puts a value that is complete and counted where it belongs.
    fn place(&mut self, value: Value, anchor: usize) -> Result<(), &'static str> {
        if anchor > 0 {
            self.count(memory(&value))?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|collection| &mut collection.content) {
            None => self.root = Some(value),
            Some(Content::Sequence(list)) => list.push(value),
            Some(Content::Mapping { map, key }) => match key.take() {
                Some(key) => match map.entry(key) {
                    Entry::Vacant(entry) => drop(entry.insert(value)),
                    Entry::Occupied(_) => return Err("the same key is there twice"),
                },
                None => {
                    *key = Some(match value {
                        Value::String(text) => text,
                        Value::Bool(_) | Value::Number(_) => value.to_string(),
                        _ => return Err("a key is not a text"),
                    });
                }
            },
        }
        Ok(())
    }

    fn count(&mut self, memory: usize) -> Result<(), &'static str> {
        self.memory = self.memory.checked_sub(memory).ok_or("it has too much in it")?;
        Ok(())
    }
}

fn memory(value: &Value) -> usize {
    match value {
        Value::Array(list) => size_of::<Value>() + list.iter().map(memory).sum::<usize>(),
        Value::Object(map) => {
            MAPPING
                + map
                    .iter()
                    .map(|(key, one)| key.len() + memory(one))
                    .sum::<usize>()
        }
        Value::String(text) => size_of::<Value>() + text.len(),
        _ => size_of::<Value>(),
    }
}

fn plain(text: &str, scalars: Scalars) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        _ if scalars == Scalars::Text => Value::String(text.to_owned()),
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    let (negative, magnitude) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let (radix, magnitude) = match magnitude.get(..2) {
        Some("0x" | "0X") => (16, &magnitude[2..]),
        Some("0o" | "0O") => (8, &magnitude[2..]),
        Some("0b" | "0B") => (2, &magnitude[2..]),
        Some(two) if two.starts_with('0') => (8, &magnitude[1..]),
        _ => (10, magnitude),
    };
    // The library's functions take a sign of their own.
    let unsigned = magnitude.starts_with(|c: char| c.is_ascii_alphanumeric());
    if let Some(magnitude) = u64::from_str_radix(magnitude, radix).ok().filter(|_| unsigned) {
        return match negative {
            true => i64::try_from(-i128::from(magnitude)).ok().map(Number::from),
            false => Some(Number::from(magnitude)),
        };
    }
    let decimal = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let float = digits.parse().ok().filter(|_| digits.chars().all(decimal))?;
    Number::from_f64(float)
}

#[cfg(test)]
mod tests;
