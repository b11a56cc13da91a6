//! How commands show images: one JSON form for all, and filters by name.

use pausa_distribution::{ImageId, Reference};
use serde::Serialize;

use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::glob;
use crate::proto::v1;

/// IMAGE in the JSON documents (`docs/operations.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct ImageView {
    /// `sha256:` and 64 hex digits.
    pub(super) id: String,
    /// `name:tag`.
    pub(super) repo_tags: Vec<String>,
    /// `name@digest`.
    pub(super) repo_digests: Vec<String>,
    /// Bytes on disk.
    pub(super) size: u64,
    pub(super) pinned: bool,
    /// The user that the image's processes run as unless the pod specifies another one: a number or a name, as in the image.
    pub(super) user: String,
}

impl From<v1::Image> for ImageView {
    fn from(image: v1::Image) -> Self {
        let uid = || {
            image
                .uid
                .map_or_else(|| "0".to_owned(), |uid| uid.value.to_string())
        };
        Self {
            user: match image.username.is_empty() {
                true => uid(),
                false => image.username.clone(),
            },
            id: image.id,
            repo_tags: image.repo_tags,
            repo_digests: image.repo_digests,
            size: image.size,
            pinned: image.pinned,
        }
    }
}

impl ImageView {
    /// Its tags, or its digests if it has no tag.
    pub(super) fn names(&self) -> &[String] {
        if self.repo_tags.is_empty() {
            &self.repo_digests
        } else {
            &self.repo_tags
        }
    }
}

/// Splits `name:tag`. A colon before the last slash belongs to a port.
pub(super) fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// Splits `name@digest`.
pub(super) fn split_digest(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((repository, digest)) => (repository, Some(digest)),
        None => (name, None),
    }
}

/// Selects images by a repository, a name, an id or a prefix of one, or a pattern with `*`.
#[derive(Debug)]
pub(super) struct Filter {
    text: String,
    /// The canonical form of the text, if it is a name.
    canonical: Option<String>,
    /// Its hex digits, if it may be a prefix of an id.
    digits: Option<String>,
}

impl Filter {
    pub(super) fn new(text: &str) -> Self {
        let canonical = text.parse::<Reference>().ok().map(|reference| {
            let tagged = split_tag(text).1.is_some();
            match (reference.digest(), tagged) {
                (Some(digest), _) => format!("{}@{digest}", reference.name()),
                (None, true) => format!("{}:{}", reference.name(), reference.tag().unwrap_or_default()),
                (None, false) => reference.name(),
            }
        });
        let digits = match ImageId::parse(text) {
            Some(ImageId::Full(digest)) => Some(digest.hex().to_owned()),
            Some(ImageId::Prefix(prefix)) => Some(prefix),
            None => None,
        };
        Self {
            text: text.to_owned(),
            canonical,
            digits,
        }
    }

    pub(super) fn matches(&self, image: &ImageView) -> bool {
        let hex = image.id.trim_start_matches("sha256:");
        if self.digits.as_ref().is_some_and(|digits| hex.starts_with(digits)) {
            return true;
        }
        image.repo_tags.iter().chain(&image.repo_digests).any(|name| {
            let repository = split_tag(split_digest(name).0).0;
            if self.text.contains('*') {
                return glob::matches(&self.text, name) || glob::matches(&self.text, repository);
            }
            let is = |wanted: &String| wanted == name || wanted == repository;
            self.canonical.as_ref().is_some_and(is)
        })
    }
}

/// Asks for one image; `None` if it does not exist.
pub(in crate::cli) async fn find(
    daemon: &Daemon,
    name: &str,
    verbose: bool,
) -> Result<Option<(ImageView, v1::ImageStatusResponse)>, CommandError> {
    let request = v1::ImageStatusRequest {
        image: Some(spec(name)),
        verbose,
    };
    let answer = daemon.images().image_status(request).await;
    let mut response = answer.map_err(daemon.failed("ImageStatus"))?.into_inner();
    Ok(response.image.take().map(|image| (image.into(), response)))
}

pub(super) fn spec(name: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: name.to_owned(),
        ..Default::default()
    }
}
