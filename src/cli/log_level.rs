//! `pausa log-level`: what the daemon logs, without a restart.

use clap::Args;

use super::client::{ClientFlags, Daemon, block_on};
use super::output::{escape, print};
use crate::proto::admin::LogLevelRequest;

#[derive(Debug, Args)]
pub(super) struct LogLevelArgs {
    #[command(flatten)]
    client: ClientFlags,
    /// error, warn, info, debug, trace, or directives such as `info,pausa::sandbox=debug`. Without, the level is shown.
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
}

pub(super) fn run(args: LogLevelArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let request = LogLevelRequest { level: args.level };
        let answer = daemon.admin().log_level(request).await;
        let answer = answer.map_err(daemon.failed("log levels"))?.into_inner();
        let configured = match answer.level == answer.configured {
            true => String::new(),
            false => format!(
                " until the next reload or restart; configured: {}",
                escape(&answer.configured)
            ),
        };
        print(&format!("{}{configured}\n", escape(&answer.level)))
    })
}
