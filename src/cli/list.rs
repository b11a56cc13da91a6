//! `pausa ps` and `pausa pods`: what containers and pods there are.
//!
//! Both ask with CRI's plain calls, so that `--address` may name the socket of another runtime.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::client::{ClientFlags, Daemon, block_on};
use super::failure::CommandError;
use super::objects::{
    Objects, container_name, container_status, is_ready, is_running, pod_status, unless_removed,
};
use super::output::{self, Format, Table, print, print_json};
use super::screen::{self, Line, Output, Size};
use super::selection::Selection;
use super::units;
use crate::glob;
use crate::proto::json;
use crate::proto::v1;

/// Statuses that are asked for at the same time.
const AT_ONCE: usize = 16;

/// What is not known.
const NOTHING: &str = "-";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ListFormat {
    /// For people; it may change with any version.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// For programs: one document, which only ever gains fields.
    Json,
    /// The same document as YAML.
    Yaml,
    /// Names that the other commands take, one a line.
    Name,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    client: ClientFlags,
    /// Format: `table` and `wide` for people, `json` and `yaml` for programs, `name` for other commands.
    #[arg(
        id = "output",
        long = "output",
        short = 'o',
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    format: ListFormat,
    /// Those that do not run, too.
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    selection: Selection,
    /// Only those with this property; of several with the same key they have one, of several labels all. Keys: `id` (its beginning),
    /// `name`, `pod`, `namespace`, `image` (of containers), `state`, `label` (`KEY` or `KEY=VALUE`). `*` in a value stands for
    /// anything. A state includes those that do not run.
    #[arg(long = "filter", short, value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Print only complete ids, one per line.
    #[arg(long, short)]
    quiet: bool,
    /// Do not shorten ids.
    #[arg(long)]
    no_trunc: bool,
    /// Print again and again until interrupted.
    #[arg(long, short)]
    watch: bool,
    /// Seconds between two prints.
    #[arg(long, value_name = "SECONDS", default_value = "2", requires = "watch")]
    interval: NonZeroU32,
}

/// What `--filter` may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    Name,
    Pod,
    Namespace,
    Image,
    State,
    Label,
}

#[derive(Debug, Clone)]
struct Filter {
    key: Key,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE")?;
        let key = match key {
            "id" => Key::Id,
            "name" => Key::Name,
            "pod" => Key::Pod,
            "namespace" => Key::Namespace,
            "image" => Key::Image,
            "state" | "status" => Key::State,
            "label" => Key::Label,
            _ => return Err(format!("there is no key {key:?}; see --help")),
        };
        let value = value.to_owned();
        Ok(Self { key, value })
    }
}

/// What a pod or a container has that it can be chosen by.
#[derive(Debug)]
struct Properties<'a> {
    id: &'a str,
    name: &'a str,
    pod: &'a str,
    namespace: &'a str,
    /// Names and the id of its image; none of a pod.
    image: &'a [&'a str],
    state: &'a str,
    labels: &'a BTreeMap<String, String>,
}

impl ListArgs {
    fn wants(&self, is_alive: bool, of: &Properties<'_>) -> bool {
        let matches = |filter: &Filter| match filter.key {
            Key::Id => of.id.starts_with(&filter.value),
            Key::Name => glob::matches(&filter.value, of.name),
            Key::Pod => glob::matches(&filter.value, of.pod),
            Key::Namespace => glob::matches(&filter.value, of.namespace),
            Key::Image => of.image.iter().any(|name| glob::matches(&filter.value, name)),
            Key::State => glob::matches(&filter.value.to_ascii_lowercase(), of.state),
            Key::Label => match filter.value.split_once('=') {
                Some((key, value)) => of.labels.get(key).is_some_and(|set| glob::matches(value, set)),
                None => of.labels.contains_key(&filter.value),
            },
        };
        let with = |key| self.filters.iter().filter(move |filter| filter.key == key);
        let by_state = with(Key::State).next().is_some();
        let one_of = [
            Key::Id,
            Key::Name,
            Key::Pod,
            Key::Namespace,
            Key::Image,
            Key::State,
        ];
        (is_alive || self.all || by_state)
            && one_of
                .into_iter()
                .all(|key| with(key).next().is_none() || with(key).any(matches))
            && with(Key::Label).all(matches)
    }
}

