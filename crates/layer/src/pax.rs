//! The records of a pax extended header (POSIX.1-2017 pax, "pax Extended Header"), those that matter for an image:
//! `path`, `linkpath`, `size`, `uid`, `gid`, `mtime`, `SCHILY.xattr.*` and GNU tar's `GNU.sparse.*`.
//!
//! Records are split by their length only: values are binary and may hold newlines and NULs. Pure functions. An empty
//! value means "as the tar header has it"; the last record of a key wins.

use crate::entry::Region;
use crate::number;

/// What one extended header says about the entry that follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: PaxSparse,
}

/// GNU tar's three ways to describe sparse files in pax archives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// `GNU.sparse.realsize` (1.0) or `GNU.sparse.size` (0.x).
    pub(crate) size: Option<u64>,
    /// 0.x: the map is in the header. `None` without a map.
    pub(crate) regions: Option<Vec<Region>>,
    /// 0.0: an offset still without its length.
    offset: Option<u64>,
}

/// Parses all records; the error names the field that is wrong.
pub(crate) fn parse(mut bytes: &[u8]) -> Result<Pax, &'static str> {
    let mut pax = Pax::default();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or("pax record")?;
        pax.take(key, value)?;
        bytes = rest;
    }
    if pax.sparse.offset.is_some() {
        return Err("GNU.sparse.numbytes");
    }
    Ok(pax)
}

/// Splits `"<length> <key>=<value>\n"` off the front.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number::decimal(&bytes[..blank])?).ok()?;
    let body = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

impl Pax {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.take_xattr(name, value);
        }
        if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(name, value);
        }
        match key {
            b"path" => self.path = text(value, "pax path")?,
            b"linkpath" => self.linkpath = text(value, "pax linkpath")?,
            b"size" => self.size = decimal(value, "pax size")?,
            b"uid" => self.uid = decimal(value, "pax uid")?,
            b"gid" => self.gid = decimal(value, "pax gid")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(number::time(value).ok_or("pax mtime")?),
            _ => {}
        }
        Ok(())
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.is_empty() || name.contains(&0) {
            return Err("pax SCHILY.xattr name");
        }
        match self.xattrs.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_vec(),
            None => self.xattrs.push((name.to_vec(), value.to_vec())),
        }
        Ok(())
    }
}

impl PaxSparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"major" => self.major = decimal(value, "GNU.sparse.major")?,
            b"minor" => self.minor = decimal(value, "GNU.sparse.minor")?,
            b"name" => self.name = text(value, "GNU.sparse.name")?,
            b"size" | b"realsize" => self.size = decimal(value, "GNU.sparse.size")?,
            b"numblocks" => self.regions = Some(Vec::new()),
            b"offset" => {
                if self.offset.is_some() {
                    return Err("GNU.sparse.offset");
                }
                self.offset = decimal(value, "GNU.sparse.offset")?;
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or("GNU.sparse.offset")?;
                let length = number::decimal(value).ok_or("GNU.sparse.numbytes")?;
                self.regions
                    .get_or_insert_default()
                    .push(Region { offset, length });
            }
            b"map" => self.regions = Some(map(value)?),
            _ => {}
        }
        Ok(())
    }
}

/// `offset,length,offset,length…`
fn map(value: &[u8]) -> Result<Vec<Region>, &'static str> {
    const FIELD: &str = "GNU.sparse.map";
    let mut regions = Vec::new();
    let mut numbers = value.split(|byte| *byte == b',').filter(|text| !text.is_empty());
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or(FIELD)?;
        regions.push(Region {
            offset: number::decimal(offset).ok_or(FIELD)?,
            length: number::decimal(length).ok_or(FIELD)?,
        });
    }
    Ok(regions)
}

fn text(value: &[u8], field: &'static str) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err(field);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn decimal(value: &[u8], field: &'static str) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    number::decimal(value).map(Some).ok_or(field)
}

#[cfg(test)]
mod tests;
