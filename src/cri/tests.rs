//! The door over a real socket, with rooms of paper behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::server::ServeError;
use super::*;
use crate::proto::v1::image_service_client::ImageServiceClient;
use crate::proto::v1::runtime_service_client::RuntimeServiceClient;
use fake::Fake;

mod admin;
mod fake;
mod images;
mod odd_authority;
mod pods;
mod shutdown;
mod stats;
mod streams;

/// A running door.
struct Door {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    fake: Arc<Fake>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Door {
    async fn open() -> Self {
        Self::open_with(Duration::from_secs(60)).await
    }

    async fn open_with(drain: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("pausa.sock");
        let listening = server::bind(&socket).await.unwrap();
        let fake = Arc::new(Fake::default());
        let rooms = Rooms {
            pods: Arc::clone(&fake),
            images: Arc::clone(&fake),
            streams: Arc::clone(&fake),
            facts: Facts::new(
                Config::default(),
                v1::CgroupDriver::Systemd,
                v1::RuntimeHandlerFeatures::default(),
            ),
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let serving = tokio::spawn(server::serve(listening, rooms, shutdown, drain));
        Self {
            _dir: dir,
            socket,
            fake,
            stop,
            serving,
        }
    }

    async fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .unwrap()
    }

    async fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel().await).max_decoding_message_size(server::MAX_MESSAGE)
    }

    async fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel().await)
    }
}

/// A pod configuration with everything that is required.
fn pod(name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.into(),
            namespace: "default".into(),
            uid: format!("uid-{name}"),
            attempt: 0,
        }),
        ..Default::default()
    }
}

/// A container configuration with everything that is required.
fn container(name: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(image("busybox")),
        ..Default::default()
    }
}

fn image(name: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: name.into(),
        ..Default::default()
    }
}

/// Checks that a call was refused as the client's fault, naming `field`.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, field: &str) {
    let status = answer.expect_err(field);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(field), "{field}: {status:?}");
}
