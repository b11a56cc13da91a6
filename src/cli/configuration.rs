//! `pausa config`: the configuration that `serve` would use, and what is to be said about it.
//!
//! Must never: change anything.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use toml::Value;

use super::Flags;
use super::client::{Daemon, block_on};
use super::failure::CommandError;
use super::output::{Format, OutputFlags, Table, escape, print, print_json, print_stderr};
use crate::config::{self, Change, Config};
use crate::error::chain;
use crate::proto::admin::{ConfigChange, ConfigChangesRequest};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: Option<ConfigCommand>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration and print all errors.
    ///
    /// Exits with 64 if there are any. Keys that are valid and have no effect are warnings.
    Validate {
        /// The file to check, with the drop-ins of config.d beside it, instead of that of --config.
        #[arg(conflicts_with = "config")]
        file: Option<PathBuf>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Print the defaults, each key below its documentation.
    Default,
    /// Show what differs from the defaults, and from what the daemon runs with.
    ///
    /// The second part is what a reload would change, and what needs a restart. The daemon reads its files for it, with the
    /// flags it was started with. It is left out where no daemon runs.
    Diff {
        #[command(flatten)]
        flags: Flags,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Print the manual page pausa.toml(5).
    #[command(hide = true)]
    Manual,
}

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<()> {
    match args.command {
        None => print(&args.flags.config()?.to_toml()?),
        Some(ConfigCommand::Validate { file, mut flags }) => {
            if file.is_some() {
                flags.socket.config = file;
            }
            validate(flags)
        }
        Some(ConfigCommand::Default) => print(&config::default_toml()?),
        Some(ConfigCommand::Diff { flags, output }) => diff(&flags.config()?, output.format),
        Some(ConfigCommand::Manual) => print(&config::manual()),
    }
}

fn validate(flags: Flags) -> anyhow::Result<()> {
    let file = flags.socket.config.clone();
    let (mut config, mut errors) = config::load_all(file.as_deref());
    flags.apply(&mut config);
    errors.extend(config.wrong_values());
    for (change, why) in config.without_effect()? {
        print_stderr(&format!("warning: {} has no effect: {why}", escape(&change.key)));
    }
    for path in config::ignored(file.as_deref()) {
        let path = path.display().to_string();
        print_stderr(&format!(
            "warning: {} is ignored: only *.toml is read",
            escape(&path)
        ));
    }
    for error in &errors {
        print_stderr(&format!("error: {}", chain(error)));
    }
    match errors.len() {
        0 => print("The configuration is valid.\n"),
        errors => Err(CommandError::InvalidConfig { errors }.into()),
    }
}

/// What `-o json` prints. Values are as in TOML; one that is not set is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    defaults: Vec<FromDefault>,
    /// None if no daemon runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Vec<ConfigChange>>,
}

#[derive(Debug, Serialize)]
struct FromDefault {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl From<Change> for FromDefault {
    fn from(change: Change) -> Self {
        let text = |value: Option<Value>| value.map(|value| value.to_string());
        Self {
            key: change.key,
            default: text(change.old),
            value: text(change.new),
        }
    }
}

fn diff(config: &Config, format: Format) -> anyhow::Result<()> {
    let changes = config::changes(&Config::default(), config)?;
    let pending = match block_on(pending(config)) {
        Ok(pending) => Some(pending),
        Err(error) => match error.downcast_ref() {
            Some(CommandError::Unreachable { .. }) => None,
            _ => return Err(error),
        },
    };
    let defaults = changes.into_iter().map(Into::into).collect();
    let document = Document { defaults, pending };
    match format {
        Format::Json => print_json(&document),
        Format::Table => print(&text(document)),
    }
}

async fn pending(config: &Config) -> anyhow::Result<Vec<ConfigChange>> {
    let daemon = Daemon::connect(config.socket().to_owned()).await?;
    let answer = daemon.admin().config_changes(ConfigChangesRequest {}).await;
    let answer = answer.map_err(daemon.failed("changes of its configuration"))?;
    Ok(answer.into_inner().changes)
}

fn text(document: Document) -> String {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "not set".to_owned());
    let mut text = match document.defaults.is_empty() {
        true => "All keys have their defaults.\n".to_owned(),
        false => {
            let mut table = Table::new(["KEY", "DEFAULT", "VALUE"]);
            for key in document.defaults {
                table.row([key.key, shown(key.default), shown(key.value)]);
            }
            table.render()
        }
    };
    text += match &document.pending {
        None => "\nNo daemon runs.\n",
        Some(pending) if pending.is_empty() => "\nThe daemon runs with this configuration.\n",
        Some(_) => "\nThe daemon runs with another configuration:\n",
    };
    if let Some(pending) = document.pending.filter(|pending| !pending.is_empty()) {
        let mut table = Table::new(["KEY", "RUNNING", "FILES", "TAKES EFFECT WITH"]);
        for change in pending {
            let with = if change.needs_restart { "restart" } else { "reload" };
            table.row([
                change.key,
                shown(change.running),
                shown(change.files),
                with.to_owned(),
            ]);
        }
        text += &table.render();
    }
    text
}
