//! Where the files of pods and containers lie. Ids are validated ([`Id`]), so paths made of them are safe.

use std::path::{Path, PathBuf};

use crate::id::Id;

/// The two trees, see the room's face.
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
    root: PathBuf,
}

impl Layout {
    /// Trees below `state` (lost at reboot) and `root` (kept).
    pub fn new(state: &Path, root: &Path) -> Self {
        Self {
            state: state.join("pods"),
            root: root.join("pods"),
        }
    }

    /// Directory of all pods that live until reboot.
    pub fn pods(&self) -> &Path {
        &self.state
    }

    /// Directory of what is kept of all pods.
    pub fn kept_pods(&self) -> &Path {
        &self.root
    }

    /// A pod's directory.
    pub fn pod(&self, pod: &Id) -> PathBuf {
        self.state.join(pod.as_str())
    }

    /// What is kept of a pod.
    pub fn kept_pod(&self, pod: &Id) -> PathBuf {
        self.root.join(pod.as_str())
    }

    /// A container's directory.
    pub fn container(&self, pod: &Id, container: &Id) -> PathBuf {
        self.pod(pod).join("containers").join(container.as_str())
    }

    /// A container's OCI bundle.
    pub fn bundle(&self, pod: &Id, container: &Id) -> PathBuf {
        self.container(pod, container).join("bundle")
    }

    /// What is kept of a container: record and writable layer.
    pub fn kept_container(&self, pod: &Id, container: &Id) -> PathBuf {
        self.kept_pod(pod).join("containers").join(container.as_str())
    }
}

/// Name of a pod's record.
pub const POD_RECORD: &str = "pod.json";
/// Name of a container's record.
pub(super) const CONTAINER_RECORD: &str = "container.json";
/// Name of the directory of a pod's containers.
pub(super) const CONTAINERS: &str = "containers";
