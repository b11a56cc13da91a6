//! Pods and containers by id, by unique prefix and by name.
//!
//! One lock, held for look-ups and insertions only, never across a system call or an await.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::handle::PodHandle;
use super::record::PodName;
use crate::id::{Id, LookupError, find};

/// What pods are called in errors.
pub(super) const POD: &str = "pod sandbox";
/// What containers are called in errors.
pub(super) const CONTAINER: &str = "container";

/// All pods and containers of this daemon.
#[derive(Debug, Default)]
pub(super) struct Registry {
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    pods: BTreeMap<Id, Arc<PodHandle>>,
    names: HashMap<PodName, Id>,
    containers: BTreeMap<Id, Arc<PodHandle>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock()
    }

    /// Enters a pod under its name, or gives the one that has the name.
    pub(super) fn enter(&self, handle: &Arc<PodHandle>) -> Result<(), Arc<PodHandle>> {
        let mut index = self.lock();
        if let Some(holder) = index.names.get(&handle.name).and_then(|id| index.pods.get(id)) {
            return Err(Arc::clone(holder));
        }
        index.names.insert(handle.name.clone(), handle.id.clone());
        index.pods.insert(handle.id.clone(), Arc::clone(handle));
        Ok(())
    }

    /// Takes a pod and its containers out.
    pub(super) fn leave(&self, handle: &PodHandle) {
        let mut index = self.lock();
        index.pods.remove(&handle.id);
        if index.names.get(&handle.name) == Some(&handle.id) {
            index.names.remove(&handle.name);
        }
        index.containers.retain(|_, pod| pod.id != handle.id);
    }

    pub(super) fn enter_container(&self, container: Id, pod: Arc<PodHandle>) {
        self.lock().containers.insert(container, pod);
    }

    pub(super) fn leave_container(&self, container: &Id) {
        self.lock().containers.remove(container);
    }

    /// The pod of an id or unique prefix.
    pub(super) fn pod(&self, given: &str) -> Result<Arc<PodHandle>, LookupError> {
        find(&self.lock().pods, POD, given).map(|(_, handle)| Arc::clone(handle))
    }

    /// The container of an id or unique prefix, and its pod.
    pub(super) fn container(&self, given: &str) -> Result<(Id, Arc<PodHandle>), LookupError> {
        find(&self.lock().containers, CONTAINER, given).map(|(id, handle)| (id.clone(), Arc::clone(handle)))
    }

    /// Whether there is a pod of this id, including one that is being created or removed.
    pub(super) fn knows(&self, pod: &Id) -> bool {
        self.lock().pods.contains_key(pod)
    }

    /// The pods that may be attached to a network, including those that are being created and those whose detaching has
    /// failed. A detached pod is left out although it is still there: its daemon may have died before its address was freed.
    pub(super) fn attached(&self) -> BTreeSet<String> {
        let pods = self.pods();
        let detached = |handle: &PodHandle| handle.view().is_some_and(|view| view.pod.detached());
        pods.iter()
            .filter(|handle| !detached(handle))
            .map(|handle| handle.id.to_string())
            .collect()
    }

    /// Whether there is a pod of this name, including one that is being created or removed.
    pub(super) fn has(&self, name: &PodName) -> bool {
        self.lock().names.contains_key(name)
    }

    /// How many pods are being created.
    pub(super) fn being_created(&self) -> usize {
        self.pods()
            .iter()
            .filter(|handle| handle.view().is_none())
            .count()
    }

    /// All pods, by id.
    pub(super) fn pods(&self) -> Vec<Arc<PodHandle>> {
        self.lock().pods.values().cloned().collect()
    }
}
