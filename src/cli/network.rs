//! `pausa network`: the networks of pods, for the administrator of the node.
//!
//! The daemon finds out what is wrong, because it knows the pods and runs their plugins; the command prints it.
//!
//! Must never: change anything, or look at the network itself.

use clap::{Args, Subcommand};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use super::client::{ClientFlags, Daemon, block_on};
use super::failure::CommandError;
use super::output::{Format, OutputFlags, escape, print, print_json};
use super::screen::{self, Line, Output};
use super::units;
use crate::proto::admin::{CheckNetworkRequest, CheckNetworkResponse, NetworkFinding, NetworkVerdict};

const RED: &str = "31";
const YELLOW: &str = "33";

#[derive(Debug, Args)]
pub(super) struct NetworkArgs {
    #[command(subcommand)]
    command: NetworkCommand,
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// Say what is wrong with the networks of pods, what that leads to, and what to do about it.
    ///
    /// Compares interfaces, addresses, routes, host ports, masquerading, MTU and resolv.conf with what the CNI plugins reported
    /// and with pausa's records, and runs CNI CHECK. Changes nothing and sends no packet. Exit codes: 0 all is well, 1 something
    /// is wrong, 2 it could not be checked; see also those of `pausa`.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The pod: its id or the beginning of it, its name, or NAMESPACE/NAME; all ready pods if none is given.
    #[arg(value_name = "POD", conflicts_with = "all")]
    pod: Option<String>,
    /// All ready pods.
    #[arg(long)]
    all: bool,
    /// Also what is right.
    #[arg(long, short)]
    verbose: bool,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Document {
    pods: Vec<CheckNetworkResponse>,
}

pub(super) fn run(args: NetworkArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        match args.command {
            NetworkCommand::Check(check) => run_check(&daemon, check, args.output.format).await,
        }
    })
}

async fn run_check(daemon: &Daemon, args: CheckArgs, format: Format) -> anyhow::Result<()> {
    let failed = |status| match daemon.failed("`pausa network check`")(status) {
        CommandError::Refused { message, .. } => CommandError::NotChecked { message },
        other => other,
    };
    let is_named = args.pod.is_some();
    let request = CheckNetworkRequest {
        pod: args.pod.unwrap_or_default(),
    };
    let answer = daemon.admin().check_network(request).await;
    let mut answer = answer.map_err(failed)?.into_inner();
    let coloured = Output::new().coloured;
    let mut tally = Tally::default();
    let mut document = Document { pods: Vec::new() };
    while let Some(mut pod) = answer.try_next().await.map_err(failed)? {
        tally.add(&pod, is_named);
        if !args.verbose {
            pod.findings
                .retain(|finding| finding.verdict() != NetworkVerdict::Ok);
        }
        match format {
            // One pod may take long: each is printed when it is known.
            Format::Table => print(&screen::text(&lines(&pod), coloured))?,
            Format::Json => document.pods.push(pod),
        }
    }
    if format == Format::Json {
        print_json(&document)?;
    }
    Ok(tally.verdict()?)
}

/// How many pods are how.
#[derive(Debug, Default)]
struct Tally {
    wrong: usize,
    unknown: usize,
}

impl Tally {
    fn add(&mut self, pod: &CheckNetworkResponse, is_named: bool) {
        let has = |verdict| pod.findings.iter().any(|finding| finding.verdict() == verdict);
        // Pods that come and go meanwhile were not asked for.
        let is_skipped = pod.skipped.is_some() && !pod.exempt && is_named;
        if has(NetworkVerdict::Problem) {
            self.wrong += 1;
        } else if is_skipped || has(NetworkVerdict::Unknown) || has(NetworkVerdict::Unspecified) {
            self.unknown += 1;
        }
    }

    fn verdict(&self) -> Result<(), CommandError> {
        match (self.wrong, self.unknown) {
            (0, 0) => Ok(()),
            (0, pods) => Err(CommandError::NotChecked {
                message: format!("the networks of {pods} pods could not be checked, or not in all respects"),
            }),
            (pods, _) => Err(CommandError::WrongNetworks { pods }),
        }
    }
}

fn lines(pod: &CheckNetworkResponse) -> Vec<Line> {
    let name = escape(&format!("{}/{}", pod.namespace, pod.pod));
    let id = units::id(&pod.pod_id, false);
    let count = |wanted: NetworkVerdict| {
        let found = pod.findings.iter().filter(|finding| finding.verdict() == wanted);
        found.count()
    };
    let summary = match &pod.skipped {
        Some(why) => format!("not checked: {}", escape(why)),
        None => {
            let counts = [
                (NetworkVerdict::Problem, "wrong"),
                (NetworkVerdict::Unknown, "not known"),
                (NetworkVerdict::Unspecified, "not known"),
                (NetworkVerdict::Warning, "doubtful"),
                (NetworkVerdict::Info, "to know"),
            ];
            let counts = counts.map(|(verdict, word)| (count(verdict), word));
            let counts = counts.iter().filter(|(count, _)| *count > 0);
            let counts: Vec<_> = counts.map(|(count, word)| format!("{count} {word}")).collect();
            match counts.is_empty() {
                true => "ok".to_owned(),
                false => counts.join(", "),
            }
        }
    };
    let mut lines = vec![Line::plain(format!("{name} ({id}): {summary}"))];
    lines.extend(pod.findings.iter().flat_map(of_finding));
    lines
}

fn of_finding(finding: &NetworkFinding) -> Vec<Line> {
    let verdict = finding.verdict();
    let style = match verdict {
        NetworkVerdict::Problem => RED,
        NetworkVerdict::Warning | NetworkVerdict::Unknown | NetworkVerdict::Unspecified => YELLOW,
        NetworkVerdict::Ok | NetworkVerdict::Info => "",
    };
    let head = format!("  {:<7}   {} {}", verdict.word(), finding.check, finding.object);
    if verdict == NetworkVerdict::Ok {
        return vec![Line::plain(escape(&format!("{head}: {}", finding.found)))];
    }
    let head = Line {
        text: escape(&head),
        style,
    };
    let details = [
        ("expected", &finding.expected),
        ("found", &finding.found),
        ("leads to", &finding.consequence),
        ("to do", &finding.remedy),
    ];
    let details = details.into_iter().filter(|(_, text)| !text.is_empty());
    let details =
        details.map(|(name, text)| Line::plain(format!("            {name:<8}   {}", escape(text))));
    std::iter::once(head).chain(details).collect()
}

#[cfg(test)]
mod tests;
