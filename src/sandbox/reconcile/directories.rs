//! Directories of pods that have no record, and what is mounted in them.
//!
//! A pod's record is the first thing of it on disk and its directories are the last, so there is one of these only
//! after a death in the middle of a removal, or when recovery could not remove it. A record that cannot be *read* is a
//! record: its files stay as they are, for people to look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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
fn ids(tree: &Path) -> BTreeSet<Id> {
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
