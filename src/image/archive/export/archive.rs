//! The tar of an export: files of known size, the same bytes for the same images.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd as _;

use bytes::Bytes;
use pausa_distribution::{Algorithm, Digest, DigestError, Hasher};
use pausa_layer::{EntryPath, TarSplitReader};
use tokio::sync::mpsc;

use super::unwritten;
use crate::image::archive::spool::blob_name;
use crate::image::error::{ImageError, io_error};
use crate::image::store::files;
use crate::image::store::layout::{Layout, TAR_SPLIT};
use crate::image::store::record::LayerRecord;

/// Bytes that travel together.
const CHUNK: usize = 256 << 10;

/// A layer as it is written.
pub(crate) struct LayerBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// The digest is the layer's diff id.
    pub(crate) exact: bool,
}

/// The archive on its way out.
pub(crate) struct Archive {
    out: BufWriter<Channel>,
}

/// Sends what is written to whoever takes the archive.
struct Channel(mpsc::Sender<Bytes>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Bytes::copy_from_slice(bytes)) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    pub(crate) fn new(chunks: mpsc::Sender<Bytes>) -> Self {
        Self {
            out: BufWriter::with_capacity(CHUNK, Channel(chunks)),
        }
    }

    /// Writes a small file.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.header(name, bytes.len() as u64)?;
        self.out.write_all(bytes).map_err(unwritten)?;
        self.pad(bytes.len() as u64)
    }

    /// Writes a document under its digest, once.
    pub(crate) fn blob(
        &mut self,
        bytes: &[u8],
        written: &mut HashSet<Digest>,
    ) -> Result<(Digest, u64), ImageError> {
        let digest = Digest::sha256(bytes);
        if written.insert(digest.clone()) {
            self.file(&blob_name(&digest), bytes)?;
        }
        Ok((digest, bytes.len() as u64))
    }

    /// Writes a layer that was measured.
    pub(crate) fn layer(
        &mut self,
        layout: &Layout,
        record: &LayerRecord,
        blob: &LayerBlob,
    ) -> Result<(), ImageError> {
        self.header(&blob_name(&blob.digest), blob.size)?;
        let dir = files::open_dir(&layout.layer_fs(&record.diff_id))?;
        let mut out = Hashed {
            out: &mut self.out,
            hasher: Hasher::new(Algorithm::Sha256),
            written: 0,
        };
        if blob.exact {
            replay(&dir, layout, record, &mut out)?;
        } else {
            pausa_layer::pack(dir.as_fd(), &mut out).map_err(unreadable(record))?;
        }
        if out.written != blob.size || out.hasher.finish() != blob.digest {
            return Err(unreadable(record)(pausa_layer::Error::Damaged {
                path: EntryPath::new(&b"."[..]),
                what: "has other contents than when it was unpacked".into(),
            }));
        }
        self.pad(blob.size)
    }

    pub(crate) fn finish(mut self) -> Result<(), ImageError> {
        self.out.write_all(&[0; 1024]).map_err(unwritten)?;
        self.out.flush().map_err(unwritten)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), ImageError> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(unwritten)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(unwritten)
    }

    fn pad(&mut self, size: u64) -> Result<(), ImageError> {
        let odd = usize::try_from(size % 512).unwrap_or(0);
        if odd > 0 {
            self.out.write_all(&[0; 512][odd..]).map_err(unwritten)?;
        }
        Ok(())
    }
}

/// How a layer will be written.
pub(crate) fn measure(layout: &Layout, record: &LayerRecord) -> Result<LayerBlob, ImageError> {
    if record.tree.is_none() && record.archive_bytes > 0 {
        let diff_id = format!("sha256:{}", record.diff_id);
        let digest = diff_id
            .parse()
            .map_err(|source: DigestError| ImageError::Reference {
                reference: diff_id.clone(),
                source: Box::new(source.into()),
            })?;
        return Ok(LayerBlob {
            digest,
            size: record.archive_bytes,
            exact: true,
        });
    }
    let dir = files::open_dir(&layout.layer_fs(&record.diff_id))?;
    let mut out = Hashed {
        out: &mut io::sink(),
        hasher: Hasher::new(Algorithm::Sha256),
        written: 0,
    };
    pausa_layer::pack(dir.as_fd(), &mut out).map_err(unreadable(record))?;
    Ok(LayerBlob {
        size: out.written,
        digest: out.hasher.finish(),
        exact: false,
    })
}

fn replay<W: Write>(
    dir: &File,
    layout: &Layout,
    record: &LayerRecord,
    out: &mut Hashed<'_, W>,
) -> Result<(), ImageError> {
    let path = layout.layer(&record.diff_id).join(TAR_SPLIT);
    let tar_split = File::open(&path).map_err(io_error("open", &path))?;
    // A damaged layer is told from a reader that went away.
    let failed = |error: io::Error| match error.downcast::<pausa_layer::Error>() {
        Ok(damage) => unreadable(record)(damage),
        Err(error) => io_error("read", &path)(error),
    };
    let mut archive = TarSplitReader::new(tar_split, dir.as_fd()).map_err(failed)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match archive.read(&mut buffer).map_err(failed)? {
            0 => return Ok(()),
            read => out.write_all(&buffer[..read]).map_err(unwritten)?,
        }
    }
}

fn unreadable(record: &LayerRecord) -> impl Fn(pausa_layer::Error) -> ImageError {
    let diff_id = format!("sha256:{}", record.diff_id);
    move |source| match source {
        pausa_layer::Error::Output { source, .. } => unwritten(source),
        source => ImageError::Unpack {
            diff_id: diff_id.clone(),
            source: Box::new(source),
        },
    }
}

/// Hashes and counts what is written.
struct Hashed<'o, W> {
    out: &'o mut W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
