//! Everything of an archive but the contents of its files, so that the archive can be reproduced byte for byte from the
//! unpacked directory. The idea is that of vbatts/tar-split, the format is our own.
//!
//! ```text
//!   archive     header │ data of "a" │ padding, header, pax │ data of "b" │ padding, zeros
//!   tar-split   bytes  │ file "a"    │ bytes                │ file "b"    │ bytes, end
//! ```
//!
//! A tar-split file takes a few percent of the headers' size (zstd). It is the store's own file, but disks fail: a tar-split file
//! that cannot be read is damage, never a reason to trust the layer. It works only while every file of the archive is in the
//! directory: an archive whose later entries replaced earlier ones cannot be reproduced
//! ([`crate::Unpacked::reproducible`]).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use zstd::stream::{read::Decoder, write::Encoder};

use crate::Error;
use crate::entry::Region;
use crate::error::EntryPath;

const MAGIC: &[u8] = b"pausa tape 1\n";
const RAW: u8 = 1;
const FILE: u8 = 2;
const END: u8 = 3;
/// Longest run of bytes in one record.
const RUN: usize = 64 << 10;
/// Longest path, and most regions, that are accepted when a tar-split file is read.
const PATH_MAX: usize = 1 << 16;
const REGIONS_MAX: u64 = 1 << 20;

/// Writes the tar-split file of an archive while the archive is read.
pub(crate) struct TarSplitWriter {
    out: Encoder<'static, Box<dyn Write + Send>>,
    run: Vec<u8>,
    /// Bytes to leave out: the content of a file.
    skip: u64,
    failure: Option<io::Error>,
}

impl TarSplitWriter {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> io::Result<Self> {
        let mut out = Encoder::new(out, 1)?;
        out.write_all(MAGIC)?;
        Ok(Self {
            out,
            run: Vec::with_capacity(RUN),
            skip: 0,
            failure: None,
        })
    }

    /// Records bytes of the archive.
    pub(crate) fn record(&mut self, mut bytes: &[u8]) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            let length = bytes.len().min(RUN - self.run.len());
            self.run.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if self.run.len() == RUN {
                self.flush_run();
            }
        }
    }

    /// Records that the next `length` bytes are the content of the file at this physical path.
    pub(crate) fn file(&mut self, physical: &[u8], length: u64, regions: Option<&[Region]>) {
        if length == 0 {
            return;
        }
        self.flush_run();
        self.skip = length;
        let whole = [Region { offset: 0, length }];
        let regions = regions.unwrap_or(&whole);
        let mut record = vec![FILE];
        put_length(&mut record, physical.len());
        record.extend_from_slice(physical);
        put_length(&mut record, regions.len());
        for region in regions {
            record.extend_from_slice(&region.offset.to_le_bytes());
            record.extend_from_slice(&region.length.to_le_bytes());
        }
        self.put(&record);
    }

    /// The first failure to write, if there was one.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.failure.take() {
            Some(source) => Err(unwritten(source)),
            None => Ok(()),
        }
    }

    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.flush_run();
        self.put(&[END]);
        self.check()?;
        let failed = |source| unwritten(source);
        self.out.finish().map_err(failed)?.flush().map_err(failed)
    }

    fn flush_run(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let mut head = vec![RAW];
        put_length(&mut head, self.run.len());
        let run = std::mem::take(&mut self.run);
        self.put(&head);
        self.put(&run);
        self.run = run;
        self.run.clear();
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.failure.is_none()
            && let Err(error) = self.out.write_all(bytes)
        {
            self.failure = Some(error);
        }
    }
}

pub(crate) fn unwritten(source: io::Error) -> Error {
    let what = "the tar-split file of a layer";
    Error::Output { what, source }
}

fn put_length(into: &mut Vec<u8>, length: usize) {
    into.extend_from_slice(&(length as u64).to_le_bytes());
}

/// The record being read.
enum Part {
    Run { left: u64 },
    File(Open),
    End,
}

/// A file of the layer that is being read.
struct Open {
    file: File,
    path: Vec<u8>,
    regions: std::vec::IntoIter<Region>,
    current: Region,
}

/// Reproduces the archive as a stream. Damage ends it with an [`Error::Damaged`] inside the I/O error.
pub struct TarSplitReader<'d, R: Read> {
    root: BorrowedFd<'d>,
    split: Decoder<'static, BufReader<R>>,
    part: Part,
}

