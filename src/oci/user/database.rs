//! Reads `/etc/passwd` and `/etc/group` of an image, which are untrusted.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::MAX_ID;
use crate::oci::error::OciError;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Enough for some 50 000 users, far more than any image has.
const MAX_SIZE: u64 = 4 << 20;

pub(super) struct Root<'a>(pub(super) BorrowedFd<'a>);

/// A line of passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// None for an id without an entry.
    pub(super) name: Option<String>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

impl Root<'_> {
    /// The first user whose name and id satisfy `wanted`.
    pub(super) fn user(&self, wanted: impl Fn(&str, u32) -> bool) -> Result<Option<User>, OciError> {
        let Some(text) = self.read(PASSWD)? else {
            return Ok(None);
        };
        Ok(text
            .lines()
            .filter_map(user)
            .find(|user| user.name.as_deref().is_some_and(|name| wanted(name, user.uid))))
    }

    /// The id of the first group with this name.
    pub(super) fn group(&self, name: &str) -> Result<Option<u32>, OciError> {
        let text = self.read(GROUP)?.unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(group)
            .find(|(known, ..)| *known == name)
            .map(|(_, gid, _)| gid))
    }

    /// The ids of the groups that list this user as a member.
    pub(super) fn groups_of(&self, user: &str) -> Result<Vec<u32>, OciError> {
        let text = self.read(GROUP)?.unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(group)
            .filter(|(.., members)| members.split(',').any(|member| member.trim() == user))
            .map(|(_, gid, _)| gid)
            .collect())
    }

    /// A file's text; none if it does not exist.
    fn read(&self, file: &'static str) -> Result<Option<String>, OciError> {
        let failed = |call| {
            move |errno: Errno| OciError::ImageFile {
                file,
                call,
                source: errno.into(),
            }
        };
        // O_PATH first: opening a device or a named pipe has side effects, O_PATH has none.
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let look = OFlags::PATH | OFlags::CLOEXEC;
        let handle = match openat2(self.0, file, look, Mode::empty(), inside) {
            Ok(handle) => handle,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed("openat2(O_PATH, RESOLVE_IN_ROOT)")(errno)),
        };
        let status = fstat(&handle).map_err(failed("fstat"))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            let reason = "is not a regular file";
            return Err(OciError::HostileFile { file, reason });
        }
        let too_large = || {
            let reason = "is larger than 4 MiB";
            OciError::HostileFile { file, reason }
        };
        if u64::try_from(status.st_size).is_ok_and(|size| size > MAX_SIZE) {
            return Err(too_large());
        }
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = rustix::fs::open(path, read, Mode::empty()).map_err(failed("open(O_RDONLY)"))?;
        let mut bytes = Vec::new();
        File::from(opened)
            .take(MAX_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| OciError::ImageFile {
                file,
                call: "read",
                source,
            })?;
        // It may have grown: a container that runs on the same files can write.
        if bytes.len() as u64 > MAX_SIZE {
            return Err(too_large());
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// `name:password:uid:gid:comment:home:shell`; other lines are ignored.
pub(super) fn user(line: &str) -> Option<User> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    let home = fields
        .nth(1)
        .filter(|home| home.starts_with('/') && !home.contains('\0'));
    Some(User {
        name: Some(name.to_owned()),
        uid,
        gid,
        home: home.unwrap_or("/").to_owned(),
    })
}

/// `name:password:gid:members`.
pub(super) fn group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}
