//! The `pausa` command: the daemon, and what the node's owner asks of it.
//!
//! Exit codes are those of [`failure`], so that a service manager can tell what a restart will not mend, and a script what to
//! try next. An error is one line on stderr with all its causes.
//!
//! Must never: hold logic of its own. `serve` puts the rooms together in [`services::build_services`] and
//! opens the door.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{self, CgroupDriver, Config, ConfigError, MetricsAddress, NetworkMode};
use crate::error::chain;

mod client;
mod failure;
mod image;
mod output;
mod serve;
pub(crate) mod services;
mod units;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 64 wrong usage or configuration, 65 stored data is damaged,
66 no such image, 69 the daemon is not there or too old for the command.";

/// A container runtime for Kubernetes nodes.
#[derive(Debug, Parser)]
#[command(name = "pausa", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(Flags),
    /// Print the configuration `serve` would run with, as TOML.
    Config {
        /// Print the defaults instead, whatever is configured.
        #[arg(long)]
        defaults: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Work on images.
    Image(image::ImageArgs),
    /// Print a script that completes commands and flags in a shell.
    ///
    /// For bash, for example: pausa completion bash > /etc/bash_completion.d/pausa
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// What the command line can say about the configuration.
#[derive(Debug, Default, Args)]
struct Flags {
    #[command(flatten)]
    socket: SocketFlags,
    /// Directory of what outlives a reboot [default: /var/lib/pausa].
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory of what matters until reboot [default: /run/pausa].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How pods are connected [default: cni].
    #[arg(long, value_enum)]
    network: Option<NetworkMode>,
    /// Directory of CNI configurations [default: /etc/cni/net.d].
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// Directory of CNI plugins; give it again for more [default: /opt/cni/bin, /usr/lib/cni].
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: Vec<PathBuf>,
    /// Directory of registry hosts [default: /etc/pausa/certs.d].
    #[arg(long, value_name = "DIR")]
    registry_config_dir: Option<PathBuf>,
    /// The registries.conf(5) of containers tools; "" for none [default: /etc/containers/registries.conf].
    #[arg(long, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
    /// Who makes cgroups [default: auto].
    #[arg(long, value_enum)]
    cgroup_driver: Option<CgroupDriver>,
    /// Where metrics are served, address:port or unix:///path [default: nowhere].
    #[arg(long, value_name = "ADDRESS")]
    metrics_address: Option<MetricsAddress>,
    /// error, warn, info, debug, trace, or target=level directives [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Where the configuration and the daemon are.
#[derive(Debug, Default, Args)]
struct SocketFlags {
    /// The configuration file [default: /etc/pausa/config.toml]; drop-ins are in config.d beside it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's socket [default: unix:///run/pausa/pausa.sock].
    #[arg(long, value_name = "unix:///PATH")]
    listen: Option<String>,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version arrive here too. Nothing is left to do when the terminal is gone.
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::from(failure::EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match failure::exit_code(&error) {
            Some(code) => {
                output::tell(&format!("pausa: {}", chain(error.as_ref())));
                code
            }
            None => ExitCode::SUCCESS,
        },
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(flags) => serve::run(flags.config()?),
        Command::Config { defaults, flags } => {
            let config = if defaults {
                Config::default()
            } else {
                flags.config()?
            };
            output::print(&config.to_toml()?)
        }
        Command::Image(args) => image::run(args),
        Command::Completion { shell } => completion(shell),
        Command::Version => output::print(&format!("pausa {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn completion(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pausa", &mut script);
    output::print(&String::from_utf8(script)?)
}

impl Flags {
    /// The configuration with these flags over it, judged.
    fn config(self) -> Result<Config, ConfigError> {
        let mut config = config::load(self.socket.config.as_deref())?;
        self.apply(&mut config);
        config.validate()?;
        Ok(config)
    }

    fn apply(self, config: &mut Config) {
        set(&mut config.listen, self.socket.listen);
        set(&mut config.root, self.root);
        set(&mut config.state, self.state);
        set(&mut config.network.mode, self.network);
        set(&mut config.cni.conf_dir, self.cni_conf_dir);
        set(
            &mut config.cni.bin_dir,
            Some(self.cni_bin_dir).filter(|dirs| !dirs.is_empty()),
        );
        set(&mut config.registry_config_dir, self.registry_config_dir);
        set(&mut config.registries_conf, self.registries_conf);
        set(&mut config.cgroup_driver, self.cgroup_driver);
        set(&mut config.metrics.address, self.metrics_address.map(Some));
        set(&mut config.log.level, self.log_level);
    }
}

fn set<T>(to: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *to = value;
    }
}

#[cfg(test)]
mod tests;
