//! Tells whether a text that names an image may be an image id: `sha256:hex`, 64 hexadecimal digits, or a prefix of them.
//!
//! Only the shape is judged. A short prefix (`cafe`) can be a repository name as well: callers ask their store for the name
//! first and take the prefix only if exactly one id begins with it.

use crate::digest::{Digest, is_lower_hex};

#[cfg(test)]
mod tests;

/// A text that has the shape of an image id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageId {
    /// All 64 digits were given.
    Full(Digest),
    /// The first digits (1 to 63) of an id.
    Prefix(String),
}

impl ImageId {
    /// `None` where `text` cannot be an id.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if !is_lower_hex(hex) {
            return None;
        }
        match hex.len() {
            64 => format!("sha256:{hex}").parse().ok().map(Self::Full),
            1..64 => Some(Self::Prefix(hex.to_owned())),
            _ => None,
        }
    }

    /// Whether `id` is this id or begins with this prefix.
    pub fn matches(&self, id: &Digest) -> bool {
        match self {
            Self::Full(digest) => digest == id,
            Self::Prefix(prefix) => id.hex().starts_with(prefix.as_str()),
        }
    }
}
