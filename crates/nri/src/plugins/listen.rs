//! The socket for plugins that connect by themselves.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::Plugins;
use crate::error::{NriError, Refusal, chain};

/// Connections at the same time, those of plugins that have not registered included.
const MAX_CONNECTIONS: usize = 64;
/// How long nothing is accepted after a failure, such as for want of descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes the socket, which only its owner can connect to, in place of what another process has left behind.
pub(super) fn bind(path: &Path) -> Result<UnixListener, NriError> {
    let failed = |operation| {
        move |source| NriError::Socket {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed("make the directory of"))?;
    }
    if path
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket())
    {
        std::fs::remove_file(path).map_err(failed("remove what another process has left of"))?;
    }
    let listener = UnixListener::bind(path).map_err(failed("bind"))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("restrict access to"))?;
    Ok(listener)
}

impl Plugins {
    /// Accepts plugins until the set stops, then removes the socket.
    pub(super) async fn accept(self: Arc<Self>, listener: UnixListener) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::error!(
                        error = chain(&error),
                        "cannot accept an NRI plugin; the next one is accepted after a second"
                    );
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                tracing::warn!(
                    limit = MAX_CONNECTIONS,
                    "too many NRI plugins are connected: one is refused"
                );
                continue;
            };
            match peer(&stream) {
                Ok(pid) => {
                    let plugins = Arc::clone(&self);
                    self.spawn(async move {
                        plugins.serve_external(stream, pid).await;
                        drop(place);
                    });
                }
                Err(refusal) => tracing::warn!(error = chain(&refusal), "an NRI plugin is refused"),
            }
        }
        drop(listener);
        std::fs::remove_file(&self.settings.socket_path).ok();
    }
}

/// The process at the other end, which has to be of the user of this process: of root.
fn peer(stream: &UnixStream) -> Result<Option<u32>, Refusal> {
    let peer = stream.peer_cred().map_err(|source| Refusal::Connection {
        operation: "ask for the peer of",
        source,
    })?;
    let (uid, allowed) = (peer.uid(), geteuid().as_raw());
    if uid != allowed {
        return Err(Refusal::User { uid, allowed });
    }
    // 0 is a process of another PID namespace.
    Ok(peer
        .pid()
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid > 0))
}