/// What `pausa ps -o json` prints (`docs/operations.md`).
#[derive(Debug, Serialize)]
struct Containers {
    containers: Vec<ContainerView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerView {
    id: String,
    name: String,
    attempt: u32,
    namespace: String,
    pod: String,
    pod_id: String,
    state: &'static str,
    #[serde(serialize_with = "json::time")]
    created_at: i64,
    /// As the client that created it named it.
    image: String,
    image_id: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Of a container that has exited.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Exit {
    exit_code: i32,
    reason: String,
    #[serde(serialize_with = "json::time")]
    finished_at: i64,
}

/// What `pausa pods -o json` prints (`docs/operations.md`).
#[derive(Debug, Serialize)]
struct Pods {
    pods: Vec<PodView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodView {
    id: String,
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
    state: &'static str,
    #[serde(serialize_with = "json::time")]
    created_at: i64,
    handler: String,
    ips: Vec<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// How many containers run, and how many there are.
    running: usize,
    containers: usize,
}

pub(super) fn containers(args: &ListArgs) -> anyhow::Result<()> {
    show(
        args,
        &async |daemon: &Daemon| {
            let containers = list_containers(daemon, args).await?;
            Ok(Containers { containers })
        },
        |document| container_table(&document.containers, args),
        |document| {
            let name = |one: &ContainerView| {
                (
                    one.id.clone(),
                    format!("{}/{}/{}", one.namespace, one.pod, one.name),
                )
            };
            document.containers.iter().map(name).collect()
        },
    )
}

pub(super) fn pods(args: &ListArgs) -> anyhow::Result<()> {
    if args.filters.iter().any(|filter| filter.key == Key::Image) {
        let text = "--filter image=… is for containers: pods have no image".to_owned();
        return Err(CommandError::Usage(text).into());
    }
    show(
        args,
        &async |daemon: &Daemon| {
            let pods = list_pods(daemon, args).await?;
            Ok(Pods { pods })
        },
        |document| pod_table(&document.pods, args),
        |document| {
            let name = |one: &PodView| (one.id.clone(), format!("{}/{}", one.namespace, one.name));
            document.pods.iter().map(name).collect()
        },
    )
}

/// Prints what `ask` gives, once or again and again. `names` are pairs of an id and a name.
fn show<D: Serialize>(
    args: &ListArgs,
    ask: &impl AsyncFn(&Daemon) -> anyhow::Result<D>,
    lines: impl Fn(&D) -> Vec<Line>,
    names: impl Fn(&D) -> Vec<(String, String)>,
) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    let watched = match args.format {
        ListFormat::Json => Format::Json,
        ListFormat::Table | ListFormat::Wide => Format::Table,
        ListFormat::Yaml | ListFormat::Name if args.watch => {
            let text = "--watch prints tables or, with -o json, a document a line".to_owned();
            return Err(CommandError::Usage(text).into());
        }
        ListFormat::Yaml | ListFormat::Name => Format::Table,
    };
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        if args.watch {
            let lines = |document: &D, _| lines(document);
            return screen::watch_every(args.interval, watched, async || ask(&daemon).await, lines).await;
        }
        let document = ask(&daemon).await?;
        if args.quiet || args.format == ListFormat::Name {
            let lines = names(&document).into_iter();
            let lines: String = lines
                .map(|(id, name)| output::escape(if args.quiet { &id } else { &name }) + "\n")
                .collect();
            return print(&lines);
        }
        match args.format {
            ListFormat::Json => print_json(&document),
            ListFormat::Yaml => output::print_yaml(&document),
            ListFormat::Table | ListFormat::Wide | ListFormat::Name => {
                screen::page(&screen::text(&lines(&document), Output::new().coloured)).await
            }
        }
    })
}

