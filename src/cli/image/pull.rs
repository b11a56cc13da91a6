//! `pausa image pull`: asks the daemon to fetch an image, and shows the progress.

use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::progress::Display;
use super::view::{self, ImageView, split_digest};
use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, print, print_json};
use crate::cli::units;
use crate::proto::admin::pull_response::Event;
use crate::proto::admin::{PullRequest, PullResponse};
use crate::proto::v1;

mod credentials;

pub(in crate::cli) use credentials::Auth;
pub(super) use credentials::CredentialArgs;

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// The image: a name with a tag or a digest; the tag is `latest` if there is neither.
    #[arg(value_name = "IMAGE")]
    reference: String,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// Print only the image's id, and no progress.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    image: ImageView,
    /// Digest of the manifest.
    digest: Option<String>,
    seconds: f64,
}

impl PullArgs {
    /// Credentials from the command line or from standard input.
    pub(super) fn credentials(&self) -> anyhow::Result<Auth> {
        self.credentials.read()
    }
}

pub(super) async fn run(daemon: &Daemon, args: &PullArgs, auth: &Auth, format: Format) -> anyhow::Result<()> {
    let began = Instant::now();
    let id = fetch(daemon, &args.reference, auth, !args.quiet).await?;
    let took = began.elapsed();
    if args.quiet {
        return print(&format!("{id}\n"));
    }
    // It may have been removed since.
    let Some((image, _)) = view::find(daemon, &id, false).await? else {
        return Err(CommandError::NoImage { names: vec![id] }.into());
    };
    let digest = digest(&image, &args.reference);
    match format {
        Format::Json => print_json(&Document {
            image,
            digest,
            seconds: took.as_secs_f64(),
        }),
        Format::Table => {
            let digest = digest.as_deref().unwrap_or("without a digest");
            let size = units::size(image.size);
            print(&format!(
                "{}@{digest}\nid {id}, {size} on disk, in {}\n",
                repository(&args.reference),
                units::duration(took)
            ))
        }
    }
}

/// Pulls `reference` and returns the image's id. Shows the progress if `shown`.
pub(in crate::cli) async fn fetch(
    daemon: &Daemon,
    reference: &str,
    auth: &Auth,
    shown: bool,
) -> anyhow::Result<String> {
    let auth = auth.of(reference).await?;
    let request = PullRequest {
        reference: reference.to_owned(),
        credentials: auth.clone(),
    };
    let failed = daemon.failed("`image pull`");
    let mut events = match daemon.admin().pull(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => match failed(status) {
            CommandError::TooOld { .. } => return Ok(pull_image(daemon, reference, auth).await?),
            error => return Err(error.into()),
        },
    };
    let mut display = shown.then(Display::new);
    let ended = loop {
        match events.message().await {
            Ok(Some(PullResponse { event })) => match event {
                Some(Event::Progress(progress)) => {
                    if let Some(display) = &mut display {
                        display.show(&progress);
                    }
                }
                Some(Event::Done(image)) => break Ok(image.id),
                // Sent by a newer daemon.
                None => {}
            },
            Ok(None) => break Err(daemon.truncated("`image pull`")),
            Err(status) => break Err(failed(status)),
        }
    };
    if let Some(display) = &display {
        display.clear();
    }
    Ok(ended?)
}

/// Pulls with CRI's PullImage, which reports no progress.
async fn pull_image(
    daemon: &Daemon,
    reference: &str,
    auth: Option<v1::AuthConfig>,
) -> Result<String, CommandError> {
    let request = v1::PullImageRequest {
        image: Some(view::spec(reference)),
        auth,
        sandbox_config: None,
    };
    let answer = daemon.images().pull_image(request).await;
    Ok(answer.map_err(daemon.failed("PullImage"))?.into_inner().image_ref)
}

/// `host/repository` of a reference. A text that is none is returned as it is; the daemon refuses to pull it.
fn repository(reference: &str) -> String {
    let parsed = reference.parse::<pausa_distribution::Reference>();
    parsed.map_or_else(|_| reference.to_owned(), |reference| reference.name())
}

/// The manifest's digest under the name that was pulled: the image may have digests of earlier pulls under other names.
fn digest(image: &ImageView, reference: &str) -> Option<String> {
    let repository = repository(reference);
    let digests = image.repo_digests.iter().map(|name| split_digest(name));
    // The latest comes last.
    let mut own = digests.rev().filter(|(name, _)| *name == repository);
    own.next().and_then(|(_, digest)| digest).map(str::to_owned)
}

#[cfg(test)]
mod tests;
