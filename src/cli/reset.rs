//! `pausa reset`: takes the place of a stopped daemon, ends all pods and removes what they shared.
//!
//! It holds the daemon's socket meanwhile, so that no daemon starts and nobody makes new pods.
//!
//! Must never: run beside a daemon, or remove images or configuration.

use clap::Args;

use super::Flags;
use super::failure::CommandError;
use super::output::{escape, print, print_stderr};
use super::services::build_services;
use crate::config::Tracing;
use crate::cri::server;
use crate::telemetry;

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    /// Confirms that all pods may end.
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &ResetArgs) -> anyhow::Result<()> {
    let log_level = args.flags.log_level.clone();
    let mut config = args.flags.config()?;
    if !args.force {
        let text = "this ends all pods of the node at once; drain it first, then add --force".to_owned();
        return Err(CommandError::Usage(text).into());
    }
    // What is found and removed is told at the end.
    config.log.level = log_level.unwrap_or_else(|| "error".to_owned());
    config.sandbox.warm = 0;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        telemetry::init(&config.log, &Tracing::default())?;
        let _socket = server::bind(config.socket()).await?;
        let (pods, greetings) = build_services(&config).await?;
        // Ended by a panic, it has ended all the same.
        drop(greetings.await);
        let done = pods.reset().await;
        pods.images().close();
        pods.services().store.flush();
        print(&format!("removed {} pods\n", done.removed))?;
        let root = config.root.display();
        print(&format!("left: images and copies of records in {root}\n"))?;
        for failure in &done.failed {
            print_stderr(&format!("pausa: {}", escape(failure)));
        }
        match done.failed.len() {
            0 => Ok(()),
            failed => Err(CommandError::Some {
                failed,
                all: failed + done.removed,
            }
            .into()),
        }
    })
}
