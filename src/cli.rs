//! The `pausa` command: `pausa serve` is the daemon, the other commands are for the administrator of the node.
//!
//! Exit codes are those of `failure`, so that a service manager knows which failures a restart does not fix, and a script what
//! to try next. An error is one line on stderr with all its causes.
//!
//! Must never: contain logic of the daemon. `serve` builds the modules in `services` and serves them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{self, CgroupDriver, Config, ConfigError, MetricsAddress, NetworkMode};
use crate::error::chain;

mod client;
mod complete;
mod configuration;
mod copy;
mod cpus;
mod debug;
mod doctor;
mod events;
mod exec;
mod failure;
mod image;
mod inspect;
mod list;
mod log_level;
mod logs;
mod migrate;
mod network;
mod objects;
mod output;
mod port_forward;
mod reload;
mod reset;
mod root;
mod screen;
mod selection;
mod serve;
pub(crate) mod services;
mod stats;
mod stop;
mod stream;
mod terminal;
mod top;
mod units;
mod watchdog;

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 failure, 2 something could not be checked, 64 wrong usage or configuration,
65 stored data is damaged, 66 no such image, pod or container, 69 the daemon is not running or too old for the command,
125 `exec`, `attach` or `debug` failed before there was an exit code of the container's.";

/// The variable by which a completion script says which shell asks.
const COMPLETE: &str = "PAUSA_COMPLETE";

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
    /// Print the configuration that `serve` would use, as TOML, or check, explain and compare it.
    Config(Box<configuration::ConfigArgs>),
    /// Show who runs on which CPUs of the node, and how busy they are.
    ///
    /// Neighbouring CPUs with the same owner are one line. Modes: `pinned` CPUs are a container's own; `given` ones were chosen by
    /// the client; `reserved` ones are never pinned; the others are the shared pool.
    Cpus(cpus::CpusArgs),
    /// Print what happens to pods and containers, as it happens.
    ///
    /// A line for each that is created, started, stopped or deleted from now on; of a container that stops, with its exit code
    /// and the reason. `-o json` prints a document a line. Ends with exit code 69 when the daemon stops.
    Events(events::EventsArgs),
    /// Show or set what the daemon logs, until its next reload or restart.
    LogLevel(log_level::LogLevelArgs),
    /// Show what pods and containers use, and what the daemon is doing, again and again.
    ///
    /// Rates are those since the print before. CPU is in CPUs. The waits are the share of the last ten seconds in which some task
    /// waited for a CPU, for memory or for a block device (PSI, cgroup v2). A column of which nothing is known is left out, and
    /// a narrow terminal does without some.
    Top(top::TopArgs),
    /// List containers.
    ///
    /// A name is NAMESPACE/POD/CONTAINER. The other commands take it, as much of its end as is unambiguous, or an id or the beginning
    /// of one.
    Ps(list::ListArgs),
    /// List pods.
    Pods(list::ListArgs),
    /// Show everything that is known of pods and containers.
    Inspect(inspect::InspectArgs),
    /// Print what a container has written.
    ///
    /// What it wrote to standard error goes to standard error. On a terminal, control characters are shown instead of obeyed, but for
    /// colours.
    Logs(logs::LogsArgs),
    /// Run a command in a container.
    ///
    /// Exits with the command's exit code, with 125 if pausa could not run it.
    Exec(exec::ExecArgs),
    /// Connect to what a container writes and reads.
    ///
    /// Ctrl-P Ctrl-Q leaves it running. Exits with the container's exit code when it ends, with 125 if pausa could not attach.
    Attach(exec::AttachArgs),
    /// Copy files and directories between a container and this node.
    ///
    /// The container must run, and needs no programs of its own.
    Cp(copy::CopyArgs),
    /// Start a container with tools beside another one, or a copy of one that crashes, and run a command in it.
    ///
    /// It is in the target's pod and sees its network and the target's processes, and it is removed when the command ends. kubelet leaves
    /// it alone. Exits with the command's exit code, with 125 if pausa could not run it.
    Debug(debug::DebugArgs),
    /// Stop containers and pods.
    Stop(stop::StopArgs),
    /// Remove containers and pods.
    Rm(stop::RemoveArgs),
    /// Show what containers use.
    Stats(stats::StatsArgs),
    /// Forward ports of this node to a pod, until interrupted.
    PortForward(port_forward::PortForwardArgs),
    /// Manage images.
    Image(image::ImageArgs),
    /// Translate the configuration of containerd or CRI-O.
    ///
    /// Prints pausa's configuration and what became of each key; writes it only with --write. What has no counterpart comes first, with
    /// what follows from it and what to do.
    Migrate(migrate::MigrateArgs),
    /// Find faults in the networks of pods.
    Network(network::NetworkArgs),
    /// Say what is wrong with this node for a container runtime, what that leads to, and what to do about it.
    ///
    /// Looks at the kernel, cgroups, kubelet's configuration, the network of pods, registries, DNS, file systems, limits, other
    /// runtimes, the unit and the daemon, which need not run. Changes nothing. Exit codes: 0 nothing is wrong, 1 something is,
    /// 2 something could not be checked.
    #[command(visible_alias = "check")]
    Doctor(doctor::DoctorArgs),
    /// End all pods of this node and remove what pausa has made on it, except images and configuration.
    ///
    /// For a node that gets another runtime, or a package that is removed. The daemon must be stopped (systemctl stop pausa); its
    /// containers run on until this command ends them, without a grace period: drain the node first. It removes pods with their
    /// containers, namespaces, mounts, cgroups and network attachments, then the rules and the bridge of the built-in network.
    /// Give the daemon's flags, if it has some. Safe to repeat.
    Reset(reset::ResetArgs),
    /// Print a completion script for a shell.
    ///
    /// For bash, for example: pausa completion bash > /etc/bash_completion.d/pausa
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command into a directory.
    #[command(hide = true)]
    Man {
        /// The directory; it must exist.
        directory: PathBuf,
    },
    /// Print the version.
    Version,
}

