//! What the tests share: archives made by hand, hostile ones included, and a look at the trees they become.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use sha2::Digest;
use tar::Header;
use tempfile::TempDir;

use crate::{Compression, Error, Limits, Unpacked, unpack};

/// One pax record, with its own length in front.
pub(crate) fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// An archive in the making. Writes whatever it is told to.
#[derive(Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A header in GNU format.
    pub(crate) fn header(kind: u8, path: &[u8], link: &[u8], size: u64, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link);
        old.linkflag = [kind];
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header
    }

    pub(crate) fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.raw(
            Self::header(b'0', path.as_bytes(), b"", data.len() as u64, 0o644),
            data,
        )
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.raw(Self::header(b'5', path.as_bytes(), b"", 0, 0o755), b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(
            Self::header(b'2', path.as_bytes(), target.as_bytes(), 0, 0o777),
            b"",
        )
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.raw(
            Self::header(b'1', path.as_bytes(), target.as_bytes(), 0, 0o644),
            b"",
        )
    }

    pub(crate) fn char_device(self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(b'3', path.as_bytes(), b"", 0, 0o600);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.raw(header, b"")
    }

    /// A pax header for the entry that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| pax_record(key.as_bytes(), value))
            .collect();
        self.raw(
            Self::header(b'x', b"PaxHeader", b"", data.len() as u64, 0o644),
            &data,
        )
    }

    /// A GNU long name (`L`) or long link (`K`).
    pub(crate) fn long(self, kind: u8, name: &[u8]) -> Self {
        let data = [name, b"\0"].concat();
        self.raw(
            Self::header(kind, b"././@LongLink", b"", data.len() as u64, 0),
            &data,
        )
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A directory to unpack into, beside a file that no archive may reach.
pub(crate) struct Site {
    pub(crate) temp: TempDir,
    pub(crate) root: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("layer");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(temp.path().join("outside")).unwrap();
        std::fs::write(temp.path().join("outside/secret"), "untouched").unwrap();
        Self { temp, root }
    }

    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Unpacked, Error> {
        self.unpack_with(archive, &Limits::default())
    }

    pub(crate) fn unpack_with(&self, archive: &[u8], limits: &Limits) -> Result<Unpacked, Error> {
        let result = unpack(
            archive,
            Compression::Detect,
            File::open(&self.root).unwrap().as_fd(),
            limits,
        );
        self.assert_outside_untouched();
        result
    }

    fn assert_outside_untouched(&self) {
        let outside = self.temp.path().join("outside");
        assert_eq!(
            std::fs::read_to_string(outside.join("secret")).unwrap(),
            "untouched"
        );
        assert_eq!(
            std::fs::read_dir(&outside).unwrap().count(),
            1,
            "something was created outside"
        );
        assert_eq!(
            std::fs::read_dir(self.temp.path()).unwrap().count(),
            2,
            "something was created beside"
        );
    }

    pub(crate) fn outside(&self) -> String {
        self.temp.path().join("outside").to_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    pub(crate) fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        xattr(&self.root.join(path), name)
    }
}

pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

/// Whether a test that needs a file system with `trusted.*` attributes can run; says so if not.
pub(crate) fn privileged() -> bool {
    let temp = tempfile::tempdir().unwrap();
    let probe = rustix::fs::lsetxattr(temp.path(), "trusted.probe", b"1", XattrFlags::empty());
    if probe.is_err() {
        eprintln!("skipped: needs a temporary directory with trusted.* attributes");
    }
    probe.is_ok()
}

/// Everything that can be seen of a tree, a line per name, in order.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut links = std::collections::HashMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let name = path.strip_prefix(root).unwrap().to_owned();
        let stat = std::fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            let mut children: Vec<_> = std::fs::read_dir(&path)
                .unwrap()
                .map(|child| child.unwrap().path())
                .collect();
            children.sort();
            todo.extend(children.into_iter().rev());
        }
        let content = if stat.is_file() {
            hex::encode(sha2::Sha256::digest(std::fs::read(&path).unwrap()))
        } else if stat.is_symlink() {
            format!("{:?}", std::fs::read_link(&path).unwrap())
        } else {
            format!("device {}", stat.rdev())
        };
        // Which name of an inode comes first does not depend on who wrote the tree.
        let first = links.entry(stat.ino()).or_insert_with(|| name.clone()).clone();
        lines.push(format!(
            "{name:?} {:o} {}:{} {content} same as {first:?} mtime {}.{:09} {:?}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec(),
            xattrs(&path),
        ));
    }
    lines
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let mut found: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .map(|name| (name.clone(), xattr(path, &name).unwrap()))
        .collect();
    found.sort();
    found
}
