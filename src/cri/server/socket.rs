//! The listening socket: made by us, or handed over by the service manager.
//!
//! A lock file beside the socket says who owns the path, so that two daemons that start together cannot both
//! find it stale. Even with the lock, a socket somebody answers on is left alone: that is another program.
//! The socket appears under its name only when it is ready, with its final mode (bind elsewhere, rename).
//!
//! Links: unix(7), sd_listen_fds(3).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{ForeignRawFd, PidfdFlags, PidfdGetfdFlags};
use tokio::net::{UnixListener, UnixStream};

/// Mode of a directory that is made for the socket.
const DIR_MODE: u32 = 0o755;
/// root and its group may connect: whoever can is root on this node.
const SOCKET_MODE: u32 = 0o660;
/// A listener whose queue is full for this long is alive all the same.
const ANSWER: Duration = Duration::from_secs(1);

/// There is no socket to serve on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// It is in use.
    #[error("another daemon is listening on {}; stop it, or use another --listen, --root and --state", path.display())]
    Busy { path: PathBuf },
    /// Something else has its name.
    #[error("{} is there and not a socket; move it away or use another --listen", path.display())]
    NotASocket {
        /// The file that is no socket.
        path: PathBuf,
    },
    #[error("cannot {action} {}", path.display())]
    Call {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What the service manager handed over cannot be used.
    #[error("cannot {action} the socket handed over in LISTEN_FDS")]
    Inherited {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    /// It handed over several.
    #[error("LISTEN_FDS hands over {count} sockets; pausa serves on one")]
    TooMany { count: usize },
}

/// A socket that listens, and what goes with it.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    held: Option<Held>,
}

/// Removes the socket's name and frees its lock when dropped.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    _lock: File,
}

impl Listening {
    /// The name that the socket was bound to; none if it was to none, or an abstract one.
    pub fn path(&self) -> Option<PathBuf> {
        let address = self.listener.local_addr().ok()?;
        address.as_pathname().map(Path::to_owned)
    }

    pub(super) fn into_parts(self) -> (UnixListener, Option<Held>) {
        (self.listener, self.held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A name that stays is found stale by the next daemon.
        drop(fs::remove_file(&self.path));
    }
}

/// Listens on `path`, in place of a dead daemon's socket but never of a live one's.
///
/// # Errors
/// [`SocketError`].
pub async fn bind(path: &Path) -> Result<Listening, SocketError> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(dir)
        .map_err(call("create the directory", dir))?;
    let lock = lock(path)?;
    check_free(path).await?;
    let fresh = beside(path, ".new");
    remove(&fresh)?;
    let listener = UnixListener::bind(&fresh).map_err(call("bind a socket to", &fresh))?;
    fs::set_permissions(&fresh, Permissions::from_mode(SOCKET_MODE))
        .map_err(call("set the mode of", &fresh))?;
    fs::rename(&fresh, path).map_err(call("rename the new socket to", path))?;
    Ok(Listening {
        listener,
        held: Some(Held {
            path: path.to_owned(),
            _lock: lock,
        }),
    })
}

/// The socket the service manager made for us, if it did.
///
/// # Errors
/// [`SocketError`].
pub fn inherited() -> Result<Option<Listening>, SocketError> {
    let mut fds = sd_notify::listen_fds().map_err(|source| SocketError::Inherited {
        action: "find",
        source,
    })?;
    let Some(fd) = fds.next() else {
        return Ok(None);
    };
    if fds.len() > 0 {
        return Err(SocketError::TooMany { count: fds.len() + 1 });
    }
    let listener = adopt(fd)?;
    Ok(Some(Listening { listener, held: None }))
}

/// Makes a listener of a descriptor that only its number is known of. Asking the kernel for a copy of it
/// needs no unsafe promise about who owns the number.
fn adopt(fd: RawFd) -> Result<UnixListener, SocketError> {
    let failed = |action| move |source| SocketError::Inherited { action, source };
    let us = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(|e| failed("open a pidfd to take")(e.into()))?;
    let copy: OwnedFd =
        rustix::process::pidfd_getfd(us.as_fd(), ForeignRawFd::from(fd), PidfdGetfdFlags::empty())
            .map_err(|e| failed("pidfd_getfd(2)")(e.into()))?;
    let listens = rustix::net::sockopt::socket_acceptconn(&copy).map_err(|e| failed("examine")(e.into()))?;
    let listener = std::os::unix::net::UnixListener::from(copy);
    if !listens || listener.local_addr().is_err() {
        let source = io::Error::from(ErrorKind::InvalidInput);
        return Err(failed("serve on, for it is no listening unix socket,")(source));
    }
    listener
        .set_nonblocking(true)
        .map_err(failed("set non-blocking"))?;
    UnixListener::from_std(listener).map_err(failed("register"))
}

/// Takes the lock that stands for the path.
fn lock(path: &Path) -> Result<File, SocketError> {
    let name = beside(path, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(call("open the lock file", &name))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::Busy {
            path: path.to_owned(),
        }),
        Err(errno) => Err(call("flock(2)", &name)(errno.into())),
    }
}

/// Makes sure that nobody answers on `path`.
async fn check_free(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(call("examine", path)(e)),
    }
    match tokio::time::timeout(ANSWER, UnixStream::connect(path)).await {
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(e)) if e.kind() == ErrorKind::NotFound => Ok(()),
        Ok(Err(e)) => Err(call("find out who listens on", path)(e)),
        Ok(Ok(_)) | Err(_) => Err(SocketError::Busy {
            path: path.to_owned(),
        }),
    }
}

fn remove(path: &Path) -> Result<(), SocketError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(call("remove", path)(e)),
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn call(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Call { action, path, source }
}

#[cfg(test)]
mod tests;
