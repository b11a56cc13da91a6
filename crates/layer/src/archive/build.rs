//! From one header block, and what pax said about it, to the fields of an entry.

use tar::{GnuHeader, Header};

use crate::entry::{Kind, Metadata};
use crate::error::EntryPath;
use crate::pax::Pax;
use crate::stream::BLOCK;
use crate::{Error, number};

/// A header block with a correct checksum.
pub(crate) struct RawHeader {
    block: [u8; BLOCK],
}

impl RawHeader {
    /// `None` if the checksum is wrong.
    pub(super) fn new(block: [u8; BLOCK]) -> Option<Self> {
        let header = Self { block };
        let written = number::field(&header.tar().as_old().cksum)?;
        // Old writers summed up signed bytes.
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        (written == unsigned || written == signed).then_some(header)
    }

    fn tar(&self) -> &Header {
        Header::from_byte_slice(&self.block)
    }

    pub(super) fn as_gnu(&self) -> Option<&GnuHeader> {
        self.tar().as_gnu()
    }

    pub(super) fn kind(&self) -> u8 {
        self.tar().as_old().linkflag[0]
    }

    pub(super) fn size(&self) -> &[u8] {
        &self.tar().as_old().size
    }

    pub(super) fn path(&self) -> Vec<u8> {
        self.tar().path_bytes().into_owned()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        let field = &self.tar().as_old().linkname;
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        field[..end].to_vec()
    }

    pub(super) fn entry_kind(&self, path: &[u8]) -> Result<Kind, Error> {
        Ok(match self.kind() {
            // Before POSIX, a directory was a file whose name ends in a slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            // POSIX: contiguous files ('7') may be treated as regular ones.
            0 | b'0' | b'7' | b'S' => Kind::Regular,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => {
                let (major, minor) = self.device(path)?;
                Kind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = self.device(path)?;
                Kind::BlockDevice { major, minor }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            kind => {
                return Err(Error::Unsupported {
                    path: EntryPath::new(path),
                    kind,
                });
            }
        })
    }

    fn device(&self, path: &[u8]) -> Result<(u32, u32), Error> {
        let tar = self.tar();
        let (major, minor) = if let Some(ustar) = tar.as_ustar() {
            (&ustar.dev_major, &ustar.dev_minor)
        } else if let Some(gnu) = tar.as_gnu() {
            (&gnu.dev_major, &gnu.dev_minor)
        } else {
            return Ok((0, 0));
        };
        let number = |field, name| {
            let value = number::unsigned(field).and_then(|value| u32::try_from(value).ok());
            value.ok_or_else(|| Error::field(path, name))
        };
        Ok((number(major, "devmajor")?, number(minor, "devminor")?))
    }
}

/// Owner, mode, time and attributes, pax before header.
pub(super) fn metadata(header: &RawHeader, pax: &mut Pax, path: &[u8]) -> Result<Metadata, Error> {
    let old = header.tar().as_old();
    let mode = number::unsigned(&old.mode).ok_or_else(|| Error::field(path, "mode"))? & 0o7777;
    let mtime = match pax.mtime {
        Some(time) => time,
        None => (
            number::field(&old.mtime).ok_or_else(|| Error::field(path, "mtime"))?,
            0,
        ),
    };
    Ok(Metadata {
        mode: u32::try_from(mode).expect("masked to twelve bits"),
        uid: id(pax.uid, &old.uid).ok_or_else(|| Error::field(path, "uid"))?,
        gid: id(pax.gid, &old.gid).ok_or_else(|| Error::field(path, "gid"))?,
        mtime,
        xattrs: std::mem::take(&mut pax.xattrs),
    })
}

/// The highest id means "no change" to chown, so no file can belong to it.
fn id(pax: Option<u64>, field: &[u8]) -> Option<u32> {
    let value = match pax {
        Some(value) => value,
        None => number::unsigned(field)?,
    };
    u32::try_from(value).ok().filter(|id| *id != u32::MAX)
}
