//! Images from archives: OCI layouts (image-layout.md) and archives of `docker save` (`manifest.json`).
//!
//! The archive is spooled, because its index may come last. Then its layers are unpacked as those of a pull.
//! The contents of an OCI layout are verified by digest; the layers of a docker-save archive can be compared
//! only with the config's diff ids. A layer that an OCI layout lacks may be there without compression, under its diff id.

use pausa_distribution::{Descriptor, Digest, Document, Index, Manifest, OCI_INDEX, Platform, Reference};
use serde::Deserialize;

use super::spool::{Spool, blob_name, unusable};
use crate::image::error::ImageError;
use crate::image::pull::fetch::Origin;
use crate::image::pull::media_types::check_media_types;
use crate::image::store::content::{CONFIG_MAX, ImageConfig};
use crate::image::store::index::{digest_name, tag_name};
use crate::image::store::metadata::StoredDocument;

/// Largest manifest or index.
const MANIFEST_MAX: usize = 4 << 20;
/// Most images in one archive.
const IMAGES_MAX: usize = 1000;
/// Most indexes between the archive's index and a manifest.
const NESTING_MAX: usize = 3;
/// Annotations that name an image in an OCI layout, the preferred one first.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportedImage {
    /// `sha256:` and 64 hex digits.
    pub(crate) id: String,
    /// Its names in the archive, normalised.
    pub(crate) names: Vec<String>,
}

pub(crate) struct ImportPlan {
    pub(crate) config: ImageConfig,
    pub(crate) config_bytes: Vec<u8>,
    /// In the order of the config's diff ids.
    pub(crate) origins: Vec<Origin>,
    pub(crate) manifests: Vec<StoredDocument>,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
}

/// The images for `platform` in an archive.
pub(crate) fn plan(spool: &Spool, platform: &Platform) -> Result<Vec<ImportPlan>, ImageError> {
    let plans = if spool.has("index.json") {
        oci(spool, platform)?
    } else if spool.has("manifest.json") {
        docker(spool)?
    } else {
        return Err(unusable(
            "index.json",
            "is missing, and so is manifest.json: this is not an image archive",
        ));
    };
    if plans.is_empty() {
        return Err(unusable("index.json", "has no image for this node's platform"));
    }
    Ok(plans)
}

fn oci(spool: &Spool, platform: &Platform) -> Result<Vec<ImportPlan>, ImageError> {
    let bytes = spool.read_small("index.json", MANIFEST_MAX)?;
    let index = match parse(&bytes, Some(OCI_INDEX), &Digest::sha256(&bytes))? {
        Document::Index(index) => index,
        Document::Manifest(_) => return Err(unusable("index.json", "is not an index")),
    };
    check_count(index.manifests.len())?;
    let mut plans = Vec::new();
    for top in &index.manifests {
        let fits = |wanted: &Platform| platform.best(std::iter::once(wanted)).is_some();
        if top.platform.as_ref().is_none_or(fits) {
            plans.push(oci_image(spool, top, platform)?);
        }
    }
    Ok(plans)
}

fn oci_image(spool: &Spool, top: &Descriptor, platform: &Platform) -> Result<ImportPlan, ImageError> {
    let mut manifests = Vec::new();
    let manifest = descend(spool, top, platform, &mut manifests)?;
    check_media_types(&manifest)?;
    let config_bytes = spool.read_blob(&manifest.config.digest, CONFIG_MAX)?;
    let config = ImageConfig::parse(&config_bytes, manifest.config.digest)?;
    let origins: Result<Vec<Origin>, ImageError> = manifest
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| {
            // Stores without compressed layers can still keep the manifest: the config vouches for the archive itself.
            let plain = config.diff_ids.get(at);
            let plain = plain.and_then(|hex| format!("sha256:{hex}").parse().ok());
            let plain = plain.filter(|digest| spool.has(&blob_name(digest)));
            let digest = match plain {
                Some(plain) if !spool.has(&blob_name(&layer.digest)) => plain,
                _ => layer.digest.clone(),
            };
            let path = spool.file(&blob_name(&digest))?;
            Ok(Origin::File(path.to_owned(), Some(digest)))
        })
        .collect();
    let reference = name_of(top);
    Ok(ImportPlan {
        config,
        config_bytes,
        origins: origins?,
        manifests,
        tags: reference.iter().filter_map(tag_name).collect(),
        digests: reference
            .iter()
            .map(|name| digest_name(name, &top.digest))
            .collect(),
    })
}

/// Follows a descriptor of the archive's index to the manifest for `platform`, and collects the documents on
/// the way.
fn descend(
    spool: &Spool,
    top: &Descriptor,
    platform: &Platform,
    documents: &mut Vec<StoredDocument>,
) -> Result<Manifest, ImageError> {
    let mut at = top.clone();
    for _ in 0..=NESTING_MAX {
        let bytes = spool.read_blob(&at.digest, MANIFEST_MAX)?;
        documents.push(StoredDocument::new(&at.digest, &bytes));
        match parse(&bytes, Some(&at.media_type), &at.digest)? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => at = select(&index, platform)?.clone(),
        }
    }
    Err(unusable(&blob_name(&top.digest), "has too many nested indexes"))
}

fn select<'a>(index: &'a Index, platform: &Platform) -> Result<&'a Descriptor, ImageError> {
    index.select(platform).map_err(in_archive)
}

fn parse(bytes: &[u8], media_type: Option<&str>, digest: &Digest) -> Result<Document, ImageError> {
    Document::parse(bytes, media_type, digest)
        .map(|(document, _)| document)
        .map_err(in_archive)
}

fn in_archive(source: pausa_distribution::Error) -> ImageError {
    ImageError::Fetch {
        reference: "an image from the archive".to_owned(),
        source: Box::new(source),
    }
}

/// The name in an index's annotations. A tag alone is not a name.
fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    NAMES
        .iter()
        .filter_map(|key| descriptor.annotations.get(*key))
        .filter(|name| name.contains(['/', ':']))
        .find_map(|name| name.parse().ok())
}

/// An entry of `manifest.json` from `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn docker(spool: &Spool) -> Result<Vec<ImportPlan>, ImageError> {
    let bytes = spool.read_small("manifest.json", MANIFEST_MAX)?;
    let saved: Vec<Saved> = serde_json::from_slice(&bytes)
        .map_err(|_| unusable("manifest.json", "is not in the format of docker save"))?;
    check_count(saved.len())?;
    saved
        .into_iter()
        .map(|image| docker_image(spool, image))
        .collect()
}

fn docker_image(spool: &Spool, image: Saved) -> Result<ImportPlan, ImageError> {
    let config_bytes = spool.read_small(&image.config, CONFIG_MAX)?;
    let names = image.layers.unwrap_or_default();
    let origins: Result<Vec<Origin>, ImageError> = names
        .iter()
        .map(|name| Ok(Origin::File(spool.file(name)?.to_owned(), None)))
        .collect();
    let tags = image.repo_tags.unwrap_or_default();
    let references = tags.iter().filter_map(|name| name.parse::<Reference>().ok());
    Ok(ImportPlan {
        config: ImageConfig::parse(&config_bytes, Digest::sha256(&config_bytes))?,
        config_bytes,
        origins: origins?,
        manifests: Vec::new(),
        tags: references.filter_map(|name| tag_name(&name)).collect(),
        digests: Vec::new(),
    })
}

fn check_count(images: usize) -> Result<(), ImageError> {
    if images > IMAGES_MAX {
        return Err(unusable("", "has too many images"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
