//! The files of a running container, as it sees them, from the node.
//!
//! Invariant: a path that is resolved here stays beneath the container's root, whatever links the container makes meanwhile (openat2(2),
//! RESOLVE_IN_ROOT). What is created belongs to the container's root user.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, symlinkat};
use rustix::io::Errno;

use super::client::Daemon;
use super::objects::container_details;

#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    /// The container's root user and group, on the node.
    uid: u32,
    gid: u32,
}

impl Root {
    /// Every runtime tells tools the number of the container's process.
    pub(super) async fn of_container(daemon: &Daemon, id: &str) -> anyhow::Result<Self> {
        let pid = pid(daemon, id).await?;
        let path = format!("/proc/{pid}/root");
        let dir = openat(
            CWD,
            &path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let dir = dir.with_context(|| format!("cannot open {path}: are you root, on the runtime's node?"))?;
        let root = Self {
            dir,
            uid: mapped_root(pid, "uid_map")?,
            gid: mapped_root(pid, "gid_map")?,
        };
        // Another process may have got the number meanwhile; if it is still the container's, it was then.
        anyhow::ensure!(
            self::pid(daemon, id).await? == pid,
            "the container has just been started anew"
        );
        Ok(root)
    }

    /// As if this process were a container.
    #[cfg(test)]
    pub(super) fn of_this_process() -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            dir: openat(CWD, "/", flags, Mode::empty()).expect("a root"),
            uid: Uid::effective().as_raw(),
            gid: Gid::effective().as_raw(),
        }
    }

    /// Opens a path; relative ones begin at the root, too.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), inside)
    }

    /// Makes a link in the root directory.
    pub(super) fn symlink(&self, to: &str, name: &OsStr) -> anyhow::Result<()> {
        self.as_owner(|| symlinkat(to, &self.dir, name))
            .with_context(|| format!("symlinkat({to}, /{})", name.display()))
    }

    /// Does something as the container's root user, as far as files are concerned (setfsuid(2)): in a user namespace, layers and
    /// volumes take nobody else's.
    pub(super) fn as_owner<T>(&self, work: impl FnOnce() -> T) -> T {
        let gid = setfsgid(Gid::from_raw(self.gid));
        let uid = setfsuid(Uid::from_raw(self.uid));
        let done = work();
        setfsuid(uid);
        setfsgid(gid);
        done
    }
}

async fn pid(daemon: &Daemon, id: &str) -> anyhow::Result<i64> {
    let (_, info) = container_details(daemon, id).await?;
    let pid = info["pid"].as_i64().filter(|pid| *pid > 0);
    pid.context("the container does not run: its files are only there while it does")
}

/// The id on the node of id 0 in the process's user namespace (user_namespaces(7)).
fn mapped_root(pid: i64, file: &str) -> anyhow::Result<u32> {
    let path = format!("/proc/{pid}/{file}");
    let map = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    outside_of_zero(&map).with_context(|| format!("{path} maps no id to 0"))
}

fn outside_of_zero(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace();
        let inside: u32 = numbers.next()?.parse().ok()?;
        let outside = numbers.next()?.parse().ok()?;
        (inside == 0).then_some(outside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_what_zero_is_mapped_to() {
        assert_eq!(outside_of_zero("         0          0 4294967295\n"), Some(0));
        assert_eq!(outside_of_zero("1 5 10\n0 100000 65536\n"), Some(100_000));
        assert_eq!(outside_of_zero("1 5 10\n"), None);
        assert_eq!(outside_of_zero(""), None);
    }
}
