//! One entry's header as bytes: ustar, with pax records (POSIX.1-2001) for what does not fit.

use rustix::fs::Stat;

use crate::entry::Region;

const BLOCK: usize = 512;
/// What seven and eleven octal digits hold.
const ID_MAX: u64 = 0o7_777_777;
const SIZE_MAX: u64 = 0o77_777_777_777;

/// A name and its value.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// An entry to be written.
pub(super) struct Header {
    kind: u8,
    path: Vec<u8>,
    link: Vec<u8>,
    mode: u64,
    ids: (u64, u64),
    mtime: (i64, u64),
    device: (u32, u32),
    pax: Vec<Attribute>,
}

impl Header {
    pub(super) fn new(kind: u8, path: Vec<u8>, stat: &Stat) -> Self {
        Self {
            kind,
            path,
            link: Vec::new(),
            mode: u64::from(stat.st_mode & 0o7777),
            ids: (stat.st_uid.into(), stat.st_gid.into()),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            device: (0, 0),
            pax: Vec::new(),
        }
    }

    /// An empty file that only its name matters of.
    pub(super) fn plain(path: Vec<u8>) -> Self {
        Self {
            kind: b'0',
            path,
            link: Vec::new(),
            mode: 0,
            ids: (0, 0),
            mtime: (0, 0),
            device: (0, 0),
            pax: Vec::new(),
        }
    }

    pub(super) fn link(&mut self, target: Vec<u8>) {
        self.link = target;
    }

    pub(super) fn device(&mut self, major: u32, minor: u32) {
        self.device = (major, minor);
    }

    pub(super) fn attributes(&mut self, attributes: &[Attribute]) {
        for (name, value) in attributes {
            let key = [b"SCHILY.xattr.", name.as_slice()].concat();
            self.pax.push((key, value.clone()));
        }
    }

    /// Makes it a sparse file of GNU's format 1.0; yields the map that goes before the data.
    pub(super) fn sparse(&mut self, path: &[u8], size: u64, regions: &[Region]) -> Vec<u8> {
        let number = |value: u64| value.to_string().into_bytes();
        self.pax.extend([
            (b"GNU.sparse.major".to_vec(), number(1)),
            (b"GNU.sparse.minor".to_vec(), number(0)),
            (b"GNU.sparse.name".to_vec(), path.to_vec()),
            (b"GNU.sparse.realsize".to_vec(), number(size)),
        ]);
        self.path = b"GNUSparseFile.0/file".to_vec();
        let mut map = format!("{}\n", regions.len()).into_bytes();
        for region in regions {
            map.extend_from_slice(format!("{}\n{}\n", region.offset, region.length).as_bytes());
        }
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        map
    }

    /// All blocks before the data, of which there are `size` bytes.
    pub(super) fn encode(&self, size: u64) -> Vec<u8> {
        let mut records = Vec::new();
        let mut record = |key: &[u8], value: &[u8]| records.extend_from_slice(&pax_record(key, value));
        if self.path.len() > 100 || !self.path.is_ascii() {
            record(b"path", &self.path);
        }
        if self.link.len() > 100 || !self.link.is_ascii() {
            record(b"linkpath", &self.link);
        }
        for (key, id) in [(b"uid", self.ids.0), (b"gid", self.ids.1)] {
            if id > ID_MAX {
                record(key, id.to_string().as_bytes());
            }
        }
        if size > SIZE_MAX {
            record(b"size", size.to_string().as_bytes());
        }
        let header_time = u64::try_from(self.mtime.0).ok().filter(|time| *time <= SIZE_MAX);
        if header_time.is_none() || self.mtime.1 != 0 {
            record(b"mtime", time(self.mtime).as_bytes());
        }
        for (key, value) in &self.pax {
            record(key, value);
        }
        let mut blocks = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            let extension = Self::plain(b"PaxHeaders.0/x".to_vec());
            blocks.extend_from_slice(&extension.block(b'x', records.len() as u64, 0));
            blocks.extend_from_slice(&records);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        let size_field = if size > SIZE_MAX { 0 } else { size };
        blocks.extend_from_slice(&self.block(self.kind, size_field, header_time.unwrap_or(0)));
        blocks
    }

    fn block(&self, kind: u8, size: u64, mtime: u64) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        let id = |id: u64| if id > ID_MAX { 0 } else { id };
        put(108, format!("{:07o}", id(self.ids.0)).as_bytes());
        put(116, format!("{:07o}", id(self.ids.1)).as_bytes());
        put(124, format!("{size:011o}").as_bytes());
        put(136, format!("{mtime:011o}").as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, &device_field(self.device.0));
        put(337, &device_field(self.device.1));
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// Octal, or base-256 (GNU) where that is too short.
fn device_field(number: u32) -> [u8; 8] {
    let mut field = [0; 8];
    if u64::from(number) > ID_MAX {
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    } else {
        field[..7].copy_from_slice(format!("{number:07o}").as_bytes());
    }
    field
}

/// A record counts its own length, digits included.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds with as many digits as there are.
fn time((seconds, nanoseconds): (i64, u64)) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    // Before the epoch, the fraction counts away from it.
    let (sign, seconds, nanoseconds) = if seconds < 0 {
        ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
    } else {
        ("", seconds.unsigned_abs(), nanoseconds)
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}
