//! Directories of pods that have no record, and what is mounted in them.
//!
//! A pod's record is the first thing of it on disk and its directories are the last, so there is one of these only
//! after a death in the middle of a removal, or when recovery could not remove it. A record that cannot be *read* is a
//! record: its files stay as they are, for people to look at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::cgroups::mountinfo;
use crate::error::chain;
use crate::id::Id;
use crate::sandbox::{Pods, ops};
use crate::state::Layout;

/// Removes them, and returns how many there were.
pub(super) fn remove_strays(pods: &Pods) -> usize {
    let layout = pods.services.store.layout();
    // The directories first, then who is known: a pod is registered before its directory is made.
    let mut strays = ids(layout.pods());
    strays.append(&mut ids(layout.persistent_pods()));
    strays.retain(|id| !pods.registry.knows(id) && !has_record(layout, id));
    strays.iter().filter(|id| remove(pods, id)).count()
}

fn remove(pods: &Pods, id: &Id) -> bool {
    let layout = pods.services.store.layout();
    unmount_below(&layout.pod(id));
    let removed = ops::remove_layers(&pods.services.projects, &layout.persistent_pod(id))
        .map_err(|error| error.text())
        .and_then(|()| pods.services.store.forget_pod(id).map_err(|error| chain(&error)));
    match removed {
        Ok(()) => {
            tracing::warn!(
                pod = id.short(),
                "removed the directories of a pod without a record"
            );
            true
        }
        Err(error) => {
            tracing::error!(
                pod = id.short(),
                error,
                "cannot remove the directories of a pod without a record; the next round tries again"
            );
            false
        }
    }
}

/// The entries that are named by an id; others are none of ours.
pub(super) fn ids(tree: &Path) -> BTreeSet<Id> {
    let entries = fs::read_dir(tree).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| Id::try_from(entry.file_name().into_string().ok()?).ok())
        .collect()
}

/// The pods of this boot that have a record which recovery did not take over, being damaged: they may well run.
pub(super) fn unread(pods: &Pods) -> BTreeSet<String> {
    let layout = pods.services.store.layout();
    ids(layout.pods())
        .into_iter()
        .filter(|id| !pods.registry.knows(id) && has_record(layout, id))
        .map(String::from)
        .collect()
}

/// Removes the records that recovery did not take over, so that what they are of belongs to no pod. For a daemon that gives up
/// all its pods. Returns what stays, and why.
pub(in crate::sandbox) fn forget_unread(pods: &Pods) -> Vec<(PathBuf, io::Error)> {
    let unread = left(pods)
        .into_iter()
        .map(|dir| dir.join(crate::state::POD_RECORD));
    let removed = unread.map(|record| match fs::remove_file(&record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some((record, error)),
        _ => None,
    });
    removed.flatten().collect()
}

/// The directories of pods that nobody knows.
pub(in crate::sandbox) fn left(pods: &Pods) -> Vec<PathBuf> {
    let layout = pods.services.store.layout();
    let trees = [layout.pods(), layout.persistent_pods()];
    let of_tree = |tree: &Path| {
        let unknown = ids(tree).into_iter().filter(|id| !pods.registry.knows(id));
        unknown.map(|id| tree.join(id.as_str())).collect::<Vec<_>>()
    };
    trees.into_iter().flat_map(of_tree).collect()
}

/// What cannot be looked at counts as a record.
pub(super) fn has_record(layout: &Layout, id: &Id) -> bool {
    [layout.pod(id), layout.persistent_pod(id)]
        .iter()
        .any(|dir| dir.join(crate::state::POD_RECORD).try_exists().unwrap_or(true))
}

/// Unmounts everything beneath a directory, the last mounted first.
pub(in crate::sandbox) fn unmount_below(dir: &Path) {
    let Ok(dir) = fs::canonicalize(dir) else { return };
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts = mountinfo::parse(&table);
    mounts.retain(|mount| mount.mount_point.starts_with(&dir));
    for mount in mounts.iter().rev() {
        tracing::warn!(path = %mount.mount_point.display(), "unmounting what is mounted in the directory of a pod without a record");
        ops::unmount(&mount.mount_point);
    }
}
