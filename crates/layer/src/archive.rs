//! The archive as a sequence of entries: merges tar headers with their pax and GNU extensions.
//!
//! Headers are taken apart with the `tar` crate; its readers and its `unpack` are not used, because they hold
//! extensions of any size in memory and split pax records at newlines. Where formats contradict each other this reader
//! follows the tools that build and publish images (Go's archive/tar): GNU long names win over pax, pax wins
//! over the header, links, devices and directories have no data whatever their size says, global headers are ignored.
//! Readers that disagree about one byte see different files.

mod build;

use tar::GnuExtSparseHeader;

use crate::entry::{Entry, Kind, Region};
use crate::error::Limit;
use crate::pax::{self, Pax};
use crate::sparse::{self, MapFault, MapReader};
use crate::stream::{BLOCK, Producer, Source, Stream};
use crate::tar_split::TarSplitWriter;
use crate::{Compression, Error, Limits, number};

use build::{RawHeader, metadata};

/// What extension headers said about the entry to come.
#[derive(Default)]
struct Pending {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// Reads entries, and the data of the one read last.
pub(crate) struct Archive<'l, S> {
    stream: Stream<S>,
    limits: &'l Limits,
    entries: u64,
    /// Data of the current entry not yet read.
    left: u64,
    /// Bytes between that data and the next header.
    padding: u64,
}

impl<'l, S: Source> Archive<'l, S> {
    pub(crate) fn new(source: S, limits: &'l Limits) -> Self {
        Self {
            stream: Stream::new(source, limits),
            limits,
            entries: 0,
            left: 0,
            padding: 0,
        }
    }

    /// Records everything read.
    pub(crate) fn record(mut self, tar_split: Option<TarSplitWriter>) -> Self {
        self.stream.tar_split = tar_split;
        self
    }

    /// The data of the current entry is stored in the file at this physical path.
    pub(crate) fn stored_in(&mut self, physical: &[u8], regions: Option<&[Region]>) {
        if let Some(tar_split) = &mut self.stream.tar_split {
            tar_split.file(physical, self.left, regions);
        }
    }

