//! Image ids as names of images: `sha256:hex`, 64 hexadecimal digits, or a prefix of them.
//!
//! Only the form is checked. A short prefix (`cafe`) can be a repository name as well: callers look up the name first and use
//! the prefix only if exactly one id begins with it.

use crate::digest::{Digest, is_lower_hex};

#[cfg(test)]
mod tests;

/// A text in the form of an image id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageId {
    /// All 64 digits were given.
    Full(Digest),
    /// The first digits (1 to 63) of an id.
    Prefix(String),
}

impl ImageId {
    /// `None` if `text` cannot be an id.
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
