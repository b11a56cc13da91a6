//! The files of an image archive, spooled to `staging/`.
//!
//! No file is extracted under its name in the archive: spooled files are numbered, so no path can lead out of
//! the directory. Only files with names that `docker save` and OCI layouts use are read; all others are
//! skipped. Headers are read raw: extension headers, which could have any length, are skipped as well, and no
//! known name needs them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use pausa_distribution::Digest;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::blocking::blocking;
use crate::image::error::{ImageError, io_error, shortened};
use crate::image::pull::chunk_reader::{Message, chunk_channel};
use crate::image::store::files;
use crate::image::store::layers::Layers;

/// Most files with known names in one archive.
const FILES_MAX: usize = 20_000;
/// Most bytes of all these files.
const BYTES_MAX: u64 = 256 << 30;
/// Most headers of any kind, so that reading an endless archive ends.
const ENTRIES_MAX: usize = 1_000_000;
/// Largest window of a zstd frame, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The files of an archive. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    files: HashMap<String, PathBuf>,
    /// Links by name: older Docker versions store equal layers only once.
    links: HashMap<String, String>,
    layers: Layers,
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.layers.gc().remove_tree(self.dir.clone());
    }
}

impl Spool {
    /// Reads an archive, which may be compressed as a whole, into files below `staging/`.
    pub(crate) async fn read(layers: &Layers, reader: impl AsyncRead) -> Result<Self, ImageError> {
        let (sender, chunks) = chunk_channel::<io::Error>();
        let mut spool = Self {
            dir: layers.layout().staging().join(files::unique("import")),
            files: HashMap::new(),
            links: HashMap::new(),
            layers: layers.clone(),
        };
        let spooled = blocking(move || {
            files::make_dir(&spool.dir, 0o700)?;
            let mut chunks = chunks;
            match spool.fill(&mut chunks) {
                Ok(()) => Ok(spool),
                // The error of the source explains that of the decoder.
                Err(error) => Err(match chunks.failure.take() {
                    Some(source) => ImageError::ArchiveRead { source },
                    None => error,
                }),
            }
        });
        let sending = async move {
            let mut reader = std::pin::pin!(reader);
            loop {
                let mut buffer = BytesMut::with_capacity(64 << 10);
                let message = match reader.read_buf(&mut buffer).await {
                    Ok(0) => Message::End,
                    Ok(_) => Message::Bytes(buffer.freeze()),
                    Err(error) => Message::Failed(error),
                };
                let last = !matches!(message, Message::Bytes(_));
                // If the receiver is gone, reading has failed and says why.
                if sender.send(message).await.is_err() || last {
                    return;
                }
            }
        };
        let ((), spool) = tokio::join!(sending, spooled);
        spool
    }

    fn fill(&mut self, reader: &mut impl Read) -> Result<(), ImageError> {
        let failed = |source| ImageError::ArchiveRead { source };
        let mut archive = tar::Archive::new(decompressed(reader).map_err(failed)?);
        let mut remaining = BYTES_MAX;
        for (at, entry) in archive.entries().map_err(failed)?.raw(true).enumerate() {
            let mut entry = entry.map_err(failed)?;
            let Some(name) = known_name(&entry.path_bytes()) else {
                if at > ENTRIES_MAX {
                    return Err(unusable("", "has too many entries"));
                }
                continue;
            };
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default();
                if let Some(target) = known_name(strip_parents(&target)) {
                    self.links.insert(name.clone(), target);
                }
            } else if kind.is_file() {
                remaining = remaining
                    .checked_sub(entry.size())
                    .ok_or_else(|| unusable(&name, "makes it too large"))?;
                let path = self.dir.join(self.files.len().to_string());
                let mut file = File::create_new(&path).map_err(io_error("open(O_EXCL)", &path))?;
                io::copy(&mut entry, &mut file).map_err(failed)?;
                if self.files.insert(name.clone(), path).is_some() {
                    return Err(unusable(&name, "is in it twice"));
                }
            }
            if self.files.len() + self.links.len() > FILES_MAX {
                return Err(unusable(&name, "exceeds the maximum number of files"));
            }
        }
        Ok(())
    }

    /// The spooled file with this name in the archive.
    pub(crate) fn file(&self, name: &str) -> Result<&Path, ImageError> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let target = self.links.get(name).map_or(name, String::as_str);
        let path = self.files.get(target);
        path.map(PathBuf::as_path)
            .ok_or_else(|| unusable(name, "is missing"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file(name).is_ok()
    }

    /// The content of a file of at most `limit` bytes.
    pub(crate) fn read_small(&self, name: &str, limit: usize) -> Result<Vec<u8>, ImageError> {
        files::read(self.file(name)?, u64::try_from(limit).unwrap_or(u64::MAX))
    }

    /// The content of a blob of an OCI layout, verified.
    pub(crate) fn read_blob(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, ImageError> {
        let name = blob_name(digest);
        let bytes = self.read_small(&name, limit)?;
        if Digest::of(digest.algorithm(), &bytes) == *digest {
            Ok(bytes)
        } else {
            Err(unusable(&name, "does not hash to its name"))
        }
    }
}

/// The name of a blob in an OCI layout.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

pub(crate) fn unusable(name: &str, reason: &'static str) -> ImageError {
    ImageError::Archive {
        name: shortened(name),
        reason,
    }
}

fn decompressed<'a>(reader: &'a mut (impl Read + 'a)) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(128 << 10, reader);
    Ok(match *reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(reader),
    })
}

/// The name, if image archives have files of that name: `X.json`, `X.tar`, `X/layer.tar`,
/// `blobs/ALGORITHM/HEX`.
fn known_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = |part: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        !part.is_empty() && part.bytes().all(allowed)
    };
    let parts: Vec<&str> = name.split('/').collect();
    let fits = match parts.as_slice() {
        [file] => plain(file) && (file.ends_with(".json") || file.ends_with(".tar")),
        [dir, "layer.tar"] => plain(dir),
        ["blobs", algorithm, hex] => format!("{algorithm}:{hex}").parse::<Digest>().is_ok(),
        _ => false,
    };
    fits.then(|| name.to_owned())
}

/// Removes `../` from the target of a link. Links are relative to their directory, which is at most one level
/// deep.
fn strip_parents(mut target: &[u8]) -> &[u8] {
    while let Some(rest) = target.strip_prefix(b"../") {
        target = rest;
    }
    target
}

#[cfg(test)]
mod tests;