async fn list_containers(daemon: &Daemon, args: &ListArgs) -> anyhow::Result<Vec<ContainerView>> {
    let objects = Objects::list(daemon).await?;
    let wanted = objects.containers.iter().filter_map(|container| {
        let pod = objects.pod_with(container);
        let metadata = pod.and_then(|pod| pod.metadata.clone()).unwrap_or_default();
        let image = container.image.as_ref();
        let named = image.map_or("", |image| &image.user_specified_image);
        let given = image.map_or("", |image| &image.image);
        let image_id = [&container.image_id, &container.image_ref]
            .into_iter()
            .find(|id| !id.is_empty());
        let image_id = image_id.map_or("", String::as_str);
        let view = ContainerView {
            id: container.id.clone(),
            name: container_name(container).to_owned(),
            attempt: container.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
            namespace: metadata.namespace,
            pod: metadata.name,
            pod_id: container.pod_sandbox_id.clone(),
            state: container.state().word(),
            created_at: container.created_at,
            image: if named.is_empty() { given } else { named }.to_owned(),
            image_id: image_id.to_owned(),
            labels: container.labels.clone(),
            annotations: container.annotations.clone(),
            exit: None,
        };
        let empty = BTreeMap::new();
        let of_pod = pod.map_or(&empty, |pod| &pod.labels);
        let is_wanted = args
            .selection
            .has(&view.namespace, &view.pod, &view.pod_id, of_pod)
            && args.wants(
                is_running(container),
                &Properties {
                    id: &view.id,
                    name: &view.name,
                    pod: &view.pod,
                    namespace: &view.namespace,
                    image: &[named, given, image_id],
                    state: view.state,
                    labels: &view.labels,
                },
            );
        is_wanted.then_some(view)
    });
    let wanted: Vec<ContainerView> = wanted.collect();
    // A list says nothing of an exit.
    let with_exits = stream::iter(wanted).map(async |view| match view.state {
        "exited" => with_exit(daemon, view).await,
        _ => Ok(view),
    });
    let with_exits: Vec<_> = with_exits.buffered(AT_ONCE).collect().await;
    Ok(with_exits.into_iter().collect::<Result<_, _>>()?)
}

async fn with_exit(daemon: &Daemon, mut view: ContainerView) -> Result<ContainerView, CommandError> {
    let status = unless_removed(container_status(daemon, &view.id).await)?;
    view.exit = status.map(|status| Exit {
        exit_code: status.exit_code,
        reason: status.reason,
        finished_at: status.finished_at,
    });
    Ok(view)
}

