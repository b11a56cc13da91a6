//! `pausa image`: images, for the administrator of the node.
//!
//! Each command sends requests to the daemon over its socket, prints the answer as a table or, with `-o json`, as one document,
//! and ends with a code of [`super::failure`]. `docs/operations.md` describes the documents, which are messages of the admin
//! service where there is one.
//!
//! Must never: touch the image store, or make decisions that are the daemon's.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::output::{Format, OutputFlags};

mod check;
mod export;
mod import;
mod inspect;
mod list;
mod progress;
mod pull;
mod pulls;
mod remove;
mod verify;
mod view;

pub(super) use progress::Total;
pub(super) use pull::{Auth, fetch};
pub(super) use view::find;

#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// List images.
    #[command(visible_alias = "list")]
    Ls(list::ListArgs),
    /// Fetch an image from its registry, and print its digest, id and size.
    ///
    /// Progress goes to stderr: a bar for each layer on a terminal, otherwise a line every five seconds. If the command is
    /// interrupted, the daemon continues the pull, and the same command joins it.
    Pull(pull::PullArgs),
    /// Remove images with all their names.
    ///
    /// If containers use an image, its names are removed at once, and its data with the last of these containers.
    Rm(remove::RemoveArgs),
    /// List the pulls and imports in progress, and the data of failed pulls that is kept for a retry.
    Pulls,
    /// Show where a reference leads: which registries and mirrors a pull would contact, and which file defines them.
    ///
    /// Contacts none of them.
    Check {
        /// Image reference.
        #[arg(value_name = "IMAGE")]
        reference: String,
    },
    /// Read images from disk and report damage.
    ///
    /// Verifies all images if none is given, which takes seconds to minutes. The exit code is 65 if damage remains.
    Verify(verify::VerifyArgs),
    /// Write images to one archive, an OCI layout that `docker load` can read too.
    Export(export::ExportArgs),
    /// Show all information about images, including their configuration.
    Inspect {
        /// References, ids or prefixes of ids.
        #[arg(required = true, value_name = "IMAGE", add = ArgValueCompleter::new(complete::images))]
        images: Vec<String>,
    },
    /// Store every image of an archive (OCI layout or `docker save`), and print their ids and names.
    Import {
        /// The archive, a tar, compressed or not; `-` is standard input.
        file: PathBuf,
    },
}

pub(super) fn run(args: ImageArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(dispatch(socket, args.command, args.output.format))
}

async fn dispatch(socket: PathBuf, command: ImageCommand, format: Format) -> anyhow::Result<()> {
    // Wrong usage is reported even if there is no daemon.
    let auth = match &command {
        ImageCommand::Pull(args) => args.credentials()?,
        ImageCommand::Verify(args) => args.credentials()?,
        ImageCommand::Export(args) => {
            args.check()?;
            pull::Auth::Anonymous
        }
        _ => pull::Auth::Anonymous,
    };
    let daemon = &Daemon::connect(socket).await?;
    match command {
        ImageCommand::Ls(args) => list::run(daemon, &args, format).await,
        ImageCommand::Pull(args) => pull::run(daemon, &args, &auth, format).await,
        ImageCommand::Rm(args) => remove::run(daemon, &args, format).await,
        ImageCommand::Check { reference } => check::run(daemon, &reference, format).await,
        ImageCommand::Pulls => pulls::run(daemon, format).await,
        ImageCommand::Verify(args) => verify::run(daemon, &args, &auth, format).await,
        ImageCommand::Export(args) => export::run(daemon, &args, format).await,
        ImageCommand::Inspect { images } => inspect::run(daemon, &images, format).await,
        ImageCommand::Import { file } => import::run(daemon, &file, format).await,
    }
}

#[cfg(test)]
mod tests;
