//! `pausa image`: what a node's owner does with images.
//!
//! Every command asks the daemon over its socket, prints its answer as a table or, with `-o json`, as one document, and ends with
//! a code of [`super::failure`]. The documents are described in `docs/operations.md`.
//!
//! Must never: touch the image store itself, or decide what the daemon has to decide.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::{ClientFlags, Daemon};
use super::output::Format;

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

/// `pausa image` and what all its commands understand.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
    #[command(flatten)]
    client: ClientFlags,
    /// How to print the result: `table` for people, `json` for programs.
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// List images.
    #[command(visible_alias = "list")]
    Ls(list::ListArgs),
    /// Fetch an image from its registry; prints its digest.
    ///
    /// Progress goes to stderr: a bar for each layer on a terminal, elsewhere a line every few seconds. If the command is
    /// interrupted, the daemon goes on; the same command joins it.
    Pull(pull::PullArgs),
    /// Remove images with all their names.
    ///
    /// An image that a container uses loses its names; its data goes with the last of these containers.
    Rm(remove::RemoveArgs),
    /// List the pulls and imports in flight.
    Pulls,
    /// Tell where a reference leads: which registries and mirrors a pull would ask, and why. Asks none of them.
    Check {
        /// The image.
        #[arg(value_name = "IMAGE")]
        reference: String,
    },
    /// Read images again and say what is damaged; all of them, if none is named.
    ///
    /// Takes seconds to minutes. Ends with 65 if something is damaged.
    Verify(verify::VerifyArgs),
    /// Write images into one archive, an OCI layout that `docker load` reads too.
    Export(export::ExportArgs),
    /// Show everything about images, their configuration included.
    Inspect {
        /// References, ids or beginnings of ids.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Store every image of an archive (OCI layout or `docker save`), and print ids and names.
    Import {
        /// The archive, a tar, compressed or not; `-` is standard input.
        file: PathBuf,
    },
}

/// Runs a command on images.
pub(super) fn run(args: ImageArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(dispatch(socket, args.command, args.output))
}

async fn dispatch(socket: PathBuf, command: ImageCommand, format: Format) -> anyhow::Result<()> {
    // What the command line says is judged before anybody is asked.
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
