//! `pausa stop` and `pausa rm`: ends and removes containers and pods.
//!
//! A pod is stopped and removed with all its containers. kubelet starts again what belongs to it: these commands are for a node
//! without kubelet, and for what kubelet has forgotten.

use clap::Args;
use clap_complete::ArgValueCompleter;
use futures_util::{StreamExt as _, stream};

use super::client::{ClientFlags, Daemon, block_on};
use super::complete;
use super::failure::CommandError;
use super::objects::{Object, Objects, is_ready, is_running};
use super::output::{print, print_stderr};
use crate::error::chain;
use crate::proto::v1::{
    RemoveContainerRequest, RemovePodSandboxRequest, StopContainerRequest, StopPodSandboxRequest,
};

/// Objects that are ended at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    client: ClientFlags,
    /// Seconds that a container gets to end by itself before it is killed.
    #[arg(long, short, value_name = "SECONDS", default_value = "10")]
    time: u32,
    /// All pods with their containers.
    #[arg(long, short, conflicts_with = "targets")]
    all: bool,
    /// Pods (NAMESPACE/POD, POD) and containers (NAMESPACE/POD/CONTAINER or the end of it), by names or beginnings of ids.
    #[arg(required_unless_present = "all", value_name = "TARGET", add = ArgValueCompleter::new(complete::objects))]
    targets: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    client: ClientFlags,
    /// Kill what runs.
    #[arg(long, short)]
    force: bool,
    /// All pods with their containers; without --force those that do not run.
    #[arg(long, short, conflicts_with = "targets")]
    all: bool,
    /// Pods (NAMESPACE/POD, POD) and containers (NAMESPACE/POD/CONTAINER or the end of it), by names or beginnings of ids.
    #[arg(required_unless_present = "all", value_name = "TARGET", add = ArgValueCompleter::new(complete::objects))]
    targets: Vec<String>,
}

pub(super) fn stop(args: &StopArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let targets = match args.all {
            true => objects
                .pods
                .iter()
                .filter(|pod| is_ready(pod))
                .map(Object::Pod)
                .collect(),
            false => named(&objects, &args.targets)?,
        };
        each(&objects, targets, "stop", async |object| {
            stop_one(&daemon, &objects, object, args.time).await
        })
        .await
    })
}

pub(super) fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let objects = Objects::list(&daemon).await?;
        let runs = |object: Object<'_>| match object {
            Object::Pod(pod) => is_ready(pod),
            Object::Container(container) => is_running(container),
        };
        let targets = match args.all {
            true => {
                let pods = objects.pods.iter().map(Object::Pod);
                pods.filter(|pod| args.force || !runs(*pod)).collect()
            }
            false => named(&objects, &args.targets)?,
        };
        if let Some(running) = targets.iter().find(|object| !args.force && runs(**object)) {
            let name = objects.shown(*running);
            anyhow::bail!(
                "{name} runs: stop it before, or kill and remove it with --force; nothing was removed"
            );
        }
        each(&objects, targets, "remove", async |object| {
            remove_one(&daemon, object).await
        })
        .await
    })
}

/// All that are meant, each once. If one is not there, nothing is done.
fn named<'a>(objects: &'a Objects, names: &[String]) -> Result<Vec<Object<'a>>, CommandError> {
    let mut found = Vec::new();
    for name in names {
        let object = objects.either(name)?;
        if !found.contains(&object) {
            found.push(object);
        }
    }
    Ok(found)
}

/// Does something to all of them, prints those that are done, and fails if that is not all.
async fn each<'a>(
    objects: &Objects,
    targets: Vec<Object<'a>>,
    doing: &str,
    work: impl AsyncFn(Object<'a>) -> Result<(), CommandError>,
) -> anyhow::Result<()> {
    let all = targets.len();
    let mut failed = 0;
    let work = &work;
    let mut done = stream::iter(targets)
        .map(async |object| (object, work(object).await))
        .buffer_unordered(AT_ONCE);
    while let Some((object, result)) = done.next().await {
        let name = objects.shown(object);
        match result {
            Ok(()) => print(&format!("{name}\n"))?,
            Err(error) => {
                failed += 1;
                print_stderr(&format!("pausa: cannot {doing} {name}: {}", chain(&error)));
            }
        }
    }
    if failed > 0 {
        return Err(CommandError::Some { failed, all }.into());
    }
    Ok(())
}

/// A pod's containers get their time first: StopPodSandbox kills them.
async fn stop_one(
    daemon: &Daemon,
    objects: &Objects,
    object: Object<'_>,
    seconds: u32,
) -> Result<(), CommandError> {
    match object {
        Object::Container(container) => stop_container(daemon, &container.id, seconds).await,
        Object::Pod(pod) => {
            let inside = objects.containers.iter();
            let inside = inside.filter(|one| one.pod_sandbox_id == pod.id && is_running(one));
            let stops = inside.map(|one| stop_container(daemon, &one.id, seconds));
            futures_util::future::try_join_all(stops).await?;
            stop_pod(daemon, &pod.id).await
        }
    }
}

async fn remove_one(daemon: &Daemon, object: Object<'_>) -> Result<(), CommandError> {
    match object {
        Object::Container(container) => remove_container(daemon, &container.id).await,
        Object::Pod(pod) => {
            // containerd refuses to remove a pod that was not stopped.
            stop_pod(daemon, &pod.id).await?;
            let request = RemovePodSandboxRequest {
                pod_sandbox_id: pod.id.clone(),
            };
            let answer = daemon.runtime().remove_pod_sandbox(request).await;
            answer.map(drop).map_err(daemon.failed("RemovePodSandbox"))
        }
    }
}

async fn stop_pod(daemon: &Daemon, id: &str) -> Result<(), CommandError> {
    let request = StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let answer = daemon.runtime().stop_pod_sandbox(request).await;
    answer.map(drop).map_err(daemon.failed("StopPodSandbox"))
}

/// Ends a container, which gets some seconds to do so by itself.
pub(super) async fn stop_container(daemon: &Daemon, id: &str, seconds: u32) -> Result<(), CommandError> {
    let request = StopContainerRequest {
        container_id: id.to_owned(),
        timeout: seconds.into(),
    };
    let answer = daemon.runtime().stop_container(request).await;
    answer.map(drop).map_err(daemon.failed("StopContainer"))
}

pub(super) async fn remove_container(daemon: &Daemon, id: &str) -> Result<(), CommandError> {
    let request = RemoveContainerRequest {
        container_id: id.to_owned(),
    };
    let answer = daemon.runtime().remove_container(request).await;
    answer.map(drop).map_err(daemon.failed("RemoveContainer"))
}
