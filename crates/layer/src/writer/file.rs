//! Regular files: data straight from the decoder's buffer, holes left as holes.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, ftruncate, openat};
use rustix::io::{Errno, pwrite, write};

use crate::Error;
use crate::archive::Archive;
use crate::entry::{Entry, Region};
use crate::metadata::{Fresh, Target};
use crate::stream::Source;

use super::{Place, UNIT, Writer};

impl Writer<'_> {
    pub(super) fn regular<S: Source>(
        &mut self,
        place: &Place<'_>,
        archive: &mut Archive<'_, S>,
    ) -> Result<(), Error> {
        let entry = place.entry;
        self.admit(entry)?;
        let bits = entry.metadata.mode & 0o777;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(bits);
        let call = || format!("openat(O_CREAT | O_EXCL | O_NOFOLLOW, {bits:04o})");
        let (file, _) = self.create(place, call, |at, name| openat(at, name, flags, mode))?;
        archive.stored_in(&place.physical(), entry.regions.as_deref());
        match &entry.regions {
            None => {
                copy(file.as_fd(), entry, archive)?;
                self.bytes += entry.size.next_multiple_of(UNIT);
            }
            Some(regions) => {
                copy_sparse(file.as_fd(), entry, regions, archive)?;
                self.bytes += regions
                    .iter()
                    .map(|region| region.length.next_multiple_of(UNIT))
                    .sum::<u64>();
            }
        }
        self.inodes += 1;
        let fresh = Fresh {
            owned: !place.parent.setgid,
            mode: Some(bits & !self.umask),
        };
        let target = Target::Open(file.as_fd());
        self.dropped_xattrs += target.apply(&entry.metadata, fresh, &entry.path)?;
        target.set_times(entry.metadata.mtime, &entry.path)
    }
}

fn copy<S: Source>(file: BorrowedFd<'_>, entry: &Entry, archive: &mut Archive<'_, S>) -> Result<(), Error> {
    loop {
        let data = archive.data(u64::MAX)?;
        if data.is_empty() {
            return Ok(());
        }
        let written = match write(file, data) {
            Ok(0) => return Err(Error::system(&entry.path, "write", Errno::IO)),
            Ok(written) => written,
            Err(Errno::INTR) => 0,
            Err(errno) => {
                return Err(Error::system(
                    &entry.path,
                    format!("write({} bytes)", data.len()),
                    errno,
                ));
            }
        };
        archive.consume(written);
    }
}

fn copy_sparse<S: Source>(
    file: BorrowedFd<'_>,
    entry: &Entry,
    regions: &[Region],
    archive: &mut Archive<'_, S>,
) -> Result<(), Error> {
    ftruncate(file, entry.size)
        .map_err(|errno| Error::system(&entry.path, format!("ftruncate({})", entry.size), errno))?;
    for region in regions {
        let (mut offset, end) = (region.offset, region.offset + region.length);
        while offset < end {
            let data = archive.data(end - offset)?;
            let written = match pwrite(file, data, offset) {
                Ok(0) => return Err(Error::system(&entry.path, "pwrite", Errno::IO)),
                Ok(written) => written,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(Error::system(&entry.path, format!("pwrite at {offset}"), errno)),
            };
            archive.consume(written);
            offset += written as u64;
        }
    }
    Ok(())
}
