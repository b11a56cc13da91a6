//! Manifests and indexes (OCI image spec manifest.md, image-index.md; Docker image manifest v2, schema 2), read strictly.
//!
//! A document that could be read as two kinds at once is refused (CVE-2021-41190), as is schema 1. Nothing here touches the
//! network, and nothing is serialised: documents are kept as received.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::Error;
use crate::platform::Platform;

#[cfg(test)]
mod tests;

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker manifest list.
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, schema 2.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The `Accept` header of manifest requests.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Points at content by digest, size and media type (descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Other locations of the content ("foreign layers"); never followed.
    #[serde(default)]
    pub urls: Vec<String>,
    /// In an index: the manifest's platform.
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The manifest of one image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Manifest {
    /// The image config, or an artifact's own config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Set for artifacts that are not images.
    #[serde(default)]
    pub artifact_type: Option<String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// An image index or manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Index {
    /// The manifests to choose from.
    pub manifests: Vec<Descriptor>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The manifest for `wanted`. An entry without a platform is taken only if it is the only one.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, Error> {
        let images: Vec<&Descriptor> = self.manifests.iter().filter(|d| !is_attestation(d)).collect();
        if let [only] = images.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let offered: Vec<(&Descriptor, &Platform)> = images
            .iter()
            .filter_map(|d| Some((*d, d.platform.as_ref()?)))
            .collect();
        match wanted
            .best(offered.iter().map(|(_, platform)| *platform))
            .and_then(|at| offered.get(at))
        {
            Some((descriptor, _)) => Ok(descriptor),
            None => Err(Error::Platform {
                wanted: crate::text::excerpt(wanted.to_string().as_bytes()),
                available: available(&offered),
            }),
        }
    }
}

fn available(offered: &[(&Descriptor, &Platform)]) -> String {
    let names: Vec<String> = offered
        .iter()
        .take(20)
        .map(|(_, platform)| platform.to_string())
        .collect();
    if names.is_empty() {
        "no platform at all".to_owned()
    } else {
        crate::text::excerpt(names.join(", ").as_bytes())
    }
}

/// BuildKit keeps provenance and SBOMs beside the images.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor
        .annotations
        .get("vnd.docker.reference.type")
        .is_some_and(|kind| kind == "attestation-manifest")
        || descriptor
            .platform
            .as_ref()
            .is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A manifest of one image.
    Manifest(Manifest),
    /// Several images to choose from.
    Index(Index),
}

impl Document {
    /// Parses `bytes`, which hash to `digest` and came with `content_type`. Also returns the media type.
    ///
    /// # Errors
    /// If the document is malformed, ambiguous or of an unsupported kind.
    pub fn parse(bytes: &[u8], content_type: Option<&str>, digest: &Digest) -> Result<(Self, String), Error> {
        let invalid = |reason| Error::Document {
            digest: digest.clone(),
            reason,
        };
        let probe: Probe =
            serde_json::from_slice(bytes).map_err(|_| invalid("it is not a JSON object of that kind"))?;
        let media_type = probe.media_type(content_type).ok_or_else(|| {
            invalid("neither its media type nor its fields say whether it is a manifest or an index")
        })?;
        if probe.schema_version == Some(1)
            || media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
        {
            return Err(Error::Unsupported {
                what: "the image format Docker schema 1".to_owned(),
                advice: "push the image again with a current tool; it was deprecated in 2017",
            });
        }
        if probe.manifests.is_some() && (probe.layers.is_some() || probe.config.is_some()) {
            return Err(invalid(
                "it has both manifests and layers, so tools would disagree on what it is",
            ));
        }
        let document = match media_type.as_str() {
            OCI_INDEX | DOCKER_LIST => Self::Index(
                serde_json::from_slice(bytes).map_err(|_| invalid("its fields are not those of an index"))?,
            ),
            OCI_MANIFEST | DOCKER_MANIFEST => Self::Manifest(
                serde_json::from_slice(bytes)
                    .map_err(|_| invalid("its fields are not those of a manifest"))?,
            ),
            other => {
                return Err(Error::Unsupported {
                    what: format!("the manifest type {}", crate::text::excerpt(other.as_bytes())),
                    advice: "images must be OCI or Docker schema 2 manifests or indexes",
                });
            }
        };
        Ok((document, media_type))
    }
}

/// The fields that identify the kind of a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Probe {
    /// The document's own media type is preferred: it is covered by the digest, the header is not.
    fn media_type(&self, content_type: Option<&str>) -> Option<String> {
        if let Some(own) = self.media_type.as_deref().filter(|own| !own.is_empty()) {
            return Some(own.to_owned());
        }
        let header = content_type.map(|c| c.split(';').next().unwrap_or(c).trim().to_ascii_lowercase());
        match header {
            Some(header) if header.contains("manifest") || header.contains("index") => Some(header),
            _ if self.manifests.is_some() => Some(OCI_INDEX.to_owned()),
            _ if self.layers.is_some() => Some(OCI_MANIFEST.to_owned()),
            _ => None,
        }
    }
}
