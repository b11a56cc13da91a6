//! YAML as JSON in which all scalars are texts, as the peers read it before they look for keys. One document.
//!
//! Must never: take memory or time out of proportion to the file, whatever it says. Anchors that repeat each other are the
//! usual way to try.

use std::borrow::Cow;
use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Value};

/// How much there may be after all aliases are replaced: nodes, and bytes of text.
const SIZE: usize = 1 << 20;
/// How deep they may nest.
const DEPTH: usize = 16;

/// Why a text is no YAML that can be used.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error(transparent)]
    Syntax(#[from] ScanError),
    #[error("line {line}: {problem}")]
    Unusable { line: usize, problem: &'static str },
}

/// # Errors
/// It is not YAML, has more than one document, the same key twice in a mapping, or too much in it.
pub(super) fn to_json(text: &str) -> Result<Value, YamlError> {
    let mut builder = Builder::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next?;
        builder.take(event).map_err(|problem| YamlError::Unusable {
            line: span.start.line(),
            problem,
        })?;
    }
    Ok(builder.root.unwrap_or_default())
}

#[derive(Debug, Default)]
struct Builder {
    root: Option<Value>,
    open: Vec<Collection>,
    anchors: BTreeMap<usize, Value>,
    size: usize,
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
            Event::Scalar(text, style, anchor, _) => self.place(scalar(text, style), anchor),
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
                self.place(value, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => Err("there is more than one document"),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, content: Content, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() == DEPTH {
            return Err("it nests deeper than any class does");
        }
        self.open.push(Collection { content, anchor });
        Ok(())
    }

    /// Puts a value that is complete where it belongs.
    fn place(&mut self, value: Value, anchor: usize) -> Result<(), &'static str> {
        // What is in a collection counts again when that is complete, as often as they nest.
        self.size += size(&value);
        if self.size > SIZE {
            return Err("it has more in it than all classes of a node");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|collection| &mut collection.content) {
            None => self.root = Some(value),
            Some(Content::Sequence(list)) => list.push(value),
            Some(Content::Mapping { map, key }) => match (key.take(), value) {
                (None, Value::String(text)) if map.contains_key(&text) => {
                    return Err("the same key is there twice");
                }
                (None, Value::String(text)) => *key = Some(text),
                (None, _) => return Err("a key is not a text"),
                (Some(key), value) => {
                    map.insert(key, value);
                }
            },
        }
        Ok(())
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    let null = style == ScalarStyle::Plain && ["", "~", "null", "Null", "NULL"].contains(&text.as_ref());
    match null {
        true => Value::Null,
        false => Value::String(text.into_owned()),
    }
}

fn size(value: &Value) -> usize {
    let inner = match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, one)| key.len() + size(one)).sum(),
        Value::String(text) => text.len(),
        _ => 0,
    };
    1 + inner
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_texts() {
        let text = "a: 080 # a comment\nb: [x, 'null', null, ~, \"\"]\nc:\nd: &one {e: 1k}\nf: *one\n";
        let expected = json!({
            "a": "080",
            "b": ["x", "null", null, null, ""],
            "c": null,
            "d": {"e": "1k"},
            "f": {"e": "1k"},
        });
        assert_eq!(to_json(text).unwrap(), expected);
        assert_eq!(to_json("").unwrap(), Value::Null);
        assert_eq!(to_json("---\n# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn what_cannot_be_used_has_its_line() {
        let bomb = (1..12).fold("a0: &a0 x\n".to_owned(), |text, level| {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            format!("{text}a{level}: &a{level} [{list}]\n")
        });
        for (text, problem) in [
            ("a: 1\na: 2\n", "line 2: the same key"),
            ("a: 1\n---\nb: 2\n", "more than one document"),
            ("[a]: 1\n", "line 1: a key is not a text"),
            ("a: &x [*x]\n", "alias"),
            ("a: *x\n", "line 1"),
            ("a: [1\n", "line"),
            ("a: 1\n\tb: 2\n", "found a tab"),
            (&"[".repeat(40), "line 1"),
            (&bomb, "more in it"),
        ] {
            let error = to_json(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_json_or_an_error(text in "[-a: \\n&*\\[\\]{}?#'\"|>~!%,0]{0,60}") {
            to_json(&text).ok();
        }

        #[test]
        fn odd_characters_do_not_hurt(text in "\\PC{0,40}") {
            to_json(&text).ok();
        }
    }
}
