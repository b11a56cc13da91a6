//! `pausa doctor`: what is wrong with this node for a container runtime, with or without a running daemon.
//!
//! ```text
//!   node, kubelet, registries, daemon ─▶ read ─▶ facts ─▶ decide ─▶ findings ─▶ table, JSON, support bundle
//! ```
//!
//! Each module below is one subject. Its `read` looks, its `decide` is a pure function of what was seen. What could not be
//! looked at is a finding, too: nothing fails the command but its usage.
//!
//! Must never: change anything on the node but the file of the support bundle, attach a network, or wait without a limit.

mod bundle;
mod cgroups;
mod daemon;
mod dns;
mod finding;
mod kernel;
mod kubelet;
mod leftovers;
mod limits;
mod lsm;
mod network;
mod process;
mod redact;
mod registries;
mod storage;
mod unit;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use clap::{Args, Parser as _};
use serde::Serialize;

use self::bundle::{Bundle, Contents};
use self::finding::{Check, Finding, Verdict};
use super::client::{ClientFlags, block_on};
use super::failure::CommandError;
use super::output::{Format, OutputFlags, escape, print, print_json, print_stderr};
use super::screen::{self, Line, Output};
use super::{Cli, Command};
use crate::cgroups::blockio::Classes;
use crate::config::{self, Config, CpuPinning, SecretFile};
use crate::error::chain;
use crate::oci::Host;

const RED: &str = "31";
const YELLOW: &str = "33";
/// How long file systems may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    output: OutputFlags,
    /// kubelet's configuration file [default: that of the running kubelet, or /var/lib/kubelet/config.yaml].
    #[arg(long, value_name = "FILE")]
    kubelet_config: Option<PathBuf>,
    /// Another registry to ask, beside those that are configured; may be given more than once.
    #[arg(long, value_name = "HOST")]
    registry: Vec<String>,
    /// Ask no registry and look up no name.
    #[arg(long)]
    offline: bool,
    /// Also what is well.
    #[arg(long, short)]
    verbose: bool,
    /// Write what somebody who helps needs into a new file, a .tar.gz without secrets.
    #[arg(long, value_name = "FILE")]
    support_bundle: Option<PathBuf>,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    time: String,
    versions: &'a BTreeMap<&'static str, String>,
    /// Where the configuration is from.
    config: &'a str,
    summary: Summary,
    findings: &'a [Finding],
}

/// How many findings there are of each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Summary {
    ok: usize,
    info: usize,
    warning: usize,
    unknown: usize,
    problem: usize,
}

impl Summary {
    fn of(findings: &[Finding]) -> Self {
        let mut summary = Self::default();
        for finding in findings {
            *match finding.verdict {
                Verdict::Ok => &mut summary.ok,
                Verdict::Info => &mut summary.info,
                Verdict::Warning => &mut summary.warning,
                Verdict::Unknown => &mut summary.unknown,
                Verdict::Problem => &mut summary.problem,
            } += 1;
        }
        summary
    }

    fn verdict(self) -> Result<(), CommandError> {
        match (self.problem, self.unknown) {
            (0, 0) => Ok(()),
            (0, unknown) => Err(CommandError::NotChecked {
                message: format!("{unknown} checks could not be done"),
            }),
            (problems, _) => Err(CommandError::WrongNode { problems }),
        }
    }
}

