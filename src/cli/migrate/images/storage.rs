//! containers/storage, which CRI-O, Podman and Buildah use, with the driver overlay: `images.json`, `layers.json`, documents
//! of images as files, unpacked layers with tar-split files.
//!
//! The compressed layers of the manifests do not exist any more. The archives of the layers are rebuilt; the config vouches
//! for them, and the manifest keeps its digest.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pausa_distribution::{Descriptor, Digest, Document};
use serde::Deserialize;

use super::beneath::Dir;
use super::tar_split::Reader;
use super::{DOCUMENT_MAX, Layer, Named, Parts};

const IMAGES: &str = "overlay-images";
const LAYERS: &str = "overlay-layers";
/// Largest list of images or layers.
const LIST_MAX: u64 = 256 << 20;
/// Most layers of an image.
const DEPTH_MAX: usize = 500;

#[derive(Debug)]
pub(in super::super) struct Storage {
    root: Dir,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    id: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    layer: Option<String>,
    #[serde(default)]
    big_data_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StoredLayer {
    id: String,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    diff_digest: Option<String>,
    #[serde(default)]
    diff_size: Option<i64>,
}

impl Storage {
    /// The store in `root` of CRI-O, or `graphroot` of storage.conf(5).
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            root: Dir::open(root)?,
        })
    }

    pub(super) fn images(&self) -> anyhow::Result<Vec<Named>> {
        let images: Vec<Image> = self.list(&format!("{IMAGES}/images.json"))?;
        let layers: Vec<StoredLayer> = self.list(&format!("{LAYERS}/layers.json"))?;
        let layers: HashMap<&str, &StoredLayer> =
            layers.iter().map(|layer| (layer.id.as_str(), layer)).collect();
        let named = |image: Image| {
            let names = image.names.clone().unwrap_or_default();
            // Left over from builds; kubelet knows images by their names.
            (!names.is_empty()).then(|| Named {
                names,
                found: self.parts(&image, &layers),
            })
        };
        Ok(images.into_iter().filter_map(named).collect())
    }

    fn list<T: for<'a> Deserialize<'a>>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        let bytes = self
            .root
            .read(name, LIST_MAX)
            .context("this is not a store of containers/storage with the driver overlay")?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged", self.root.path().join(name).display()))
    }

    fn parts(&self, image: &Image, layers: &HashMap<&str, &StoredLayer>) -> anyhow::Result<Parts> {
        anyhow::ensure!(is_id(&image.id), "its id is not one");
        let data = self.root.dir(format!("{IMAGES}/{}", image.id))?;
        let keys = image.big_data_names.clone().unwrap_or_default();
        let read = |digest: &Digest| {
            let by_digest = [digest.to_string(), format!("manifest-{digest}")];
            let known = by_digest.iter().find(|key| keys.contains(key));
            match known {
                Some(key) => data.read(file_name(key), DOCUMENT_MAX),
                // An image of one manifest only may have it under this name.
                None => data
                    .read("manifest", DOCUMENT_MAX)
                    .with_context(|| format!("{digest} is not in the store")),
            }
        };
        let top = top(image, &keys, &read)?;
        let (mut parts, _, diff_ids) = Parts::read(top, read)?;
        let mut chain = Vec::new();
        let mut next = image.layer.as_deref().filter(|id| !id.is_empty());
        while let Some(id) = next {
            anyhow::ensure!(chain.len() < DEPTH_MAX, "it has too many layers");
            let layer = layers
                .get(id)
                .with_context(|| format!("its layer {id} is not in the store"))?;
            chain.push(*layer);
            next = layer.parent.as_deref().filter(|id| !id.is_empty());
        }
        chain.reverse();
        anyhow::ensure!(
            chain.len() == diff_ids.len(),
            "it has other layers than its config"
        );
        for (layer, diff_id) in chain.iter().zip(diff_ids) {
            anyhow::ensure!(is_id(&layer.id), "the id of a layer is not one");
            anyhow::ensure!(
                layer
                    .diff_digest
                    .as_deref()
                    .is_none_or(|digest| digest == diff_id.to_string()),
                "its layer {} is another one than its config names",
                layer.id
            );
            let size = match layer.diff_size.and_then(|size| u64::try_from(size).ok()) {
                Some(size) if size > 0 => {
                    // It must be there before anything is sent.
                    self.root.file(split(&layer.id))?;
                    size
                }
                _ => std::io::copy(&mut self.layer(&layer.id)?, &mut std::io::sink())?,
            };
            parts.layers.push(Layer {
                digest: diff_id,
                size,
                rebuilt: Some(layer.id.clone()),
            });
        }
        Ok(parts)
    }

    /// The archive of a layer.
    pub(super) fn layer(&self, id: &str) -> anyhow::Result<Box<dyn Read + '_>> {
        let (split, _) = self.root.file(split(id)).with_context(|| {
            format!("the layer {id} cannot be rebuilt: it was pulled in parts, or made by another driver")
        })?;
        let diff = self.root.dir(format!("overlay/{id}/diff"))?;
        Ok(Box::new(Reader::new(split, diff)))
    }
}

fn split(id: &str) -> String {
    format!("{LAYERS}/{id}.tar-split.gz")
}

/// An id is a part of paths.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The file of a document: its key, or `=` and the key in base64 if it has other characters than these.
fn file_name(key: &str) -> String {
    let plain = |c: char| c == '.' || c.is_ascii_digit() || c.is_ascii_lowercase();
    if key.chars().all(plain) {
        return key.to_owned();
    }
    // The alphabet has a slash, which openat2 would take for a directory that does not exist.
    format!("={}", STANDARD.encode(key))
}

/// What the image's names stand for: the index that it was pulled by, if that is there, or its manifest.
fn top(
    image: &Image,
    keys: &[String],
    read: &impl Fn(&Digest) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Descriptor> {
    let digests = keys.iter().filter_map(|key| key.strip_prefix("manifest-"));
    let digests = digests
        .chain(image.digest.as_deref())
        .filter_map(|text| text.parse::<Digest>().ok());
    let mut found = None;
    for digest in digests {
        let Ok(bytes) = read(&digest) else { continue };
        if Digest::of(digest.algorithm(), &bytes) != digest {
            continue;
        }
        let (document, media_type) = Document::parse(&bytes, None, &digest)?;
        let is_index = matches!(document, Document::Index(_));
        let descriptor = Descriptor {
            media_type,
            digest,
            size: u64::try_from(bytes.len())?,
            urls: Vec::new(),
            platform: None,
            annotations: BTreeMap::new(),
        };
        if is_index || found.is_none() {
            found = Some(descriptor);
        }
        if is_index {
            break;
        }
    }
    found.context("its manifest is not in the store")
}