impl<R: Read> std::fmt::Debug for TarSplitReader<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarSplitReader").finish_non_exhaustive()
    }
}

impl<'d, R: Read> TarSplitReader<'d, R> {
    /// From a tar-split file and the directory that was unpacked while it was recorded.
    ///
    /// # Errors
    /// If the file cannot be read or is not a tar-split file.
    pub fn new(split: R, root: BorrowedFd<'d>) -> io::Result<Self> {
        let mut split = Decoder::new(split)?;
        let mut magic = [0; MAGIC.len()];
        split.read_exact(&mut magic).map_err(broken)?;
        if magic != MAGIC {
            return Err(damaged(b".", "has a tar-split file of an unknown format"));
        }
        let mut reader = Self {
            root,
            split,
            part: Part::End,
        };
        reader.next()?;
        Ok(reader)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.split.read_exact(&mut bytes).map_err(broken)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn next(&mut self) -> io::Result<()> {
        let mut tag = [0];
        self.split.read_exact(&mut tag).map_err(broken)?;
        self.part = match tag[0] {
            RAW => Part::Run { left: self.number()? },
            FILE => Part::File(self.open()?),
            END => Part::End,
            _ => return Err(damaged(b".", "has a damaged tar-split file")),
        };
        Ok(())
    }

    fn open(&mut self) -> io::Result<Open> {
        let invalid = || damaged(b".", "has a damaged tar-split file");
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > PATH_MAX {
            return Err(invalid());
        }
        let mut path = vec![0; length];
        self.split.read_exact(&mut path).map_err(broken)?;
        let count = self.number()?;
        if count > REGIONS_MAX {
            return Err(invalid());
        }
        let mut regions = Vec::new();
        for _ in 0..count {
            let (offset, length) = (self.number()?, self.number()?);
            offset.checked_add(length).ok_or_else(invalid)?;
            regions.push(Region { offset, length });
        }
        let file = open_file(self.root, &path).map_err(io::Error::other)?;
        Ok(Open {
            file: file.into(),
            path,
            regions: regions.into_iter(),
            current: Region { offset: 0, length: 0 },
        })
    }
}

/// Opens a regular file of a layer by its physical path.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Error> {
    let shown = || EntryPath::new(path);
    let name = CString::new(path).map_err(|_| Error::damaged(path, "has no usable name"))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(root, &name, flags, Mode::empty(), resolve).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Error::damaged(path, "is gone"),
        Errno::LOOP | Errno::NXIO | Errno::NODEV => Error::damaged(path, "is not a regular file any more"),
        errno => Error::System {
            path: shown(),
            call: "openat2(O_RDONLY, RESOLVE_NO_SYMLINKS)".into(),
            source: errno,
        },
    })?;
    let stat = fstat(&file).map_err(|errno| Error::system(path, "fstat", errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::damaged(path, "is not a regular file any more"));
    }
    Ok(file)
}

fn damaged(path: &[u8], what: &'static str) -> io::Error {
    io::Error::other(Error::damaged(path, what))
}

/// The tar-split file itself cannot be read.
fn broken(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => error,
        None => damaged(b".", "has a damaged tar-split file"),
    }
}

impl Open {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.length == 0 {
            match self.regions.next() {
                Some(region) => self.current = region,
                None => return Ok(0),
            }
        }
        let wanted = usize::try_from(self.current.length)
            .unwrap_or(usize::MAX)
            .min(into.len());
        let read = self.file.read_at(&mut into[..wanted], self.current.offset)?;
        if read == 0 {
            return Err(damaged(&self.path, "is shorter than it was"));
        }
        self.current.offset += read as u64;
        self.current.length -= read as u64;
        Ok(read)
    }
}

impl<R: Read> Read for TarSplitReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.part {
                Part::End => return Ok(0),
                Part::Run { left } => {
                    let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(into.len());
                    let read = self.split.read(&mut into[..wanted]).map_err(broken)?;
                    if read == 0 && wanted > 0 {
                        return Err(damaged(b".", "has a tar-split file that ends early"));
                    }
                    *left -= read as u64;
                    read
                }
                Part::File(open) => open.read(into)?,
            };
            if read > 0 {
                return Ok(read);
            }
            self.next()?;
        }
    }
}
