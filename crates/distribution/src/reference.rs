//! Image references, normalised as users of Docker know them: `busybox` is `docker.io/library/busybox:latest`.
//!
//! Invariants: the host and the repository are never empty and hold only characters that may stand in a URL path as they
//! are; there is a tag or a digest. Where both were given the digest decides what is fetched and the tag is only remembered.
//! Never looks anything up: short names beyond `docker.io` are the affair of registry configuration.
//!
//! Grammar: the OCI distribution spec ("Pulling manifests", `<name>` and `<reference>`) and distribution's reference package.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::digest::{Digest, is_lower_hex};
use crate::error::Error;

#[cfg(test)]
mod tests;

/// Host of references that name none.
pub const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is no image reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing where a name should be.
    #[error("the name is empty")]
    Empty,
    /// Longer than a registry accepts.
    #[error("host and repository together are longer than {MAX_NAME} characters")]
    TooLong,
    /// The repository has capital letters.
    #[error("the repository must be lower case")]
    UpperCase,
    /// The repository breaks the grammar.
    #[error("the repository may hold a-z and 0-9, separated by '/', '.', '-', '_' or '__'")]
    Repository,
    /// The host is neither a DNS name nor an address with an optional port.
    #[error("the registry host is no DNS name or address with an optional port")]
    Host,
    /// The tag breaks the grammar.
    #[error(
        "the tag must be 1 to {MAX_TAG} characters of A-Z, a-z, 0-9, '_', '.', '-' and not begin with '.' or '-'"
    )]
    Tag,
    /// What stands after the `@` is no digest.
    #[error("what follows '@' is no sha256 or sha512 digest")]
    Digest,
    /// 64 hexadecimal digits are an image id and cannot be a name.
    #[error("64 hexadecimal digits are an image id, not a name")]
    ImageId,
}

/// A normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Whether `text` names no host, so that configuration may say which is meant.
    pub fn is_short(text: &str) -> bool {
        names_host(text).is_none()
    }

    /// `text` without tag and digest, and these with their separators.
    pub(crate) fn split_name(text: &str) -> (&str, &str) {
        let name = text.split_once('@').map_or(text, |(name, _)| name);
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let end = name
            .get(last..)
            .and_then(|rest| rest.find(':'))
            .map_or(name.len(), |colon| last + colon);
        text.split_at_checked(end).unwrap_or((text, ""))
    }

    /// The registry's name as in the reference (`docker.io`, `localhost:5000`), not the address that serves it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository without the host: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `host/repository`: what repoTags and repoDigests begin with.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The same repository at `digest`, the tag forgotten.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            host: self.host.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// What stands after `/manifests/` in a request: the digest, else the tag.
    pub(crate) fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::Reference {
            text: crate::error::excerpt(text.as_bytes()),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, ReferenceError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(digest.parse::<Digest>().map_err(|_| ReferenceError::Digest)?),
        ),
        None => (text, None),
    };
    // A colon before the last slash belongs to the host's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if name.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let id = |hex: &str| hex.len() == 64 && is_lower_hex(hex);
    if id(name) || (name == "sha256" && tag.is_some_and(id)) {
        return Err(ReferenceError::ImageId);
    }
    let (host, repository) = split_host(name);
    check_host(host)?;
    let repository = match (host, repository.contains('/')) {
        (DEFAULT_HOST, false) => format!("library/{repository}"),
        _ => repository.to_owned(),
    };
    check_repository(&repository)?;
    if host.len() + 1 + repository.len() > MAX_NAME {
        return Err(ReferenceError::TooLong);
    }
    let tag = match tag {
        Some(tag) if is_tag(tag) => Some(tag.to_owned()),
        Some(_) => return Err(ReferenceError::Tag),
        None if digest.is_none() => Some(DEFAULT_TAG.to_owned()),
        None => None,
    };
    Ok(Reference {
        host: host.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// The first component is a host if it looks like one, so that `team/app` stays a repository of the default host.
fn names_host(name: &str) -> Option<(&str, &str)> {
    name.split_once('/')
        .filter(|(first, _)| first.contains(['.', ':']) || *first == "localhost")
}

fn split_host(name: &str) -> (&str, &str) {
    match names_host(name) {
        Some(("index.docker.io", rest)) => (DEFAULT_HOST, rest),
        Some(found) => found,
        None => (DEFAULT_HOST, name),
    }
}

fn check_host(host: &str) -> Result<(), ReferenceError> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<Ipv6Addr>().map_err(|_| ReferenceError::Host)?;
            match port {
                "" => return Ok(()),
                _ => ("ipv6", port.strip_prefix(':').ok_or(ReferenceError::Host)?),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, port),
            None => (host, "1"),
        },
    };
    // `u16::from_str` alone would let "+80" pass.
    if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return Err(ReferenceError::Host);
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.split('.').all(label) {
        Ok(())
    } else {
        Err(ReferenceError::Host)
    }
}

fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase);
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err(ReferenceError::Repository)
    }
}

/// Runs of letters and digits with one of `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    word(first)
        && word(last)
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && !tag.is_empty()
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
