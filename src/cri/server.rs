//! Opens the socket and serves on it until the shutdown.
//!
//! ```text
//!  bind / inherited ──▶ serve ──shutdown──▶ draining ──all answered, or drain limit──▶ closed
//! ```
//!
//! READY=1 goes out when requests can be answered, STOPPING=1 when draining begins (sd_notify(3)). While
//! draining, no connection is accepted, clients get GOAWAY, and running requests may finish.
//!
//! Must never: take the socket from a daemon that is alive.

use std::io;
use std::time::Duration;

use futures_util::{Stream, stream};
use sd_notify::NotifyState;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

use budget::{BudgetLayer, Clients, IMPORT_MESSAGE_MAX, STREAMS_MAX};
use metadata::MetadataLayer;

use super::Services;
use super::authority::LenientAuthority;
use super::cadvisor::Cadvisor;
use crate::accept::accept;
use crate::error::chain;
use crate::proto::admin::admin_server::AdminServer;
use crate::proto::cadvisor::containers::containers_server::ContainersServer;
use crate::proto::cadvisor::tasks::tasks_server::TasksServer;
use crate::proto::cadvisor::version::version_server::VersionServer;
use crate::proto::server::image_service_server::ImageServiceServer;
use crate::proto::server::runtime_service_server::RuntimeServiceServer;
use crate::sandbox::Pods;

mod budget;
mod metadata;
mod socket;

pub(super) use budget::Connection;
pub use socket::{Listening, bind, inherited};

/// Largest message either way; kubelet's and crictl's clients have the same limit.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The gRPC server gave up.
    #[error("the gRPC server on the CRI socket ended")]
    Server {
        #[source]
        source: tonic::transport::Error,
    },
}

/// Serves on `listening` until `shutdown` completes, then lets running requests finish for at most
/// `drain`.
///
/// # Errors
/// [`ServeError`] when the server ends for another reason.
pub async fn serve(
    listening: Listening,
    services: Services,
    shutdown: impl Future<Output = ()>,
    drain: impl FnOnce() -> Duration,
) -> Result<(), ServeError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (listener, held) = listening.into_parts();
    let pods = services.pods.clone();
    let serving = router(services).serve_with_incoming_shutdown(connections(listener), async {
        // A sender that is gone is as good as one that has sent.
        _ = stopped.await;
    });
    tokio::pin!(serving);
    notify(&[NotifyState::Ready]);
    let failed = |source| ServeError::Server { source };
    tokio::select! {
        ended = &mut serving => return ended.map_err(failed),
        () = shutdown => {}
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping: waiting for running requests");
    // These requests would never end.
    pods.end_container_events();
    // The receiver lives in `serving`, which has not ended.
    _ = stop.send(());
    let drain = drain();
    let ended = tokio::time::timeout(drain, serving).await;
    drop(held);
    match ended {
        Ok(ended) => ended.map_err(failed),
        Err(_) => {
            tracing::warn!(
                drain_s = drain.as_secs(),
                "stopping with requests unanswered; their operations go on or are retried"
            );
            Ok(())
        }
    }
}

/// Answers cAdvisor on `listening` until it is aborted.
pub async fn serve_cadvisor(listening: Listening, pods: Pods) {
    let (listener, _held) = listening.into_parts();
    let cadvisor = Cadvisor { pods };
    let served = builder()
        .add_service(ContainersServer::new(cadvisor.clone()))
        .add_service(TasksServer::new(cadvisor.clone()))
        .add_service(VersionServer::new(cadvisor))
        .serve_with_incoming(connections(listener))
        .await;
    if let Err(error) = served {
        let error = chain(&error);
        tracing::error!(
            error,
            "the server for cAdvisor has ended; kubelet's metrics have no labels of pods until a restart"
        );
    }
}

type Layers = Stack<BudgetLayer, Stack<MetadataLayer, Identity>>;

fn builder() -> Server<Layers> {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .layer(MetadataLayer)
        .layer(BudgetLayer)
}

fn router(services: Services) -> Router<Layers> {
    builder()
        .add_service(
            RuntimeServiceServer::new(services.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            ImageServiceServer::new(services.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            AdminServer::new(services)
                .max_decoding_message_size(IMPORT_MESSAGE_MAX)
                .max_encoding_message_size(MAX_MESSAGE),
        )
}

/// An endless stream: [`accept`] returns no error.
fn connections(
    listener: UnixListener,
) -> impl Stream<Item = io::Result<LenientAuthority<UnixStream>>> + Send {
    stream::unfold((listener, Clients::default()), |(listener, clients)| async move {
        loop {
            let socket = accept("CRI", || listener.accept()).await;
            // None if it is in a PID namespace that is not below ours.
            let pid = socket.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or(0);
            match clients.connect(pid, &socket) {
                Ok(Some(connection)) => {
                    return Some((Ok(LenientAuthority::new(socket, connection)), (listener, clients)));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(pid, %error, "cannot serve a connection to the CRI socket: it is closed");
                }
            }
        }
    })
}

/// Tells the service manager. Without one this does nothing; one that does not listen is not our trouble.
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager through NOTIFY_SOCKET");
    }
}