/// Flags that override the configuration.
#[derive(Debug, Default, Clone, Args)]
struct Flags {
    #[command(flatten)]
    socket: SocketFlags,
    /// Directory for data that survives a reboot [default: /var/lib/pausa].
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory for data that is lost on reboot [default: /run/pausa].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How pods are connected [default: cni].
    #[arg(long, value_enum)]
    network: Option<NetworkMode>,
    /// Directory of CNI configurations [default: /etc/cni/net.d].
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// Directory of CNI plugins; may be given more than once [default: /opt/cni/bin, /usr/lib/cni].
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: Vec<PathBuf>,
    /// Directory of registry configuration, HOST/hosts.toml for each host [default: /etc/pausa/certs.d].
    #[arg(long, value_name = "DIR")]
    registry_config_dir: Option<PathBuf>,
    /// The registries.conf of containers-registries.conf(5); "" for none [default: /etc/containers/registries.conf].
    #[arg(long, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
    /// What creates cgroups [default: auto].
    #[arg(long, value_enum)]
    cgroup_driver: Option<CgroupDriver>,
    /// Address to serve metrics on, address:port or unix:///path [default: no metrics].
    #[arg(long, value_name = "ADDRESS")]
    metrics_address: Option<MetricsAddress>,
    /// Log level: error, warn, info, debug, trace, or target=level directives [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Default, Clone, Args)]
struct SocketFlags {
    /// The configuration file; its drop-ins are in config.d in the same directory [default: /etc/pausa/config.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's socket [default: unix:///run/pausa/pausa.sock].
    #[arg(long, value_name = "unix:///PATH")]
    listen: Option<String>,
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    // Answers a shell's script, if it is that which runs this program, and ends.
    clap_complete::CompleteEnv::with_factory(Cli::command)
        .var(COMPLETE)
        .complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors too. If they cannot be printed, nothing can report it.
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::from(failure::EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // Other codes may be those of the command in the container.
    let own = matches!(
        cli.command,
        Command::Exec(_) | Command::Attach(_) | Command::Debug(_)
    )
    .then_some(failure::EXIT_NOT_RUN);
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => match failure::exit_code(&error) {
            Some(code) => {
                let code = own.map_or(code, ExitCode::from);
                output::print_stderr(&format!("pausa: {}", chain(error.as_ref())));
                code
            }
            None => ExitCode::SUCCESS,
        },
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Exec(args) => return exec::exec(&args),
        Command::Attach(args) => return exec::attach(&args),
        Command::Debug(args) => return debug::run(&args),
        Command::Serve(flags) => serve::run(flags),
        Command::Config(args) => configuration::run(*args),
        Command::Cpus(args) => cpus::run(&args),
        Command::Events(args) => events::run(&args),
        Command::LogLevel(args) => log_level::run(args),
        Command::Top(args) => top::run(&args),
        Command::Ps(args) => list::containers(&args),
        Command::Pods(args) => list::pods(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Cp(args) => copy::run(&args),
        Command::Stop(args) => stop::stop(&args),
        Command::Rm(args) => stop::remove(&args),
        Command::Stats(args) => stats::run(&args),
        Command::PortForward(args) => port_forward::run(&args),
        Command::Image(args) => image::run(args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Network(args) => network::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Reset(args) => reset::run(&args),
        Command::Completion { shell } => completion(shell),
        Command::Man { directory } => man(&directory),
        Command::Version => output::print(&format!("pausa {}\n", env!("CARGO_PKG_VERSION"))),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The script asks this program for what may come next, so that it knows the pods, containers and images that there are.
fn completion(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let shells = clap_complete::env::Shells::builtins();
    let shell = shell.to_string();
    let shell = shells
        .completer(&shell)
        .with_context(|| format!("there is no completion for {shell}"))?;
    let mut script = Vec::new();
    shell.write_registration(COMPLETE, "pausa", "pausa", "pausa", &mut script)?;
    output::print(&String::from_utf8(script)?)
}

/// Section 1 of the manual: pausa(1), pausa-serve(1), pausa-image-pull(1)…
fn man(directory: &Path) -> anyhow::Result<()> {
    let mut command = Cli::command();
    command.build();
    write_pages(&command, directory)
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
}

fn write_pages(command: &clap::Command, directory: &Path) -> std::io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let page = page.source(concat!("pausa ", env!("CARGO_PKG_VERSION")));
    page.manual("pausa").generate_to(directory)?;
    let mut below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.try_for_each(|below| write_pages(below, directory))
}

impl Flags {
    /// The configuration with these flags applied, validated.
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = config::load(self.socket.config.as_deref())?;
        self.clone().apply(&mut config);
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
