//! What plugins may ask for. They are trusted as root is: this finds mistakes, before a runtime fails on them without a
//! word about the plugin.

use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// An adjustment that no OCI runtime spec can have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum SpecError {
    /// A value is wrong.
    #[error("an NRI plugin adjusts {field} to {value:?}: it must be {expected}")]
    Invalid {
        field: &'static str,
        value: String,
        expected: &'static str,
    },
    /// The spec is not that of a container on Linux.
    #[error("the OCI runtime spec has no {field}, which NRI plugins adjust")]
    Missing { field: &'static str },
}

pub(super) fn invalid(field: &'static str, value: impl Display, expected: &'static str) -> SpecError {
    SpecError::Invalid {
        field,
        value: value.to_string().chars().take(256).collect(),
        expected,
    }
}

/// A text that can be an argument of a system call.
pub(super) fn text(field: &'static str, value: &str) -> Result<String, SpecError> {
    match value.contains('\0') {
        true => Err(invalid(field, value, "without NUL")),
        false => Ok(value.to_owned()),
    }
}

pub(super) fn texts(field: &'static str, values: &[String]) -> Result<Vec<String>, SpecError> {
    values.iter().map(|value| text(field, value)).collect()
}

/// An absolute path that does not go up.
pub(super) fn path(field: &'static str, value: &str) -> Result<PathBuf, SpecError> {
    let path = Path::new(value);
    let up = path.components().any(|part| part == Component::ParentDir);
    match path.is_absolute() && !up && !value.contains('\0') {
        true => Ok(path.to_owned()),
        false => Err(invalid(field, value, "an absolute path without `..` and NUL")),
    }
}

/// The name of one file.
pub(super) fn file_name(field: &'static str, value: &str) -> Result<String, SpecError> {
    match matches!(value, "" | "." | "..") || value.contains(['/', '\0']) {
        true => Err(invalid(field, value, "the name of a file")),
        false => Ok(value.to_owned()),
    }
}

/// A name of the OCI runtime spec.
pub(super) fn parse<T: FromStr>(
    field: &'static str,
    value: &str,
    expected: &'static str,
) -> Result<T, SpecError> {
    value.parse().map_err(|_| invalid(field, value, expected))
}

/// A value of an enum of NRI.
pub(super) fn known<T: TryFrom<i32>>(field: &'static str, value: i32) -> Result<T, SpecError> {
    T::try_from(value).map_err(|_| invalid(field, value, "a value that this version of NRI knows"))
}

/// Numbers and ranges of them, as cpuset(7) has them.
pub(super) fn number_list(field: &'static str, value: &str) -> Result<String, SpecError> {
    let number = |text: &str| text.trim().parse::<u32>().is_ok();
    let ranged = |item: &str| match item.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(item),
    };
    match value.split(',').all(ranged) {
        true => Ok(value.to_owned()),
        false => Err(invalid(
            field,
            value,
            "a list of numbers and ranges, such as 0-3,7",
        )),
    }
}