/// The configuration that the checks go by.
#[derive(Debug)]
struct Loaded {
    config: Config,
    origin: String,
    finding: Finding,
}

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let address = args.client.address()?;
    // A name that is taken is known before everything is looked at.
    let bundle = args.support_bundle.as_deref().map(Bundle::create).transpose()?;
    block_on(async {
        let mut loaded = load(args.client.config());
        let path = address.unwrap_or_else(|| loaded.config.socket().to_owned());
        let socket = daemon::socket(&path).await;
        if args.client.config().is_none()
            && let Some(of_daemon) = socket.pid.and_then(of_daemon)
        {
            loaded = of_daemon;
        }
        let Loaded {
            config,
            origin,
            finding,
        } = loaded;
        let mut findings = vec![finding];
        if !rustix::process::geteuid().is_root() {
            findings.push(Finding::new(
                Check::Root,
                Verdict::Unknown,
                "this user is not root",
            ));
        }
        findings.extend(files(&config));

        let answers = async {
            match socket.refused.is_none() {
                true => Some(daemon::ask(&socket).await),
                false => None,
            }
        };
        let registries = async {
            let facts = registries::read(&config, &args.registry, args.offline).await;
            let lookups = dns::look_up(facts.hosts()).await;
            (facts, lookups)
        };
        let (answers, (registries, lookups), network) =
            tokio::join!(answers, registries, network::read(&config));
        let runs = socket.refused.is_none();
        let processes = process::all();
        let kubelet = kubelet::read(args.kubelet_config.as_deref(), &processes);
        let kernel = kernel::read();

        findings.extend(daemon::decide_socket(&socket));
        match &answers {
            Some(Ok(answers)) => findings.extend(daemon::decide(answers, env!("CARGO_PKG_VERSION"))),
            Some(Err(error)) => findings.push(Finding::new(
                Check::DaemonCri,
                Verdict::Problem,
                format!("it does not answer: {error}"),
            )),
            None => {}
        }
        let unit = unit::read();
        if let Some(unit) = &unit {
            findings.extend(unit::decide(unit, runs));
        }
        findings.extend(kernel::decide(&kernel, config.network.mode));
        let cgroups = cgroups::read(config.cgroup_driver);
        findings.extend(cgroups::decide(&cgroups));
        findings.extend(kubelet::decide(
            &kubelet,
            &kubelet::Surroundings {
                socket: &path,
                driver: cgroups.driver.as_ref().ok().copied(),
                pins: config.cpu.pinning == CpuPinning::Static,
                swap: storage::swaps(),
                has_resolv_conf: Path::new(kubelet.settings.resolv_conf()).exists(),
                addresses: network
                    .subnet
                    .as_ref()
                    .map(|(range, of)| (network::addresses(*range), of.clone())),
                sysctls: limits::kernel_defaults(),
            },
        ));
        findings.extend(network::decide(&network));
        let mut names = dns::read(kubelet.settings.resolv_conf(), kubelet.source.is_some());
        names.spare = registries.spare();
        names.lookups = lookups;
        findings.extend(dns::decide(&names));
        let unknown = names.lookups.iter().filter(|(_, found)| found.is_err());
        let unknown = unknown.map(|(name, _)| name.clone()).collect();
        findings.extend(registries::decide(&registries, &unknown));
        findings.extend(match in_time(config.clone(), |config| storage::read(&config)) {
            Some(storage) => storage::decide(&storage, &kubelet.settings.eviction_hard),
            None => vec![storage::hangs(&config)],
        });
        findings.extend(limits::decide(&limits::read()));
        findings.extend(lsm::decide(&lsm::read(&config), runs));
        let leftovers = leftovers::read(&config, &processes, unit::others());
        findings.extend(leftovers::decide(&leftovers, &path));

        let mut versions = BTreeMap::from([
            ("pausa", env!("CARGO_PKG_VERSION").to_owned()),
            ("kernel", kernel.release),
        ]);
        if let Some(Ok(answers)) = &answers {
            versions.insert("daemon", answers.version.1.clone());
        }
        if let Some((major, minor)) = kubelet.version {
            versions.insert("kubelet", format!("{major}.{minor}"));
        }
        let summary = Summary::of(&findings);
        let document = Document {
            time: jiff::Timestamp::now().to_string(),
            versions: &versions,
            config: &origin,
            summary,
            findings: &findings,
        };
        if let Some(bundle) = bundle {
            let contents = Contents {
                config: &config,
                document: serde_json::to_value(&document)?,
                answers: answers.as_ref().and_then(|answers| answers.as_ref().ok()),
                kubelet: kubelet
                    .source
                    .as_deref()
                    .map(Path::new)
                    .filter(|path| path.is_file()),
            };
            let entries = bundle.write(&contents)?;
            let path = args.support_bundle.as_deref().unwrap_or_else(|| Path::new(""));
            print_stderr(&format!(
                "wrote {} files without secrets to {}; look at it before you send it",
                entries.len(),
                path.display()
            ));
        }
        match args.output.format {
            Format::Json => print_json(&document)?,
            Format::Table => print(&screen::text(
                &lines(&findings, args.verbose),
                Output::new().coloured,
            ))?,
        }
        Ok(summary.verdict()?)
    })
}

/// Runs what may hang on a dead file system on a thread of its own; none if it takes too long.
fn in_time<A: Send + 'static, T: Send + 'static>(given: A, work: fn(A) -> T) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    // It ends with the program.
    std::thread::spawn(move || sender.send(work(given)).ok());
    receiver.recv_timeout(PATIENCE).ok()
}