async fn list_pods(daemon: &Daemon, args: &ListArgs) -> anyhow::Result<Vec<PodView>> {
    let objects = Objects::list(daemon).await?;
    let wanted = objects.pods.iter().filter_map(|pod| {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let inside = || {
            objects
                .containers
                .iter()
                .filter(|one| one.pod_sandbox_id == pod.id)
        };
        let view = PodView {
            id: pod.id.clone(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            attempt: metadata.attempt,
            state: pod.state().word(),
            created_at: pod.created_at,
            handler: pod.runtime_handler.clone(),
            ips: Vec::new(),
            labels: pod.labels.clone(),
            annotations: pod.annotations.clone(),
            running: inside().filter(|one| is_running(one)).count(),
            containers: inside().count(),
        };
        let is_wanted = args
            .selection
            .has(&view.namespace, &view.name, &view.id, &pod.labels)
            && args.wants(
                is_ready(pod),
                &Properties {
                    id: &view.id,
                    name: &view.name,
                    pod: &view.name,
                    namespace: &view.namespace,
                    image: &[],
                    state: view.state,
                    labels: &view.labels,
                },
            );
        is_wanted.then_some(view)
    });
    let wanted: Vec<PodView> = wanted.collect();
    if !matches!(
        args.format,
        ListFormat::Wide | ListFormat::Json | ListFormat::Yaml
    ) {
        return Ok(wanted);
    }
    // A list says nothing of addresses.
    let with_ips = stream::iter(wanted).map(async |view| with_ips(daemon, view).await);
    let with_ips: Vec<_> = with_ips.buffered(AT_ONCE).collect().await;
    Ok(with_ips.into_iter().collect::<Result<_, _>>()?)
}

async fn with_ips(daemon: &Daemon, mut view: PodView) -> Result<PodView, CommandError> {
    if let Some(status) = unless_removed(pod_status(daemon, &view.id).await)? {
        view.ips = ips(status.network.unwrap_or_default());
    }
    Ok(view)
}

/// All addresses of a pod.
pub(super) fn ips(network: v1::PodSandboxNetworkStatus) -> Vec<String> {
    let others = network.additional_ips.into_iter().map(|ip| ip.ip);
    let ips = std::iter::once(network.ip).chain(others);
    ips.filter(|ip| !ip.is_empty()).collect()
}

const DIM: &str = "2";
const RED: &str = "31";

fn container_table(containers: &[ContainerView], args: &ListArgs) -> Vec<Line> {
    let mut table = Table::new([
        "CONTAINER",
        "NAME",
        "STATE",
        "ATTEMPT>",
        "AGE>",
        "IMAGE",
        "POD ID",
        "IMAGE ID",
    ]);
    for one in containers {
        let state = match &one.exit {
            Some(exit) if exit.reason.is_empty() || exit.reason == "Completed" => {
                format!("exited {}", exit.exit_code)
            }
            Some(exit) => format!("exited {} ({})", exit.exit_code, exit.reason),
            None => one.state.to_owned(),
        };
        table.row([
            units::id(&one.id, args.no_trunc),
            format!("{}/{}/{}", one.namespace, one.pod, one.name),
            state,
            one.attempt.to_string(),
            age(one.created_at),
            one.image.clone(),
            units::id(&one.pod_id, args.no_trunc),
            units::id(&one.image_id, args.no_trunc),
        ]);
    }
    let styles = containers.iter().map(|one| match (&one.exit, one.state) {
        (Some(exit), _) if exit.exit_code != 0 => RED,
        (_, "running") => "",
        _ => DIM,
    });
    finish(
        table,
        args,
        &["POD ID", "IMAGE ID"],
        &["ATTEMPT>", "IMAGE"],
        styles,
    )
}

fn pod_table(pods: &[PodView], args: &ListArgs) -> Vec<Line> {
    let mut table = Table::new([
        "POD",
        "NAME",
        "STATE",
        "CONTAINERS>",
        "ATTEMPT>",
        "AGE>",
        "ADDRESSES",
        "HANDLER",
        "UID",
    ]);
    for one in pods {
        let or_nothing = |text: String| if text.is_empty() { NOTHING.to_owned() } else { text };
        table.row([
            units::id(&one.id, args.no_trunc),
            format!("{}/{}", one.namespace, one.name),
            one.state.to_owned(),
            format!("{}/{}", one.running, one.containers),
            one.attempt.to_string(),
            age(one.created_at),
            or_nothing(one.ips.join(", ")),
            or_nothing(one.handler.clone()),
            or_nothing(one.uid.clone()),
        ]);
    }
    let styles = pods.iter().map(|one| if one.state == "ready" { "" } else { DIM });
    finish(
        table,
        args,
        &["ADDRESSES", "HANDLER", "UID"],
        &["ATTEMPT>"],
        styles,
    )
}

/// The table without those columns that were not asked for or have no room.
fn finish<const N: usize>(
    mut table: Table<N>,
    args: &ListArgs,
    wide: &[&'static str],
    expendable: &[&'static str],
    styles: impl Iterator<Item = &'static str>,
) -> Vec<Line> {
    if args.format != ListFormat::Wide {
        table.hide(wide);
        if let Some(size) = Size::of_stdout() {
            table.fit(size.columns, expendable);
        }
    }
    Line::of_table(&table.render(), styles)
}

fn age(created_at: i64) -> String {
    let passed = u64::try_from(crate::state::now().saturating_sub(created_at)).unwrap_or(0);
    units::duration(Duration::from_nanos(passed))
}

#[cfg(test)]
mod tests;
