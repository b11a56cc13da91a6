//! The way to the daemon: where its socket is, and clients for what it serves.
//!
//! Must never: start a daemon, or look into its directories instead of asking it.

use std::path::{Path, PathBuf};

use clap::Args;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::failure::CommandError;
use crate::config::{self, ConfigError};
use crate::cri::server::MAX_MESSAGE;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::v1::image_service_client::ImageServiceClient;

/// Where the daemon is.
#[derive(Debug, Default, Clone, Args)]
pub(super) struct ClientFlags {
    /// The daemon's socket [default: `listen` of the configuration].
    #[arg(
        long,
        short = 'a',
        visible_alias = "listen",
        value_name = "unix:///PATH",
        global = true
    )]
    address: Option<String>,
    /// The configuration file that names the socket [default: /etc/pausa/config.toml].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl ClientFlags {
    /// The path of the socket. With an address, no configuration is read: a broken one must not keep its owner out.
    pub(super) fn socket(&self) -> Result<PathBuf, anyhow::Error> {
        let Some(address) = &self.address else {
            return Ok(self.configured()?);
        };
        let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
        if !path.is_absolute() {
            let text = format!("--address is {address:?}, but must be unix:// and an absolute path");
            return Err(CommandError::Usage(text).into());
        }
        Ok(path.to_owned())
    }

    fn configured(&self) -> Result<PathBuf, ConfigError> {
        let config = config::load(self.config.as_deref())?;
        config.validate()?;
        Ok(config.socket().to_owned())
    }
}

/// A daemon that answers.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    socket: PathBuf,
    channel: Channel,
}

impl Daemon {
    /// Connects, or says that nobody is there.
    pub(super) async fn connect(socket: PathBuf) -> Result<Self, CommandError> {
        let path = socket.clone();
        // The URL is not used; it becomes `:authority`.
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

    /// CRI's ImageService.
    pub(super) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// pausa's own service.
    pub(super) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The failure of a stream that ended before its last message.
    pub(super) fn cut_short(&self, doing: &'static str) -> CommandError {
        CommandError::Gone {
            socket: self.socket.clone(),
            doing,
            reason: "it ended the answer before it was complete".to_owned(),
        }
    }

    /// For `map_err`: the failure of a call that was `doing` something.
    pub(super) fn failed(&self, doing: &'static str) -> impl Fn(Status) -> CommandError + use<> {
        let socket = self.socket.clone();
        move |status| CommandError::from_status(socket.clone(), doing, &status)
    }
}
