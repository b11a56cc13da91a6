//! Ids of pods and containers, and look-up by a unique prefix.
//!
//! CRI leaves ids to the runtime. containerd and CRI-O use 64 hex digits and accept unique prefixes; crictl shows and
//! sends 13 digits.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Kinded};

const LENGTH: usize = 64;

/// The id of a pod sandbox or container: 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
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

/// Why an id or prefix does not identify an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("the {what} id is empty")]
    Empty {
        /// `pod sandbox` or `container`.
        what: &'static str,
    },
    /// Not an id.
    #[error("{id:?} is not an id of {LENGTH} hex digits")]
    Malformed { id: String },
    #[error("no {what} has the id {id:?}")]
    NotFound {
        /// `pod sandbox` or `container`.
        what: &'static str,
        id: String,
    },
    #[error("{id:?} is the beginning of more than one {what} id; give more digits")]
    Ambiguous {
        /// `pod sandbox` or `container`.
        what: &'static str,
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

/// Finds the only entry whose id is `given` or begins with it. `what` names the kind of object in errors.
///
/// # Errors
/// [`LookupError`].
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
        // A full id is never the prefix of another one.
        (Some(_), Some(_)) => Err(LookupError::Ambiguous {
            what,
            id: given.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
