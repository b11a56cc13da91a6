//! Writes a layer directory as a new archive, the same bytes for the same tree: names in byte order, one way to write every
//! field, pax records only if a header cannot hold the value.
//!
//! The kernel's overlay format is converted to that of image archives: character devices 0:0 to `.wh.NAME`, opaque directories
//! to `.wh..wh..opq` as their first entry. The digest differs from that of the archive the layer came from; if that matters,
//! [`crate::TarSplitReader`] reproduces the original. Nothing is written to the layer, and no link is followed.

mod header;

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat, fstat, lgetxattr, llistxattr, major,
    minor, openat2, readlinkat, seek, statat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::entry::Region;
use crate::metadata::{OPAQUE, is_kept};
use crate::parents::is_whiteout;
use crate::{DiffId, Error, path, tar_split};

use header::{Attribute, Header};

/// What was found out about an archive while it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// Length of the uncompressed archive.
    pub bytes: u64,
}

/// Writes the layer in `dir` as an archive. Blocks.
///
/// # Errors
/// [`Error::Output`] if `out` fails; others if the layer cannot be read.
pub fn pack(dir: BorrowedFd<'_>, out: impl Write) -> Result<Packed, Error> {
    let mut packer = Packer {
        root: dir,
        out: Hashed {
            out,
            digest: Sha256::new(),
            bytes: 0,
        },
        links: HashMap::new(),
    };
    packer.tree()?;
    packer.out.write(&[0; 1024])?;
    packer.out.out.flush().map_err(unwritten)?;
    Ok(Packed {
        diff_id: DiffId::from_bytes(packer.out.digest.finalize().into()),
        bytes: packer.out.bytes,
    })
}

fn unwritten(source: io::Error) -> Error {
    let what = "the archive of a layer";
    Error::Output { what, source }
}

struct Hashed<W> {
    out: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(unwritten)
    }

    fn pad(&mut self) -> Result<(), Error> {
        let odd = usize::try_from(self.bytes % 512).unwrap_or(0);
        if odd > 0 {
            self.write(&[0; 512][odd..])?;
        }
        Ok(())
    }
}

struct Packer<'a, W> {
    root: BorrowedFd<'a>,
    out: Hashed<W>,
    /// The first name of every file with more than one.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// A directory on the way.
struct Level {
    path: Vec<u8>,
    names: std::vec::IntoIter<CString>,
}

