//! Images from archives: OCI layouts (image-layout.md) and what `docker save` writes (`manifest.json`).
//!
//! The archive is spooled, because its index may come last; then its layers take the way that pulled ones take. What an OCI
//! layout says is verified by digest; a docker-save archive has only the config's diff ids to hold its layers against.

use pausa_distribution::{Descriptor, Digest, Document, Index, Manifest, OCI_INDEX, Platform, Reference};
use serde::Deserialize;
use tokio::io::AsyncRead;

use crate::image::Images;
use crate::image::archive::spool::{Spool, blob_name, unusable};
use crate::image::error::ImageError;
use crate::image::pull::document;
use crate::image::pull::fetch::{Origin, blocking};
use crate::image::pull::media_types::check_media_types;
use crate::image::store::content::{CONFIG_MAX, Config};
use crate::image::store::index::{digest_name, tag_name};
use crate::image::store::metadata::{NewImage, StoredDocument};

/// Largest manifest or index.
const MANIFEST_MAX: usize = 4 << 20;
/// Images in one archive.
const IMAGES_MAX: usize = 1000;
/// How many indexes may stand between the archive's and a manifest.
const NESTING_MAX: usize = 3;
/// Names of images in an OCI layout, the better one first.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image that was in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its id.
    pub id: String,
    /// The names the archive gives it, normalised.
    pub names: Vec<String>,
}

/// What is to be done for one image.
struct Plan {
    config: Config,
    config_bytes: Vec<u8>,
    origins: Vec<Origin>,
    manifests: Vec<StoredDocument>,
    tags: Vec<String>,
    digests: Vec<String>,
}

impl Images {
    /// Imports all images of this node's platform from an archive, which may be compressed with gzip or zstd as a whole.
    ///
    /// # Errors
    /// [`ImageError::ArchiveRead`], [`ImageError::Archive`] and those of [`Images::pull`]. Images imported before the one that failed
    /// stay.
    pub async fn import(&self, reader: impl AsyncRead) -> Result<Vec<Imported>, ImageError> {
        let imported = self.import_all(reader).await;
        // The spooled archive is gone when this returns, and if it failed what was unpacked as well.
        self.settle().await;
        imported
    }

    async fn import_all(&self, reader: impl AsyncRead) -> Result<Vec<Imported>, ImageError> {
        let progress = self.inner.board.list("an archive that is imported".to_owned());
        let disk = self.disk()?;
        let spool = Spool::read(&self.inner.layers, reader).await?;
        let platform = self.inner.config.platform.clone();
        let (_spool, plans) = blocking("reading an image archive", move || {
            let plans = plan(&spool, &platform)?;
            Ok((spool, plans))
        })
        .await?;
        let mut imported: Vec<Imported> = Vec::new();
        for plan in plans {
            let layers = self.layers(&plan.config, plan.origins, &disk, &progress).await?;
            let names = plan.tags.clone();
            let put = NewImage {
                config: plan.config,
                config_bytes: plan.config_bytes,
                layers,
                manifests: plan.manifests,
                tags: plan.tags,
                digests: plan.digests,
            };
            let id = self.commit(put, &disk, &progress).await?;
            match imported.iter_mut().find(|image| image.id == id) {
                Some(image) => image.names.extend(names),
                None => imported.push(Imported { id, names }),
            }
        }
        Ok(imported)
    }
}

fn plan(spool: &Spool, platform: &Platform) -> Result<Vec<Plan>, ImageError> {
    let plans = if spool.has("index.json") {
        oci(spool, platform)?
    } else if spool.has("manifest.json") {
        docker(spool)?
    } else {
        return Err(unusable(
            "index.json",
            "is missing, and so is manifest.json: it is no image archive",
        ));
    };
    if plans.is_empty() {
        return Err(unusable("index.json", "names no image for this node's platform"));
    }
    Ok(plans)
}

fn oci(spool: &Spool, platform: &Platform) -> Result<Vec<Plan>, ImageError> {
    let bytes = spool.small("index.json", MANIFEST_MAX)?;
    let index = match parse(&bytes, Some(OCI_INDEX), &Digest::sha256(&bytes))? {
        Document::Index(index) => index,
        Document::Manifest(_) => return Err(unusable("index.json", "is no index")),
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

fn oci_image(spool: &Spool, top: &Descriptor, platform: &Platform) -> Result<Plan, ImageError> {
    let mut manifests = Vec::new();
    let manifest = descend(spool, top, platform, &mut manifests)?;
    check_media_types(&manifest)?;
    let config_bytes = spool.blob(&manifest.config.digest, CONFIG_MAX)?;
    let origins: Result<Vec<Origin>, ImageError> = manifest
        .layers
        .iter()
        .map(|layer| {
            let path = spool.file(&blob_name(&layer.digest))?;
            Ok(Origin::File(path.to_owned(), Some(layer.digest.clone())))
        })
        .collect();
    let reference = name_of(top);
    Ok(Plan {
        config: Config::parse(&config_bytes, manifest.config.digest)?,
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

/// From a descriptor of the archive's index to the manifest for `platform`; notes what it passes.
fn descend(
    spool: &Spool,
    top: &Descriptor,
    platform: &Platform,
    passed: &mut Vec<StoredDocument>,
) -> Result<Manifest, ImageError> {
    let mut at = top.clone();
    for _ in 0..=NESTING_MAX {
        let bytes = spool.blob(&at.digest, MANIFEST_MAX)?;
        passed.push(document(&at.digest, &bytes));
        match parse(&bytes, Some(&at.media_type), &at.digest)? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => at = select(&index, platform)?.clone(),
        }
    }
    Err(unusable(
        &blob_name(&top.digest),
        "points to indexes too many times",
    ))
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

/// The name in an index's annotations. A tag alone names nothing.
fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    NAMES
        .iter()
        .filter_map(|key| descriptor.annotations.get(*key))
        .filter(|name| name.contains(['/', ':']))
        .find_map(|name| name.parse().ok())
}

/// An entry of docker-save's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn docker(spool: &Spool) -> Result<Vec<Plan>, ImageError> {
    let bytes = spool.small("manifest.json", MANIFEST_MAX)?;
    let saved: Vec<Saved> = serde_json::from_slice(&bytes)
        .map_err(|_| unusable("manifest.json", "is not what docker save writes"))?;
    check_count(saved.len())?;
    saved
        .into_iter()
        .map(|image| docker_image(spool, image))
        .collect()
}

fn docker_image(spool: &Spool, image: Saved) -> Result<Plan, ImageError> {
    let config_bytes = spool.small(&image.config, CONFIG_MAX)?;
    let names = image.layers.unwrap_or_default();
    let origins: Result<Vec<Origin>, ImageError> = names
        .iter()
        .map(|name| Ok(Origin::File(spool.file(name)?.to_owned(), None)))
        .collect();
    let tags = image.repo_tags.unwrap_or_default();
    let references = tags.iter().filter_map(|name| name.parse::<Reference>().ok());
    Ok(Plan {
        config: Config::parse(&config_bytes, Digest::sha256(&config_bytes))?,
        config_bytes,
        origins: origins?,
        manifests: Vec::new(),
        tags: references.filter_map(|name| tag_name(&name)).collect(),
        digests: Vec::new(),
    })
}

fn check_count(images: usize) -> Result<(), ImageError> {
    if images > IMAGES_MAX {
        return Err(unusable("", "names too many images"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
