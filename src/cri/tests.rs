//! The real services on a real socket, with no pods and no images: what requests are refused, and how lists, large
//! messages, panics and the shutdown are served.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{FutureExt as _, future};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::server::ServeError;
use super::*;
use crate::config::Config;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::v1::image_service_client::ImageServiceClient;
use crate::proto::v1::runtime_service_client::RuntimeServiceClient;

mod admin;
mod budget;
mod images;
mod lists;
mod odd_authority;
mod runtime;
mod shutdown;

/// What is served on the CRI socket, on directories of its own.
struct Server {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    services: Services,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Duration::from_secs(60)).await
    }

    /// `drain` is how long requests may take to end at the shutdown.
    async fn start_with(drain: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            root: dir.path().join("root"),
            state: dir.path().join("state"),
            registry_config_dir: dir.path().join("certs.d"),
            registries_conf: dir.path().join("registries.conf"),
            ..Config::default()
        };
        std::fs::write(&config.registries_conf, "").unwrap();
        config.cni.conf_dir = dir.path().join("net.d");
        let services = Services {
            pods: crate::cli::services::build_services(&config).await.unwrap().0,
            node: Arc::new(NodeInfo {
                running: Arc::new(Running::new(config.clone(), move || Ok(config.clone()))),
                cgroup_driver: v1::CgroupDriver::Systemd,
                recursive_read_only_mounts: false,
                user_namespaces: future::ready(false).boxed().shared(),
            }),
        };
        let socket = dir.path().join("pausa.sock");
        let listening = server::bind(&socket).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let serving = tokio::spawn(server::serve(listening, services.clone(), shutdown, move || {
            drain
        }));
        Self {
            _dir: dir,
            socket,
            services,
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

    async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel().await)
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

/// An id that nothing has.
fn unknown() -> String {
    "0".repeat(64)
}

/// Checks that a call was refused as the client's fault, naming `field`.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, field: &str) {
    let status = answer.expect_err(field);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(field), "{field}: {status:?}");
}

/// Checks that a call was answered with NotFound.
#[track_caller]
fn not_found<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
}
