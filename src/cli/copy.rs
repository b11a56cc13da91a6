//! `pausa cp`: copies files and directories between a container and the node.
//!
//! Nothing runs in the container, so it needs no tar. Both trees are walked by handles: no link that one side makes meanwhile leads out of
//! the place that was named. A file takes its place when it is complete, and with another one's name it replaces that.
//!
//! Must never: write through a link, or into a device or pipe; give the node a file with set-user-ID.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use clap_complete::ArgValueCompleter;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FsWord, Mode, OFlags, Timespec, Timestamps, fchmod, fstat, fstatfs,
    futimens, mkdirat, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::failure::CommandError;
use super::objects::Objects;
use super::output::{escape, print_stderr};
use super::root::Root;

/// Each level keeps two descriptors open.
const DEEPEST: usize = 256;
/// Of file systems whose files are made up as they are read: proc, sysfs, cgroup, cgroup2 (statfs(2)).
const MADE_UP: [FsWord; 4] = [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270];

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    #[command(flatten)]
    client: ClientFlags,
    /// Follow the link if the source is one.
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// CONTAINER:PATH or a path on the node. A directory is copied with all that is in it; with `/.` at its end, only what is in it.
    #[arg(value_name = "SOURCE", add = ArgValueCompleter::new(complete::containers))]
    from: Place,
    /// CONTAINER:PATH or a path on the node: a directory to copy into, or the name of the copy.
    #[arg(value_name = "DESTINATION", add = ArgValueCompleter::new(complete::containers))]
    to: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Node(PathBuf),
    Container { name: String, path: PathBuf },
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Node(path) | Self::Container { path, .. } => path,
        }
    }

    /// The directory that its last part is in.
    fn parent(&self) -> Self {
        let parent = self.path().parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        let path = parent.unwrap_or_else(|| Path::new(".")).to_owned();
        match self {
            Self::Node(_) => Self::Node(path),
            Self::Container { name, .. } => Self::Container {
                name: name.clone(),
                path,
            },
        }
    }
}

impl FromStr for Place {
    type Err = String;

    /// As with docker, what begins with `/` or `.` is a path on the node, also with a colon.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with(['/', '.']) && !name.is_empty() => match path {
                "" => Err("there is no path behind the colon".to_owned()),
                path => Ok(Self::Container {
                    name: name.to_owned(),
                    path: path.into(),
                }),
            },
            _ if text.is_empty() => Err("it is empty".to_owned()),
            _ => Ok(Self::Node(text.into())),
        }
    }
}

pub(super) fn run(args: &CopyArgs) -> anyhow::Result<()> {
    let container = match (&args.from, &args.to) {
        (Place::Container { name, .. }, Place::Node(_)) | (Place::Node(_), Place::Container { name, .. }) => {
            name
        }
        _ => {
            let text = "one of the two must be CONTAINER:PATH, the other a path on this node".to_owned();
            return Err(CommandError::Usage(text).into());
        }
    };
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let container = objects.container(container)?;
        let root = Root::of_container(&daemon, &container.id).await?;
        let open = |place: &Place, flags| match place {
            Place::Node(path) => openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()),
            Place::Container { path, .. } => root.open(path, flags),
        };
        let source = Source::open(&args.from, args.follow_link, open)?;
        let mut copy = Copy {
            owner: matches!(args.to, Place::Container { .. }).then_some(&root),
            ..Copy::default()
        };
        copy.to(&source, &args.to, open)?;
        if copy.skipped > 0 {
            print_stderr(&format!(
                "pausa: left out {} devices, pipes, sockets and file systems of the kernel",
                copy.skipped
            ));
        }
        Ok(())
    })
}

/// What is copied.
#[derive(Debug)]
struct Source {
    handle: OwnedFd,
    /// The last part of its path; none for the root, or for what is in a directory.
    name: Option<OsString>,
}

impl Source {
    fn open(
        place: &Place,
        follow: bool,
        open: impl Fn(&Place, OFlags) -> Result<OwnedFd, Errno>,
    ) -> anyhow::Result<Self> {
        let path = place.path();
        let contents_only = path.as_os_str().as_bytes().ends_with(b"/.") || path == Path::new(".");
        let must_follow = follow || contents_only || path.as_os_str().as_bytes().ends_with(b"/");
        let flags = if must_follow {
            OFlags::PATH
        } else {
            OFlags::PATH | OFlags::NOFOLLOW
        };
        let handle = open(place, flags).with_context(|| format!("cannot open {}", path.display()))?;
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) if !contents_only => Some(name.to_owned()),
            _ => None,
        };
        Ok(Self { handle, name })
    }
}

#[derive(Debug, Default)]
struct Copy<'a> {
    /// Whose files the copies are: the container's, or those of whoever runs this.
    owner: Option<&'a Root>,
    /// What is of no kind that can be copied.
    skipped: u64,
    /// Makes names of incomplete files differ.
    made: u64,
}

