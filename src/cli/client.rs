//! The connection to the daemon: the path of its socket, and clients for its services.
//!
//! Must never: start a daemon, or read its directories.

use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::TryStreamExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use super::failure::CommandError;
use crate::config;
use crate::cri::server::MAX_MESSAGE;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::v1::image_service_client::ImageServiceClient;
use crate::proto::v1::runtime_service_client::RuntimeServiceClient;

#[derive(Debug, Default, Clone, Args)]
pub(super) struct ClientFlags {
    /// The daemon's socket [default: `listen` in the configuration].
    #[arg(long, visible_alias = "listen", value_name = "unix:///PATH", global = true)]
    address: Option<String>,
    /// The configuration file that contains the socket's path [default: /etc/pausa/config.toml].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

/// Runs a command that talks to the daemon.
pub(super) fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(command);
    // What was given up, such as the lookup of a name, cannot be cancelled, and is not waited for.
    runtime.shutdown_background();
    outcome
}

impl ClientFlags {
    /// Those of a line that may not be complete.
    pub(super) fn of_words(words: &[String]) -> Self {
        let value = |flags: &[&str]| {
            words
                .iter()
                .enumerate()
                .find_map(|(at, word)| match word.split_once('=') {
                    Some((flag, value)) if flags.contains(&flag) => Some(value.to_owned()),
                    _ if flags.contains(&word.as_str()) => words.get(at + 1).cloned(),
                    _ => None,
                })
        };
        Self {
            address: value(&["--address", "--listen"]),
            config: value(&["--config"]).map(PathBuf::from),
        }
    }

    /// The path of the socket. With an address, no configuration is read, so that the command works if it is broken.
    pub(super) fn socket(&self) -> Result<PathBuf, anyhow::Error> {
        if let Some(path) = self.address()? {
            return Ok(path);
        }
        let config = config::load(self.config.as_deref())?;
        config.validate()?;
        Ok(config.socket().to_owned())
    }

    /// The path in `--address`.
    pub(super) fn address(&self) -> Result<Option<PathBuf>, CommandError> {
        let Some(address) = &self.address else {
            return Ok(None);
        };
        let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
        if !path.is_absolute() {
            let text = format!("--address is {address:?}, but it must be unix:// and an absolute path");
            return Err(CommandError::Usage(text));
        }
        Ok(Some(path.to_owned()))
    }

    /// `--config`.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    socket: PathBuf,
    channel: Channel,
}

impl Daemon {
    pub(super) async fn connect(socket: PathBuf) -> Result<Self, CommandError> {
        let path = socket.clone();
        // The URL only becomes `:authority`.
        let connected = Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await;
        match connected {
            Ok(channel) => Ok(Self { socket, channel }),
            Err(source) => Err(CommandError::Unreachable { socket, source }),
        }
    }

    pub(super) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The failure of a stream that ended without its last message.
    pub(super) fn truncated(&self, doing: &'static str) -> CommandError {
        CommandError::Gone {
            socket: self.socket.clone(),
            doing,
            reason: "its answer ended early".to_owned(),
        }
    }

    /// All messages of a stream that ends by itself.
    pub(super) async fn all<T>(
        &self,
        doing: &'static str,
        answer: Result<Response<Streaming<T>>, Status>,
    ) -> Result<Vec<T>, CommandError> {
        let messages = async { answer?.into_inner().try_collect().await };
        messages.await.map_err(self.failed(doing))
    }

    /// The failure of a stream of events that ended.
    pub(super) fn no_more_events(&self, reason: impl Into<String>) -> CommandError {
        CommandError::NoMoreEvents {
            socket: self.socket.clone(),
            reason: reason.into(),
        }
    }

    /// For `map_err`: the failure of a call. `doing` completes "does not know …".
    pub(super) fn failed(&self, doing: &'static str) -> impl Fn(Status) -> CommandError + use<> {
        let socket = self.socket.clone();
        move |status| CommandError::from_status(socket.clone(), doing, &status)
    }
}
