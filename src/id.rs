//! Ids of pods and containers, and finding things by a unique prefix of their id.
//!
//! Source: CRI leaves ids to the runtime; both peers use 64 hex digits and accept unique prefixes, and
//! crictl shows and sends 13 of them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Kinded};

/// Number of characters of an id.
const LENGTH: usize = 64;

/// The id of a pod sandbox or container: 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// A new random id.
    pub fn random() -> Self {
        let mut bytes = [0_u8; LENGTH / 2];
        let mut filled = 0;
        while filled < bytes.len() {
            // Fails only on a kernel without getrandom(2), or when a signal comes before the pool is ready.
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .unwrap_or(0);
        }
        Self(hex::encode(bytes))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 13 digits, as crictl shows them.
    pub fn short(&self) -> &str {
        &self.0[..13]
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl TryFrom<String> for Id {
    type Error = LookupError;

    fn try_from(text: String) -> Result<Self, LookupError> {
        let valid = text.len() == LENGTH
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid {
            Ok(Self(text))
        } else {
            Err(LookupError::Malformed { id: text })
        }
    }
}

/// Why an id or a prefix of one leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Empty.
    #[error("the {what} id is empty")]
    Empty {
        /// `pod sandbox` or `container`.
        what: &'static str,
    },
    /// Not an id at all.
    #[error("{id:?} is not an id of {LENGTH} hex digits")]
    Malformed {
        /// As given.
        id: String,
    },
    /// Nothing has it.
    #[error("no {what} has the id {id:?}")]
    NotFound {
        /// `pod sandbox` or `container`.
        what: &'static str,
        /// As given.
        id: String,
    },
    /// More than one has it.
    #[error("{id:?} is the beginning of more than one {what} id; give more digits")]
    Ambiguous {
        /// `pod sandbox` or `container`.
        what: &'static str,
        /// As given.
        id: String,
    },
}

impl Kinded for LookupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Empty { .. } | Self::Malformed { .. } | Self::Ambiguous { .. } => {
                ErrorKind::InvalidArgument
            }
        }
    }
}

/// Finds the one entry whose id is `given` or begins with it.
///
/// # Errors
/// [`LookupError`], which calls the thing `what`.
pub fn find<'a, V>(
    map: &'a BTreeMap<Id, V>,
    what: &'static str,
    given: &str,
) -> Result<(&'a Id, &'a V), LookupError> {
    if given.is_empty() {
        return Err(LookupError::Empty { what });
    }
    let from = Id(given.to_owned());
    let mut hits = map
        .range((Bound::Included(from), Bound::Unbounded))
        .take_while(|(id, _)| id.0.starts_with(given));
    match (hits.next(), hits.next()) {
        (None, _) => Err(LookupError::NotFound {
            what,
            id: given.to_owned(),
        }),
        (Some(hit), None) => Ok(hit),
        // A full id is never the beginning of another one.
        (Some(_), Some(_)) => Err(LookupError::Ambiguous {
            what,
            id: given.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
