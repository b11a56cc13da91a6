//! Image references, normalised as users of Docker know them: `busybox` is `docker.io/library/busybox:latest`.
//!
//! Invariants: host and repository are never empty and hold only characters that a URL path may hold unescaped; there is a tag
//! or a digest. With both, the digest decides what is fetched, and the tag is only kept.
//! Never looks anything up: other meanings of short names come from registry configuration.
//!
//! Grammar: the OCI distribution spec ("Pulling manifests", `<name>` and `<reference>`) and distribution's reference package.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::digest::{Digest, is_lower_hex};
use crate::text::excerpt;

#[cfg(test)]
mod tests;

/// Host of references without a host.
pub(crate) const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an image reference: {rule}")]
pub struct ReferenceError {
    text: String,
    rule: Rule,
}

impl ReferenceError {
    pub(crate) fn new(text: &str, rule: Rule) -> Self {
        Self {
            text: excerpt(text.as_bytes()),
            rule,
        }
    }
}

/// The rule that a text breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rule {
    #[error("the name is empty")]
    Empty,
    #[error("host and repository together are longer than {MAX_NAME} characters")]
    TooLong,
    #[error("the repository must be lower case")]
    UpperCase,
    #[error("the repository may hold a-z and 0-9, separated by '/', '.', '-', '_' or '__'")]
    Repository,
    #[error("the registry host is not a DNS name or address with an optional port")]
    Host,
    #[error(
        "the tag must be 1 to {MAX_TAG} characters of A-Z, a-z, 0-9, '_', '.', '-' and not begin with '.' or '-'"
    )]
    Tag,
    #[error("what follows '@' is not a sha256 or sha512 digest")]
    Digest,
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
    /// Whether `text` has no host, so that configuration decides which one is meant.
    pub fn is_short(text: &str) -> bool {
        names_host(text).is_none()
    }

    /// Splits `text` into the name, and tag and digest with their separators.
    pub(crate) fn split_name(text: &str) -> (&str, &str) {
        let name = text.split_once('@').map_or(text, |(name, _)| name);
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let end = name
            .get(last..)
            .and_then(|rest| rest.find(':'))
            .map_or(name.len(), |colon| last + colon);
        text.split_at_checked(end).unwrap_or((text, ""))
    }

    /// The registry as the reference names it (`docker.io`, `localhost:5000`), not the address that serves it.
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

    /// The digest; decides what is fetched even if there is a tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `host/repository`, the prefix of repoTags and repoDigests.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The last part of `/manifests/…` in a request: the digest, else the tag.
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
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|rule| ReferenceError::new(text, rule))
    }
}

fn parse(text: &str) -> Result<Reference, Rule> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|_| Rule::Digest)?)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the host's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if name.is_empty() {
        return Err(Rule::Empty);
    }
    let id = |hex: &str| hex.len() == 64 && is_lower_hex(hex);
    if id(name) || (name == "sha256" && tag.is_some_and(id)) {
        return Err(Rule::ImageId);
    }
    let (host, repository) = split_host(name);
    check_host(host)?;
    let repository = match (host, repository.contains('/')) {
        (DEFAULT_HOST, false) => format!("library/{repository}"),
        _ => repository.to_owned(),
    };
    check_repository(&repository)?;
    if host.len() + 1 + repository.len() > MAX_NAME {
        return Err(Rule::TooLong);
    }
    let tag = match tag {
        Some(tag) if is_tag(tag) => Some(tag.to_owned()),
        Some(_) => return Err(Rule::Tag),
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

fn check_host(host: &str) -> Result<(), Rule> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<Ipv6Addr>().map_err(|_| Rule::Host)?;
            match port {
                "" => return Ok(()),
                _ => ("ipv6", port.strip_prefix(':').ok_or(Rule::Host)?),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, port),
            None => (host, "1"),
        },
    };
    // `u16::from_str` alone would let "+80" pass.
    if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return Err(Rule::Host);
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
        Err(Rule::Host)
    }
}

fn check_repository(repository: &str) -> Result<(), Rule> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Rule::UpperCase);
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err(Rule::Repository)
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
