//! What a shell offers after Tab: the pods, containers and images that there are now.
//!
//! Must never: print, or keep the shell waiting. Without an answer there is nothing to offer.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;

use super::client::{ClientFlags, Daemon, block_on};
use super::objects::{Objects, pod_name};
use crate::proto::v1::ListImagesRequest;

/// The longest that a shell waits.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn containers(typed: &OsStr) -> Vec<CompletionCandidate> {
    offer(typed, async |daemon| {
        Ok(container_names(&Objects::list(&daemon).await?))
    })
}

pub(super) fn pods(typed: &OsStr) -> Vec<CompletionCandidate> {
    offer(typed, async |daemon| {
        Ok(pod_names(&Objects::list(&daemon).await?))
    })
}

/// Pods and containers.
pub(super) fn objects(typed: &OsStr) -> Vec<CompletionCandidate> {
    offer(typed, async |daemon| {
        let objects = Objects::list(&daemon).await?;
        Ok([pod_names(&objects), container_names(&objects)].concat())
    })
}

pub(super) fn images(typed: &OsStr) -> Vec<CompletionCandidate> {
    offer(typed, async |daemon| {
        let answer = daemon.images().list_images(ListImagesRequest::default()).await?;
        let images = answer.into_inner().images.into_iter();
        Ok(images.flat_map(|image| image.repo_tags).collect())
    })
}

fn container_names(objects: &Objects) -> Vec<String> {
    objects
        .containers
        .iter()
        .map(|container| objects.name(container))
        .collect()
}

fn pod_names(objects: &Objects) -> Vec<String> {
    objects.pods.iter().map(pod_name).collect()
}

fn offer(
    typed: &OsStr,
    ask: impl AsyncFnOnce(Daemon) -> anyhow::Result<Vec<String>>,
) -> Vec<CompletionCandidate> {
    // The line that is being typed is among the arguments of this process.
    let line: Vec<String> = std::env::args().collect();
    let names = block_on(async {
        let socket = ClientFlags::of_words(&line).socket()?;
        let asked = async { ask(Daemon::connect(socket).await?).await };
        tokio::time::timeout(PATIENCE, asked).await?
    });
    let typed = typed.to_string_lossy();
    let mut names = names.unwrap_or_default();
    // A shell would take control characters as they are.
    names.retain(|name| name.starts_with(&*typed) && !name.chars().any(char::is_control));
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}
