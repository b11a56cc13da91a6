//! containerd's content store: names in a bbolt database, blobs by digest.
//!
//! The database is never locked. containerd may run: a copy counts if no transaction ended while it was made.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use pausa_bolt::{Bucket, Db};
use pausa_distribution::{Descriptor, Digest};

use super::beneath::Dir;
use super::{DOCUMENT_MAX, Layer, Named, Parts};

const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
const BLOBS: &str = "io.containerd.content.v1.content/blobs";
/// Largest database.
const DATABASE_MAX: u64 = 1 << 30;
/// How often the database is copied again because it has changed meanwhile.
const TRIES: usize = 10;
/// Most names.
const NAMES_MAX: usize = 100_000;

#[derive(Debug)]
pub(in super::super) struct Containerd {
    root: Dir,
    namespace: String,
}

impl Containerd {
    /// The store in containerd's `root`.
    pub(super) fn open(root: &Path, namespace: &str) -> anyhow::Result<Self> {
        Ok(Self {
            root: Dir::open(root)?,
            namespace: namespace.to_owned(),
        })
    }

    /// A copy of the database that is one transaction's.
    fn database(&self) -> anyhow::Result<Vec<u8>> {
        for _ in 0..TRIES {
            let bytes = self.root.read(DATABASE, DATABASE_MAX)?;
            let after = self.root.read(DATABASE, DATABASE_MAX)?;
            let transaction = |bytes: &[u8]| Db::open(bytes).map(|db| db.transaction());
            if let (Ok(before), Ok(after)) = (transaction(&bytes), transaction(&after))
                && before == after
            {
                return Ok(bytes);
            }
        }
        anyhow::bail!(
            "{} has no valid copy: stop containerd, which changes it, and run the command again",
            self.root.path().join(DATABASE).display()
        )
    }

    pub(super) fn images(&self) -> anyhow::Result<Vec<Named>> {
        let database = self.database()?;
        let damaged = || format!("cannot read {}", self.root.path().join(DATABASE).display());
        let db = Db::open(&database).with_context(damaged)?;
        let mut images = db.root();
        for name in ["v1", &self.namespace, "images"] {
            match images.bucket(name.as_bytes()).with_context(damaged)? {
                Some(bucket) => images = bucket,
                None => return Ok(Vec::new()),
            }
        }
        // By what the names stand for: it is read and sent once.
        let mut targets: BTreeMap<String, (Vec<String>, anyhow::Result<Descriptor>)> = BTreeMap::new();
        for (count, entry) in images.iter().enumerate() {
            anyhow::ensure!(
                count < NAMES_MAX,
                "{} has too many images",
                self.root.path().display()
            );
            let (name, value) = entry.with_context(damaged)?;
            let name = String::from_utf8_lossy(name).into_owned();
            let pausa_bolt::Value::Bucket(image) = value else {
                continue;
            };
            // CRI's names for ids.
            if name.starts_with("sha256:") {
                continue;
            }
            let target = target(&image);
            let key = match &target {
                Ok(target) => target.digest.to_string(),
                Err(_) => name.clone(),
            };
            targets
                .entry(key)
                .or_insert_with(|| (Vec::new(), target))
                .0
                .push(name);
        }
        let named = |(names, target): (Vec<String>, anyhow::Result<Descriptor>)| Named {
            names,
            found: target.and_then(|target| self.parts(target)),
        };
        Ok(targets.into_values().map(named).collect())
    }

    fn parts(&self, target: Descriptor) -> anyhow::Result<Parts> {
        let read = |digest: &Digest| self.root.read(blob(digest), DOCUMENT_MAX);
        let (mut parts, layers, _) = Parts::read(target, read)?;
        for layer in layers {
            let (_, size) = self.root.file(blob(&layer.digest)).with_context(|| {
                format!(
                    "the layer {} is not in the content store, as with discard_unpacked_layers",
                    layer.digest
                )
            })?;
            parts.layers.push(Layer {
                digest: layer.digest,
                size,
                rebuilt: None,
            });
        }
        Ok(parts)
    }

    pub(super) fn blob(&self, digest: &Digest) -> anyhow::Result<File> {
        Ok(self.root.file(blob(digest))?.0)
    }
}

fn blob(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The descriptor of an image.
fn target(image: &Bucket<'_>) -> anyhow::Result<Descriptor> {
    let target = image
        .bucket(b"target")?
        .context("it has no target in the database")?;
    let text = |key: &str| -> anyhow::Result<String> {
        let bytes = target.bytes(key.as_bytes())?;
        let bytes = bytes.with_context(|| format!("its target has no {key} in the database"))?;
        Ok(String::from_utf8(bytes.to_vec())?)
    };
    let size = target.bytes(b"size")?.and_then(varint).unwrap_or(0);
    Ok(Descriptor {
        media_type: text("mediatype")?,
        digest: text("digest")?.parse()?,
        size,
        urls: Vec::new(),
        platform: None,
        annotations: BTreeMap::new(),
    })
}

/// A number as Go's binary.PutVarint writes it.
fn varint(bytes: &[u8]) -> Option<u64> {
    let mut sum: u64 = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        let shift = u32::try_from(at).ok()? * 7;
        sum |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            // Zigzag; a size is not negative.
            return (sum & 1 == 0).then_some(sum >> 1);
        }
    }
    None
}