impl Copy<'_> {
    /// Copies into a directory that is there, or else with a new name.
    fn to(
        &mut self,
        source: &Source,
        to: &Place,
        open: impl Fn(&Place, OFlags) -> Result<OwnedFd, Errno>,
    ) -> anyhow::Result<()> {
        let directory = OFlags::DIRECTORY | OFlags::RDONLY;
        let path = to.path();
        match open(to, directory) {
            Ok(into) => match &source.name {
                Some(name) => self.one(source.handle.as_fd(), into.as_fd(), name, 0),
                None => self.contents(source.handle.as_fd(), into.as_fd(), 0),
            },
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let Some(Component::Normal(name)) = path.components().next_back() else {
                    anyhow::bail!("{} is no name for a copy", path.display());
                };
                let parent = to.parent();
                let into = open(&parent, directory);
                let into =
                    into.with_context(|| format!("cannot open the directory {}", parent.path().display()))?;
                self.one(source.handle.as_fd(), into.as_fd(), name, 0)
            }
            Err(errno) => Err(errno).with_context(|| format!("cannot open {}", path.display())),
        }
        .with_context(|| format!("the copy to {} is not complete", path.display()))
    }

    /// Writes as the owner. What is copied is read as whoever runs this: the owner of a container may not be able to.
    fn write<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.owner {
            Some(root) => root.as_owner(work),
            None => work(),
        }
    }

    /// Copies what a handle (O_PATH) leads to.
    fn one(
        &mut self,
        from: BorrowedFd<'_>,
        into: BorrowedFd<'_>,
        name: &OsStr,
        depth: usize,
    ) -> anyhow::Result<()> {
        let shown = || escape(&name.to_string_lossy());
        let status = fstat(from)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => self.file(from, into, name).with_context(shown),
            FileType::Directory => {
                if MADE_UP.contains(&fstatfs(from)?.f_type) {
                    self.skipped += 1;
                    return Ok(());
                }
                let target = self.directory(into, name).with_context(shown)?;
                self.contents(from, target.as_fd(), depth).with_context(shown)?;
                self.finish(target.as_fd(), &status).with_context(shown)
            }
            FileType::Symlink => {
                let to = readlinkat(from, "", Vec::new()).with_context(shown)?;
                let incomplete = self.incomplete_name();
                self.write(|| symlinkat(&to, into, &incomplete))
                    .with_context(shown)?;
                self.put_in_place(into, &incomplete, name).with_context(shown)
            }
            _ => {
                self.skipped += 1;
                Ok(())
            }
        }
    }

    fn contents(&mut self, from: BorrowedFd<'_>, into: BorrowedFd<'_>, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth < DEEPEST, "directories are nested more than {DEEPEST} deep");
        let from = reopen(from, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let child = openat(
                &from,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            );
            match child {
                Ok(child) => self.one(child.as_fd(), into, name, depth + 1)?,
                // Removed since the directory was read.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).with_context(|| escape(&name.to_string_lossy())),
            }
        }
        Ok(())
    }

    /// A directory to copy into: a new one, or the one that is there.
    fn directory(&self, into: BorrowedFd<'_>, name: &OsStr) -> anyhow::Result<OwnedFd> {
        match self.write(|| mkdirat(into, name, Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context("mkdirat"),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(into, name, flags, Mode::empty())
            .context("there is something else with the name of a directory")
    }

    fn file(&mut self, from: BorrowedFd<'_>, into: BorrowedFd<'_>, name: &OsStr) -> anyhow::Result<()> {
        let mut source = File::from(reopen(from, OFlags::RDONLY)?);
        let incomplete = self.incomplete_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = self.write(|| openat(into, &incomplete, flags, Mode::RUSR | Mode::WUSR));
        let mut target = File::from(made.context("openat")?);
        let status = fstat(&source)?;
        let copied = std::io::copy(&mut source, &mut target).context("cannot copy its contents");
        let copied = copied.and_then(|_| self.finish(target.as_fd(), &status));
        match copied {
            Ok(()) => self.put_in_place(into, &incomplete, name),
            Err(error) => {
                // What went wrong is what counts.
                _ = self.write(|| unlinkat(into, &incomplete, AtFlags::empty()));
                Err(error)
            }
        }
    }

    fn incomplete_name(&mut self) -> OsString {
        self.made += 1;
        format!(".pausa-cp-{}-{}", std::process::id(), self.made).into()
    }

    fn put_in_place(&self, into: BorrowedFd<'_>, incomplete: &OsStr, name: &OsStr) -> anyhow::Result<()> {
        let renamed = self.write(|| renameat(into, incomplete, into, name));
        if renamed.is_err() {
            // What went wrong is what counts.
            _ = self.write(|| unlinkat(into, incomplete, AtFlags::empty()));
        }
        renamed.context("cannot replace what has its name: rename")
    }

    /// Mode and times. On the node no file of a container's gets its owner's rights.
    fn finish(&self, target: BorrowedFd<'_>, status: &rustix::fs::Stat) -> anyhow::Result<()> {
        let mode = Mode::from_raw_mode(status.st_mode);
        let kept = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        let mode = if self.owner.is_none() { mode & kept } else { mode };
        self.write(|| fchmod(target, mode)).context("fchmod")?;
        let time = |seconds: i64, nanoseconds| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time(status.st_atime, i64::try_from(status.st_atime_nsec).unwrap_or(0)),
            last_modification: time(status.st_mtime, i64::try_from(status.st_mtime_nsec).unwrap_or(0)),
        };
        self.write(|| futimens(target, &times)).context("futimens")
    }
}

/// Opens what a handle leads to, which nobody can replace.
fn reopen(handle: BorrowedFd<'_>, flags: OFlags) -> anyhow::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).context("cannot read it: open")
}

#[cfg(test)]
mod tests;
