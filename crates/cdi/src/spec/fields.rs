//! The fields of one object, taken out one by one; each error names its field with the whole path.
//!
//! Go's decoder, which everybody else reads these files with, sets the rules: null is the same as nothing, numbers and
//! booleans are texts where a text belongs (`name: 0`), the case of names does not matter (there are files with
//! `additionalGIDs`), and what is left at the end is an error.

use serde_json::{Map, Value};

use crate::error::SpecError;
use crate::version::Version;

pub(super) struct Fields {
    /// Path of the object, with a dot behind it; empty for the document.
    prefix: String,
    /// What the document declares.
    version: Version,
    values: Map<String, Value>,
}

impl Fields {
    /// Those of a document. Its version is taken out.
    pub(super) fn document(value: Value) -> Result<Self, SpecError> {
        let mut fields = Self::new("document".to_owned(), Version::V0_3_0, value)?;
        fields.prefix.clear();
        let version = fields.text("cdiVersion")?;
        fields.version = Version::parse(&version).ok_or_else(|| SpecError::Version {
            version: version.chars().take(64).collect(),
        })?;
        Ok(fields)
    }

    fn new(path: String, version: Version, value: Value) -> Result<Self, SpecError> {
        match value {
            Value::Object(values) => Ok(Self {
                prefix: path + ".",
                version,
                values,
            }),
            _ => Err(invalid(path, "an object")),
        }
    }

    /// The path of a field. The name may be anything.
    fn path(&self, name: &str) -> String {
        format!("{}{name:.64}", self.prefix)
    }

    pub(super) fn invalid(&self, name: &str, expected: &'static str) -> SpecError {
        invalid(self.path(name), expected)
    }

    /// Fails if a field is used that came with a later version than the document declares.
    pub(super) fn since(&self, needed: Version, name: &str, used: bool) -> Result<(), SpecError> {
        match used && self.version < needed {
            false => Ok(()),
            true => Err(SpecError::NeedsVersion {
                field: self.path(name),
                needed: needed.as_str(),
                declared: self.version.as_str(),
            }),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let key = self.values.keys().find(|key| key.eq_ignore_ascii_case(name))?;
        let key = key.clone();
        self.values.remove(&key).filter(|value| !value.is_null())
    }

    /// Empty if there is none.
    pub(super) fn text(&mut self, name: &str) -> Result<String, SpecError> {
        let value = self.take(name);
        value.map_or_else(|| Ok(String::new()), |value| text(value, || self.path(name)))
    }

    /// None for an empty one.
    pub(super) fn some_text(&mut self, name: &str) -> Result<Option<String>, SpecError> {
        self.text(name)
            .map(|text| Some(text).filter(|text| !text.is_empty()))
    }

    pub(super) fn absolute(&mut self, name: &str) -> Result<String, SpecError> {
        let path = self.text(name)?;
        match path.starts_with('/') {
            true => Ok(path),
            false => Err(self.invalid(name, "an absolute path")),
        }
    }

    /// None if there is no list.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, SpecError> {
        let Some(list) = self.list(name)? else {
            return Ok(None);
        };
        let texts = list.into_iter().map(|(field, value)| text(value, || field));
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// Variables of an environment.
    pub(super) fn environment(&mut self, name: &str) -> Result<Option<Vec<String>>, SpecError> {
        let variables = self.texts(name)?;
        // The name is not empty.
        let valid = |variable: &String| variable.find('=').is_some_and(|at| at > 0);
        match variables.iter().flatten().all(valid) {
            true => Ok(variables),
            false => Err(self.invalid(name, "a list of NAME=VALUE")),
        }
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u32>, SpecError> {
        let value = self.take(name);
        value.map(|value| number(&value, || self.path(name))).transpose()
    }

    pub(super) fn numbers(&mut self, name: &str) -> Result<Vec<u32>, SpecError> {
        let list = self.list(name)?.unwrap_or_default();
        list.into_iter()
            .map(|(field, value)| number(&value, || field))
            .collect()
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, SpecError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.invalid(name, "true or false")),
        }
    }

    /// Reads an object, all of whose fields must be taken.
    pub(super) fn object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T, SpecError>,
    ) -> Result<Option<T>, SpecError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let mut object = Self::new(self.path(name), self.version, value)?;
        let read = read(&mut object)?;
        object.finish().map(|()| Some(read))
    }

    /// Reads a list of objects, all of whose fields must be taken.
    pub(super) fn objects<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&mut Self) -> Result<T, SpecError>,
    ) -> Result<Vec<T>, SpecError> {
        let list = self.list(name)?.unwrap_or_default();
        let one = |(path, value)| {
            let mut object = Self::new(path, self.version, value)?;
            let read = read(&mut object)?;
            object.finish().map(|()| read)
        };
        list.into_iter().map(one).collect()
    }

    /// Reads annotations, which say nothing to a runtime.
    pub(super) fn annotations(&mut self) -> Result<(), SpecError> {
        let some = self.object("annotations", |annotations| {
            let values = std::mem::take(&mut annotations.values);
            let some = !values.is_empty();
            for (name, value) in values {
                text(value, || annotations.path(&name))?;
            }
            Ok(some)
        })?;
        self.since(Version::V0_6_0, "annotations", some == Some(true))
    }

    /// Fails if there is a field that was not taken.
    pub(super) fn finish(&self) -> Result<(), SpecError> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(SpecError::UnknownField {
                field: self.path(name),
            }),
        }
    }

    /// The elements, each with its path.
    fn list(&mut self, name: &str) -> Result<Option<Vec<(String, Value)>>, SpecError> {
        let path = self.path(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => {
                let list = list.into_iter().enumerate();
                Ok(Some(
                    list.map(|(at, value)| (format!("{path}[{at}]"), value)).collect(),
                ))
            }
            Some(_) => Err(invalid(path, "a list")),
        }
    }
}

fn text(value: Value, field: impl FnOnce() -> String) -> Result<String, SpecError> {
    match value {
        // The kernel would cut it off there.
        Value::String(text) if text.contains('\0') => Err(invalid(field(), "without NUL")),
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        Value::Bool(_) => Ok(value.to_string()),
        Value::Number(number) => Ok(match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => float.to_string(),
            None => number.to_string(),
        }),
        Value::Array(_) | Value::Object(_) => Err(invalid(field(), "a text")),
    }
}

fn number(value: &Value, field: impl FnOnce() -> String) -> Result<u32, SpecError> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| invalid(field(), "a number from 0 to 4294967295"))
}

fn invalid(field: String, expected: &'static str) -> SpecError {
    SpecError::Field { field, expected }
}