/// The configuration of the files.
fn load(path: Option<&Path>) -> Loaded {
    let origin = path
        .unwrap_or_else(|| Path::new(config::DEFAULT_PATH))
        .display()
        .to_string();
    let read = config::load(path);
    let (config, error) = match read {
        Ok(config) => {
            let error = config.validate().err();
            (config, error)
        }
        // The other checks go by the defaults.
        Err(error) => (Config::default(), Some(error)),
    };
    Loaded {
        config,
        finding: judged(&origin, error.as_ref().map(|error| chain(error))),
        origin,
    }
}

/// The configuration that a running daemon would have now: its own command line, and the files as they are.
fn of_daemon(pid: i32) -> Option<Loaded> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let words = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned());
    let Ok(Cli {
        command: Command::Serve(flags),
    }) = Cli::try_parse_from(words)
    else {
        return None;
    };
    let origin = format!("the command line of process {pid}");
    let path = flags.socket.config.clone();
    Some(match flags.config() {
        Ok(config) => Loaded {
            config,
            finding: judged(&origin, None),
            origin,
        },
        Err(error) => Loaded {
            finding: judged(&origin, Some(chain(&error))),
            origin,
            ..load(path.as_deref())
        },
    })
}

fn judged(origin: &str, error: Option<String>) -> Finding {
    match error {
        None => Finding::new(Check::ConfigValid, Verdict::Ok, format!("{origin} is valid")),
        Some(error) => Finding::new(Check::ConfigValid, Verdict::Problem, error),
    }
}

/// The files that the configuration names.
fn files(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |key: &str, path: &Path, outcome: Result<(), String>| {
        let (verdict, found) = match outcome {
            Ok(()) => (Verdict::Ok, format!("{key}: {} can be used", path.display())),
            Err(error) => (Verdict::Problem, format!("{key}: {error}")),
        };
        findings.push(Finding::new(Check::ConfigFiles, verdict, found));
    };
    let plain = [
        ("auth_file in [images]", &config.images.auth_file),
        ("cert in [streaming]", &config.streaming.cert),
        ("key in [streaming]", &config.streaming.key),
    ];
    for (key, path) in plain {
        // A credential of systemd is only there for the daemon, which does not start without it.
        if let Some(SecretFile::Path(path)) = path {
            let opened = fs::File::open(path).map(drop);
            add(
                key,
                path,
                opened.map_err(|error| format!("{}: {error}", path.display())),
            );
        }
    }
    if let Some(path) = &config.seccomp.default_profile {
        let read = Host::probe().read_seccomp_default(path);
        add(
            "default_profile in [seccomp]",
            path,
            read.map_err(|error| chain(&error)),
        );
    }
    if let Some(path) = &config.blockio.config_file {
        let read = Classes::read(path).map(drop);
        add(
            "config_file in [blockio]",
            path,
            read.map_err(|error| chain(&error)),
        );
    }
    findings
}

/// The number in a file of `/proc`.
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What is wrong comes first.
fn lines(findings: &[Finding], verbose: bool) -> Vec<Line> {
    let shown = findings
        .iter()
        .filter(|finding| verbose || finding.verdict != Verdict::Ok);
    let mut shown: Vec<&Finding> = shown.collect();
    shown.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    let mut lines: Vec<Line> = shown.into_iter().flat_map(of_finding).collect();
    let summary = Summary::of(findings);
    let counts = [
        (summary.problem, "wrong"),
        (summary.unknown, "not known"),
        (summary.warning, "doubtful"),
        (summary.info, "to know"),
        (summary.ok, "well"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    let style = match summary {
        Summary { problem: 1.., .. } => RED,
        Summary { unknown: 1.., .. } | Summary { warning: 1.., .. } => YELLOW,
        _ => "",
    };
    let text = format!("{} findings: {}", findings.len(), counts.join(", "));
    lines.push(Line { text, style });
    lines
}

fn of_finding(finding: &Finding) -> Vec<Line> {
    let style = match finding.verdict {
        Verdict::Problem => RED,
        Verdict::Warning | Verdict::Unknown => YELLOW,
        Verdict::Ok | Verdict::Info => "",
    };
    let head = format!("{:<7}   {}", finding.verdict.word(), finding.check.id());
    let found = escape(&finding.found);
    if finding.verdict == Verdict::Ok {
        return vec![Line::plain(format!("{head}: {found}"))];
    }
    let details = [
        ("found", found.as_str()),
        ("leads to", finding.consequence()),
        ("to do", finding.to_do()),
    ];
    let details = details.map(|(name, text)| Line::plain(format!("          {name:<8}   {text}")));
    std::iter::once(Line { text: head, style })
        .chain(details)
        .collect()
}

#[cfg(test)]
mod tests;