    /// The next entry, or `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(tar_split) = &mut self.stream.tar_split {
            tar_split.check()?;
        }
        let mut pending = Pending::default();
        loop {
            self.leave_body()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Error::limit(
                    Limit::Entries,
                    self.limits.entries,
                    &self.stream.entry,
                ));
            }
            let size = number::unsigned(header.size())
                .ok_or_else(|| self.stream.fault("its size is not a number"))?;
            match header.kind() {
                b'x' => pending.pax = self.pax(size)?,
                b'L' => pending.long_name = Some(self.long_name(size)?),
                b'K' => pending.long_link = Some(self.long_name(size)?),
                b'g' => self.enter_body(size),
                _ => return self.entry(&header, pending, size).map(Some),
            }
        }
    }

    /// Up to `most` bytes of the current entry's data; empty when all of it was consumed.
    pub(crate) fn data(&mut self, most: u64) -> Result<&[u8], Error> {
        let most = usize::try_from(most.min(self.left)).unwrap_or(usize::MAX);
        if most == 0 {
            return Ok(&[]);
        }
        if self.stream.available()?.is_empty() {
            return Err(self.stream.truncated());
        }
        let available = self.stream.available()?;
        Ok(&available[..available.len().min(most)])
    }

    /// Marks `length` bytes of data as used.
    pub(crate) fn consume(&mut self, length: usize) {
        self.stream.consume(length);
        self.left -= length as u64;
    }

    /// Reads to the end of the stream; returns its length and its source.
    pub(crate) fn drain(mut self) -> Result<(u64, S), Error> {
        self.stream.drain()?;
        if let Some(tar_split) = self.stream.tar_split.take() {
            tar_split.finish()?;
        }
        Ok((self.stream.offset(), self.stream.into_source()))
    }

    fn enter_body(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64).wrapping_sub(size);
    }

    fn leave_body(&mut self) -> Result<(), Error> {
        self.stream.skip(self.left)?;
        self.stream.skip(self.padding)?;
        self.enter_body(0);
        Ok(())
    }

    fn header(&mut self) -> Result<Option<RawHeader>, Error> {
        let Some(block) = self.stream.block()? else {
            return Ok(None);
        };
        if is_zero(&block) {
            // Two blocks of zeros end an archive; some writers leave out the second.
            return match self.stream.block()? {
                Some(second) if !is_zero(&second) => Err(self.stream.fault("it follows a block of zeros")),
                _ => Ok(None),
            };
        }
        RawHeader::new(block)
            .map(Some)
            .ok_or_else(|| self.stream.fault("its checksum is wrong"))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > self.limits.extension_bytes {
            return Err(Error::limit(
                Limit::ExtensionBytes,
                self.limits.extension_bytes,
                &self.stream.entry,
            ));
        }
        self.enter_body(size);
        let mut bytes = Vec::new();
        loop {
            let data = self.data(u64::MAX)?;
            if data.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(data);
            let length = data.len();
            self.consume(length);
        }
    }

    fn pax(&mut self, size: u64) -> Result<Pax, Error> {
        let bytes = self.extension(size)?;
        let pax = pax::parse(&bytes).map_err(|field| Error::field(&self.stream.entry, field))?;
        if pax.xattrs.len() > self.limits.xattrs {
            return Err(Error::limit(
                Limit::Xattrs,
                self.limits.xattrs as u64,
                &self.stream.entry,
            ));
        }
        if pax
            .xattrs
            .iter()
            .any(|(_, value)| value.len() > self.limits.xattr_bytes)
        {
            return Err(Error::limit(
                Limit::XattrBytes,
                self.limits.xattr_bytes as u64,
                &self.stream.entry,
            ));
        }
        Ok(pax)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = self.extension(size)?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }

    fn entry(&mut self, header: &RawHeader, pending: Pending, size: u64) -> Result<Entry, Error> {
        let Pending {
            mut pax,
            long_name,
            long_link,
        } = pending;
        let path = long_name
            .or_else(|| pax.sparse.name.take())
            .or_else(|| pax.path.take())
            .unwrap_or_else(|| header.path());
        let link = long_link
            .or_else(|| pax.linkpath.take())
            .unwrap_or_else(|| header.link());
        self.stream.entry.clone_from(&path);
        for name in [&path, &link] {
            if name.len() > self.limits.path_bytes {
                return Err(Error::limit(
                    Limit::PathBytes,
                    self.limits.path_bytes as u64,
                    name,
                ));
            }
        }
        let kind = header.entry_kind(&path)?;
        let stored = pax.size.unwrap_or(size);
        if u64::MAX - stored < BLOCK as u64 {
            return Err(Error::field(&path, "size"));
        }
        let mut entry = Entry {
            metadata: metadata(header, &mut pax, &path)?,
            path,
            link: if matches!(kind, Kind::Symlink | Kind::Hardlink) {
                link
            } else {
                Vec::new()
            },
            kind,
            size: 0,
            regions: None,
        };
        if kind == Kind::Regular {
            self.enter_body(stored);
            entry.size = stored;
            self.sparse(header, pax, &mut entry)?;
        }
        Ok(entry)
    }

    /// Reads the map of a sparse file from its location in the archive.
    fn sparse(&mut self, header: &RawHeader, pax: Pax, entry: &mut Entry) -> Result<(), Error> {
        let (regions, size) = if header.kind() == b'S' {
            let regions = self.old_map(header, &entry.path)?;
            let size = header.as_gnu().and_then(|gnu| number::unsigned(&gnu.realsize));
            (regions, size)
        } else if pax.sparse.major == Some(1) && pax.sparse.minor == Some(0) {
            (self.map(&entry.path)?, pax.sparse.size)
        } else if let Some(regions) = pax.sparse.regions {
            (regions, pax.sparse.size)
        } else if pax.sparse.major.is_some_and(|major| major > 0) {
            return Err(Error::field(&entry.path, "GNU.sparse.major"));
        } else {
            return Ok(());
        };
        if regions.len() > self.limits.sparse_regions {
            return Err(self.too_many_regions(&entry.path));
        }
        let size = size.ok_or_else(|| Error::field(&entry.path, "size of the sparse file"))?;
        if !sparse::check(&regions, size, self.left) {
            return Err(Error::field(&entry.path, "map of the sparse file"));
        }
        entry.size = size;
        entry.regions = Some(regions);
        Ok(())
    }

    fn old_map(&mut self, header: &RawHeader, path: &[u8]) -> Result<Vec<Region>, Error> {
        let fault = || Error::field(path, "map of the sparse file");
        let gnu = header.as_gnu().ok_or_else(fault)?;
        let mut regions = Vec::new();
        sparse::old(&gnu.sparse, &mut regions).ok_or_else(fault)?;
        let mut more = gnu.is_extended();
        while more {
            let block = self.stream.block()?.ok_or_else(|| self.stream.truncated())?;
            let mut extension = GnuExtSparseHeader::new();
            extension.as_mut_bytes().copy_from_slice(&block);
            sparse::old(extension.sparse(), &mut regions).ok_or_else(fault)?;
            more = extension.is_extended();
            if regions.len() > self.limits.sparse_regions {
                return Err(self.too_many_regions(path));
            }
        }
        Ok(regions)
    }

    /// The map of format 1.0, which is part of the stored data.
    fn map(&mut self, path: &[u8]) -> Result<Vec<Region>, Error> {
        let fault = || Error::field(path, "map of the sparse file");
        let mut reader = MapReader::default();
        loop {
            if self.left < BLOCK as u64 {
                return Err(fault());
            }
            let block = self.stream.block()?.ok_or_else(|| self.stream.truncated())?;
            self.left -= BLOCK as u64;
            match reader.take(&block, self.limits.sparse_regions) {
                Ok(true) => return Ok(reader.regions),
                Ok(false) => {}
                Err(MapFault::Syntax) => return Err(fault()),
                Err(MapFault::TooMany) => return Err(self.too_many_regions(path)),
            }
        }
    }

    fn too_many_regions(&self, path: &[u8]) -> Error {
        Error::limit(Limit::SparseRegions, self.limits.sparse_regions as u64, path)
    }
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Reads a whole archive and its data without writing anything: the entrance for fuzzers, and a check of a blob.
/// Yields the number of entries.
pub fn inspect(bytes: &[u8], compression: Compression, limits: &Limits) -> Result<u64, Error> {
    let mut archive = Archive::new(Producer::new(bytes, compression, limits)?, limits);
    let mut entries = 0;
    while let Some(entry) = archive.next()? {
        entries += 1;
        crate::path::clean(&entry.path, limits)?;
        loop {
            let length = archive.data(u64::MAX)?.len();
            if length == 0 {
                break;
            }
            archive.consume(length);
        }
    }
    archive.drain()?;
    Ok(entries)
}
