//! `pausa events`: what happens to pods and containers, as it happens.
//!
//! The daemon sends nothing of what has happened before. It cuts off a client that reads too slowly, and says how much that has
//! missed. This command is as slow as whoever reads its output.
//!
//! Must never: subscribe again by itself, which would hide that events are missing.

mod event;

use clap::Args;
use jiff::tz::TimeZone;
use tonic::Code;

use self::event::Names;
use super::client::{ClientFlags, Daemon, block_on};
use super::failure::CommandError;
use super::output::{self, Format, OutputFlags, print};
use super::screen::{self, Output};
use super::selection::Selection;
use crate::proto::v1::{GetEventsRequest, StreamContainersRequest};

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn run(args: &EventsArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        tokio::select! {
            ended = follow(&daemon, args) => ended,
            closed = output::closed() => Err(closed.into()),
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
        }
    })
}

async fn follow(daemon: &Daemon, args: &EventsArgs) -> anyhow::Result<()> {
    let failed = daemon.failed("GetContainerEvents");
    let events = daemon.runtime().get_container_events(GetEventsRequest {}).await;
    let mut events = events.map_err(&failed)?.into_inner();
    // Later than the subscription, so that no container is left out. The event of a deletion has no name.
    let mut names = names(daemon).await?;
    let coloured = Output::new().coloured;
    if args.output.format == Format::Table {
        print(&screen::text(&[event::heading()], coloured))?;
    }
    loop {
        let response = match events.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(daemon.no_more_events("it is stopping").into()),
            Err(status) => return Err(ended(daemon, failed(status))),
        };
        let Some(event) = names.event(response, &args.selection) else {
            continue;
        };
        print(&match args.output.format {
            Format::Json => serde_json::to_string(&event)? + "\n",
            Format::Table => screen::text(&[event.line(&TimeZone::system())], coloured),
        })?;
    }
}

/// Why the stream ended.
fn ended(daemon: &Daemon, error: CommandError) -> anyhow::Error {
    match error {
        CommandError::Gone { reason, .. } => daemon.no_more_events(reason).into(),
        CommandError::Refused {
            code: Code::ResourceExhausted,
            ..
        } => anyhow::Error::new(error)
            .context("events are lost, because `pausa events` or the reader of its output is too slow"),
        error => error.into(),
    }
}

/// Of all containers that there are.
async fn names(daemon: &Daemon) -> Result<Names, CommandError> {
    let request = StreamContainersRequest::default();
    let listed = daemon.runtime().stream_containers(request).await;
    let mut names = Names::default();
    for message in daemon.all("StreamContainers", listed).await? {
        for container in message.containers {
            names.learn(container.id, container.metadata);
        }
    }
    Ok(names)
}
