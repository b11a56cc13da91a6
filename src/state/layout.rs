//! Paths of the files of pods and containers. An [`Id`] is validated, so it is safe in a path.

use std::path::{Path, PathBuf};

use crate::id::Id;

/// The two trees of [`crate::state`].
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
    root: PathBuf,
}

impl Layout {
    /// Trees below `state` (until reboot) and `root` (persistent).
    pub fn new(state: &Path, root: &Path) -> Self {
        Self {
            state: state.join("pods"),
            root: root.join("pods"),
        }
    }

    pub fn pods(&self) -> &Path {
        &self.state
    }

    pub fn persistent_pods(&self) -> &Path {
        &self.root
    }

    pub fn pod(&self, pod: &Id) -> PathBuf {
        self.state.join(pod.as_str())
    }

    pub fn persistent_pod(&self, pod: &Id) -> PathBuf {
        self.root.join(pod.as_str())
    }

    pub fn container(&self, pod: &Id, container: &Id) -> PathBuf {
        self.pod(pod).join("containers").join(container.as_str())
    }

    pub fn bundle(&self, pod: &Id, container: &Id) -> PathBuf {
        self.container(pod, container).join("bundle")
    }

    /// The container's persistent directory: record and writable layer.
    pub fn persistent_container(&self, pod: &Id, container: &Id) -> PathBuf {
        self.persistent_pod(pod)
            .join("containers")
            .join(container.as_str())
    }
}

pub const POD_RECORD: &str = "pod.json";
pub const CONTAINER_RECORD: &str = "container.json";
pub const CONTAINERS: &str = "containers";
