//! Hard links: within the layer only, never through a symbolic link, never to a directory.

use rustix::fs::{AtFlags, FileType, linkat, statat};
use rustix::io::Errno;

use crate::error::EntryPath;
use crate::parents::is_whiteout;
use crate::{Error, path};

use super::{Place, Writer};

impl Writer<'_> {
    /// The owner, mode and so on of a hard link are those of its target.
    pub(super) fn hardlink(&mut self, place: &Place<'_>) -> Result<(), Error> {
        let entry = place.entry;
        let target = path::clean(&entry.link, self.limits).map_err(|error| match error {
            Error::Escape { .. } => Error::LinkEscape {
                path: EntryPath::new(entry.path.as_slice()),
                target: EntryPath::new(entry.link.as_slice()),
            },
            other => other,
        })?;
        let fail = |source| Error::LinkTarget {
            path: EntryPath::new(entry.path.as_slice()),
            target: EntryPath::new(entry.link.as_slice()),
            source,
        };
        let (parent, last) = path::split(&target);
        if last.is_empty() {
            return Err(fail(Errno::ISDIR));
        }
        let from = self
            .parents
            .open(parent, &entry.path, false)
            .map_err(|error| match error {
                Error::System {
                    source: Errno::NOENT, ..
                } => fail(Errno::NOENT),
                other => other,
            })?;
        let stat = statat(&from.fd, last, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(fail(Errno::ISDIR));
        }
        if is_whiteout(&stat) {
            // To the reader of the finished layer there is nothing of this name.
            return Err(fail(Errno::NOENT));
        }
        let link = || linkat(&from.fd, last, &place.parent.fd, &place.name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {}
            other => return other.map_err(fail),
        }
        let there = statat(&place.parent.fd, &place.name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        self.displace(place)?;
        link().map_err(fail)
    }
}