impl<W: Write> Packer<'_, W> {
    fn tree(&mut self) -> Result<(), Error> {
        let mut levels = vec![self.directory(Vec::new())?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let parent = level.path.clone();
            if let Some(below) = self.child(&parent, &name)? {
                levels.push(self.directory(below)?);
            }
        }
        Ok(())
    }

    /// Writes a directory's own entry and lists it.
    fn directory(&mut self, path: Vec<u8>) -> Result<Level, Error> {
        let fd = self.open(&path)?;
        let stat = fstat(&fd).map_err(|errno| Error::system(&path, "fstat", errno))?;
        let shown = if path.is_empty() {
            b"./".to_vec()
        } else {
            [path.as_slice(), b"/"].concat()
        };
        let proc = format!("/proc/self/fd/{}/.", fd.as_raw_fd()).into_bytes();
        let attributes = attributes(&proc, &path)?;
        let mut header = Header::new(b'5', shown, &stat);
        header.attributes(&attributes);
        self.header(&header, 0)?;
        let mut value = [0; 2];
        if lgetxattr(&proc, OPAQUE, &mut value[..]).is_ok_and(|length| value[..length] == *b"y") {
            let marker = Header::plain(path::join(&path, b".wh..wh..opq"));
            self.header(&marker, 0)?;
        }
        let mut names = Vec::new();
        for entry in Dir::new(fd).map_err(|errno| Error::system(&path, "getdents64", errno))? {
            let entry = entry.map_err(|errno| Error::system(&path, "getdents64", errno))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort();
        Ok(Level {
            path,
            names: names.into_iter(),
        })
    }

    /// Writes a child that is not a directory; returns the path of one that is.
    fn child(&mut self, parent: &[u8], name: &CString) -> Result<Option<Vec<u8>>, Error> {
        let path = path::join(parent, name.to_bytes());
        let at = self.open(parent)?;
        let stat = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| Error::system(&path, "fstatat(AT_SYMLINK_NOFOLLOW)", errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return Ok(Some(path));
        }
        if is_whiteout(&stat) {
            let hidden = [b".wh.", name.to_bytes()].concat();
            self.header(&Header::plain(path::join(parent, &hidden)), 0)?;
            return Ok(None);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let mut header = Header::new(b'1', path, &stat);
                header.link(first.clone());
                self.header(&header, 0)?;
                return Ok(None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        let proc = [
            format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(),
            name.to_bytes(),
        ]
        .concat();
        let attributes = attributes(&proc, &path)?;
        let mut header = Header::new(type_flag(kind), path.clone(), &stat);
        header.attributes(&attributes);
        match kind {
            FileType::RegularFile => return self.file(header, &path, &stat).map(|()| None),
            FileType::Symlink => {
                let target = readlinkat(&at, name, Vec::new())
                    .map_err(|errno| Error::system(&path, "readlinkat", errno))?;
                header.link(target.into_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                header.device(major(stat.st_rdev), minor(stat.st_rdev));
            }
            FileType::Fifo => {}
            // Archives hold no sockets, so none was unpacked.
            _ => return Ok(None),
        }
        self.header(&header, 0)?;
        Ok(None)
    }

    fn file(&mut self, mut header: Header, path: &[u8], stat: &Stat) -> Result<(), Error> {
        let file: File = tar_split::open_file(self.root, path)?.into();
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let occupied = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        let holes = if occupied < size {
            regions(&file, path, size)?
        } else {
            None
        };
        let Some(regions) = holes else {
            self.header(&header, size)?;
            self.copy(
                &file,
                path,
                Region {
                    offset: 0,
                    length: size,
                },
            )?;
            return self.out.pad();
        };
        let map = header.sparse(path, size, &regions);
        let stored: u64 = regions.iter().map(|region| region.length).sum();
        self.header(&header, map.len() as u64 + stored)?;
        self.out.write(&map)?;
        for region in regions {
            self.copy(&file, path, region)?;
        }
        self.out.pad()
    }

    fn copy(&mut self, file: &File, path: &[u8], region: Region) -> Result<(), Error> {
        let (mut offset, end) = (region.offset, region.offset + region.length);
        let mut buffer = vec![0; 64 << 10];
        while offset < end {
            let wanted = usize::try_from(end - offset)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let read = match file.read_at(&mut buffer[..wanted], offset) {
                Ok(0) => return Err(Error::damaged(path, "is shorter than it was")),
                Ok(read) => read,
                Err(error) => {
                    let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
                    return Err(Error::system(path, "pread", errno));
                }
            };
            self.out.write(&buffer[..read])?;
            offset += read as u64;
        }
        Ok(())
    }

    fn header(&mut self, header: &Header, size: u64) -> Result<(), Error> {
        let blocks = header.encode(size);
        self.out.write(&blocks)
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        let name = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(self.root.as_fd(), name, flags, Mode::empty(), resolve)
            .map_err(|errno| Error::system(path, "openat2(O_DIRECTORY, RESOLVE_NO_SYMLINKS)", errno))
    }
}

fn type_flag(kind: FileType) -> u8 {
    match kind {
        FileType::Symlink => b'2',
        FileType::CharacterDevice => b'3',
        FileType::BlockDevice => b'4',
        FileType::Fifo => b'6',
        _ => b'0',
    }
}

/// The attributes of the image, by name, without the host's labels.
fn attributes(proc: &[u8], path: &[u8]) -> Result<Vec<Attribute>, Error> {
    let mut names = vec![0; 64 << 10];
    let length = match llistxattr(proc, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(Error::system(path, "llistxattr", errno)),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name == b"security.selinux" || !is_kept(name) {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length =
            lgetxattr(proc, name, &mut value[..]).map_err(|errno| Error::system(path, "lgetxattr", errno))?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// The data regions of a file; `None` if it has no holes after all.
fn regions(file: &File, path: &[u8], size: u64) -> Result<Option<Vec<Region>>, Error> {
    let mut regions = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match seek(file, SeekFrom::Data(at)) {
            Ok(offset) => offset.min(size),
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(Error::system(path, "lseek(SEEK_DATA)", errno)),
        };
        let end = seek(file, SeekFrom::Hole(offset))
            .map_err(|errno| Error::system(path, "lseek(SEEK_HOLE)", errno))?
            .min(size);
        if end > offset {
            let length = end - offset;
            regions.push(Region { offset, length });
        }
        at = end.max(offset + 1);
    }
    let whole = regions.iter().map(|region| region.length).sum::<u64>() == size;
    Ok((!whole).then_some(regions))
}

#[cfg(test)]
mod tests;
