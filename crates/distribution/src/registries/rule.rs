//! One `[[registry]]` table: the names it applies to, and their mirrors.

use std::path::PathBuf;

use crate::error::Error;
use crate::reference::Reference;

/// The pulls for which a mirror is asked (`pull-from-mirror`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PullFrom {
    /// `all`.
    All,
    /// `digest-only`: references with a digest.
    DigestOnly,
    /// `tag-only`: references without one.
    TagOnly,
}

/// A `[[registry.mirror]]` table.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) pull: PullFrom,
}

impl Mirror {
    /// Whether the mirror serves pulls of the user's reference. Blobs and child manifests follow it, although they have digests.
    pub(super) fn serves(&self, reference: &Reference) -> bool {
        match self.pull {
            PullFrom::All => true,
            PullFrom::DigestOnly => reference.digest().is_some(),
            PullFrom::TagOnly => reference.digest().is_none(),
        }
    }
}

/// A `[[registry]]` table.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) file: PathBuf,
    pub(super) prefix: String,
    /// `None` if the name is not rewritten.
    pub(super) location: Option<String>,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
}

impl Rule {
    /// Where the prefix ends in `name`, if it begins with it.
    pub(super) fn matches(&self, name: &str) -> Option<usize> {
        let end = match self.prefix.strip_prefix('*') {
            // The host must end with `.example.com`, after any number of labels.
            Some(domain) => {
                let host = name.split('/').next().unwrap_or(name);
                let bare = host.split(':').next().unwrap_or(host);
                (bare.len() > domain.len() && bare.ends_with(domain)).then_some(bare.len())?
            }
            None => name.starts_with(&self.prefix).then_some(self.prefix.len())?,
        };
        let rest = name.get(end..)?;
        (rest.is_empty() || rest.starts_with([':', '/', '@'])).then_some(end)
    }

    /// `reference` with its first `end` characters replaced by `location`.
    pub(super) fn rewrite(
        &self,
        reference: &Reference,
        end: usize,
        location: Option<&str>,
    ) -> Result<Reference, Error> {
        let Some(location) = location else {
            return Ok(reference.clone());
        };
        let name = spelled(reference);
        let text = format!("{location}{}", name.get(end..).unwrap_or_default());
        let invalid = || Error::ConfigValue {
            path: self.file.clone(),
            key: format!("registry \"{}\", location", self.prefix),
            value: location.to_owned(),
            reason: "does not make a repository on a host of this name",
        };
        let rewritten: Reference = text.parse().map_err(|_| invalid())?;
        // A location without a dot or port would be taken for a repository of the default host.
        if Reference::is_short(&text) {
            return Err(invalid());
        }
        Ok(rewritten)
    }
}

/// The reference in the form that prefixes are compared with: with a digest the tag is left out.
pub(super) fn spelled(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{}@{digest}", reference.name()),
        (None, Some(tag)) => format!("{}:{tag}", reference.name()),
        (None, None) => reference.name(),
    }
}
