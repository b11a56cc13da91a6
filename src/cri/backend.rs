//! What the door needs of the rooms behind it, in the words of the wire.
//!
//! Three interfaces, because images know nothing of pods, and neither knows how clients stream. Arguments are validated for form (ids and required
//! fields are there); whether they make sense is the rooms' to say. Every operation outlives the request
//! that asked for it: a future that is dropped ends the waiting, not the work.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;

use crate::error::Failure;
use crate::proto::{admin, v1};
use crate::streaming::target::Streams;

/// An archive on its way in; fits `tokio_util::io::StreamReader`. An error means the client went away.
pub type ArchiveStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Where an archive goes. Who reads it may be slow, and may go away.
pub type ArchiveSink = Box<dyn AsyncWrite + Send + Unpin>;

/// Why pods cannot be connected: `(reason, message)` of the NetworkReady condition.
pub type NotReady = (String, String);

/// Pods and their containers. Ids may be unique prefixes everywhere.
pub trait PodService: Send + Sync + 'static {
    /// Creates and starts a pod sandbox with a runtime handler; returns its id. The same metadata again joins
    /// or returns the earlier one.
    fn run(
        &self,
        config: v1::PodSandboxConfig,
        handler: String,
    ) -> impl Future<Output = Result<String, Failure>> + Send;

    /// Stops a pod and everything in it. An unknown one is stopped.
    fn stop(&self, id: String) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Removes a pod and everything in it. An unknown one is removed.
    fn remove(&self, id: String) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The pods that match; see [`v1::PodSandboxFilter::matches`].
    fn pods(
        &self,
        filter: v1::PodSandboxFilter,
    ) -> impl Future<Output = Result<Vec<v1::PodSandbox>, Failure>> + Send;

    /// One pod; NotFound if there is none.
    fn pod_status(
        &self,
        id: String,
        verbose: bool,
    ) -> impl Future<Output = Result<v1::PodSandboxStatusResponse, Failure>> + Send;

    /// Creates a container in a pod; returns its id. `sandbox` is the pod's configuration as the client
    /// remembers it.
    fn create_container(
        &self,
        pod_id: String,
        config: v1::ContainerConfig,
        sandbox: Option<v1::PodSandboxConfig>,
    ) -> impl Future<Output = Result<String, Failure>> + Send;

    /// Starts a created container.
    fn start_container(&self, id: String) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Stops a container, by KILL after `timeout_seconds`, at once when that is 0 (never negative). An
    /// unknown one is stopped.
    fn stop_container(
        &self,
        id: String,
        timeout_seconds: i64,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Removes a container, killing it first. An unknown one is removed.
    fn remove_container(&self, id: String) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The containers that match; see [`v1::ContainerFilter::matches`].
    fn containers(
        &self,
        filter: v1::ContainerFilter,
    ) -> impl Future<Output = Result<Vec<v1::Container>, Failure>> + Send;

    /// One container; NotFound if there is none.
    fn container_status(
        &self,
        id: String,
        verbose: bool,
    ) -> impl Future<Output = Result<v1::ContainerStatusResponse, Failure>> + Send;

    /// What one container uses; NotFound if there is none.
    fn container_stats(&self, id: String)
    -> impl Future<Output = Result<v1::ContainerStats, Failure>> + Send;

    /// What the containers use that match; see [`v1::ContainerStatsFilter::matches`].
    fn list_container_stats(
        &self,
        filter: v1::ContainerStatsFilter,
    ) -> impl Future<Output = Result<Vec<v1::ContainerStats>, Failure>> + Send;

    /// What one pod uses; NotFound if there is none.
    fn pod_stats(&self, id: String) -> impl Future<Output = Result<v1::PodSandboxStats, Failure>> + Send;

    /// What the ready pods use that match; see [`v1::PodSandboxStatsFilter::matches`].
    fn list_pod_stats(
        &self,
        filter: v1::PodSandboxStatsFilter,
    ) -> impl Future<Output = Result<Vec<v1::PodSandboxStats>, Failure>> + Send;

    /// Changes limits of a container; a zero or empty field stays as it is.
    fn update_container_resources(
        &self,
        id: String,
        resources: v1::LinuxContainerResources,
        annotations: BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Opens a container's log file anew after it was rotated.
    fn reopen_container_log(&self, id: String) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Runs a command in a container and waits for it; `None` waits for ever.
    fn exec_sync(
        &self,
        id: String,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<v1::ExecSyncResponse, Failure>> + Send;

    /// Tells of new limits of a pod; the cgroup itself is kubelet's.
    fn update_pod_resources(
        &self,
        id: String,
        overhead: Option<v1::LinuxContainerResources>,
        resources: Option<v1::LinuxContainerResources>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether pods can be connected.
    fn network_readiness(&self) -> impl Future<Output = Result<(), NotReady>> + Send;

    /// Takes the node's pod CIDR, one or two networks with a comma.
    fn set_pod_cidr(&self, cidr: String) -> impl Future<Output = Result<(), Failure>> + Send;

    /// More entries for the verbose Status; every value is JSON. `cniconfig` is expected among them.
    fn describe(&self) -> impl Future<Output = BTreeMap<String, String>> + Send;
}

/// Exec, attach and port-forward: URLs that clients then go to. Nothing here waits.
pub trait StreamService: Send + Sync + 'static {
    /// A URL to run a command in a running container at.
    fn exec(&self, id: &str, command: Vec<String>, streams: Streams, tty: bool) -> Result<String, Failure>;

    /// A URL to attach to a running container at.
    fn attach(&self, id: &str, streams: Streams, tty: bool) -> Result<String, Failure>;

    /// A URL to forward ports of a ready pod at.
    fn port_forward(&self, id: &str, ports: Vec<u16>) -> Result<String, Failure>;
}

/// Images.
pub trait ImageService: Send + Sync + 'static {
    /// Fetches an image; returns its id. The client sets no deadline.
    fn pull(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox: Option<v1::PodSandboxConfig>,
    ) -> impl Future<Output = Result<String, Failure>> + Send;

    /// The images that match; a filter without an image matches all.
    fn images(&self, filter: v1::ImageFilter)
    -> impl Future<Output = Result<Vec<v1::Image>, Failure>> + Send;

    /// One image; `image` is unset, and that is no failure, if there is none.
    fn image_status(
        &self,
        image: v1::ImageSpec,
        verbose: bool,
    ) -> impl Future<Output = Result<v1::ImageStatusResponse, Failure>> + Send;

    /// Removes an image with all its names. An unknown one is removed.
    fn remove(&self, image: v1::ImageSpec) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What images and containers take on disk.
    fn fs_info(&self) -> impl Future<Output = Result<v1::ImageFsInfoResponse, Failure>> + Send;

    /// Stores every image of an archive; returns ids and names in its order.
    fn import(
        &self,
        archive: ArchiveStream,
    ) -> impl Future<Output = Result<Vec<(String, Vec<String>)>, Failure>> + Send;

    /// Pulls and imports in flight, the oldest first. Cheap.
    fn pulls(&self) -> Vec<admin::PullProgress>;

    /// What failed pulls have left for the next try. Cheap.
    fn kept(&self) -> Vec<admin::KeptLayer>;

    /// Where a reference leads, as JSON; see `CheckResponse` of the admin protocol.
    fn check(&self, reference: String) -> impl Future<Output = Result<String, Failure>> + Send;

    /// The canonical references that a pull of `reference` tries, in their order; none if it is no reference.
    fn names(&self, reference: String) -> impl Future<Output = Vec<String>> + Send;

    /// Reads an image again; NotFound if there is none. With `repair`, damaged layers are set aside, for the next
    /// pull to fetch.
    fn verify(
        &self,
        image: String,
        repair: bool,
    ) -> impl Future<Output = Result<admin::VerifyResponse, Failure>> + Send;

    /// Images that are known by name but lack layers.
    fn incomplete(&self) -> Vec<admin::IncompleteImage>;

    /// Writes images as one archive; what it returns is what the archive holds.
    fn export(
        &self,
        images: Vec<String>,
        to: ArchiveSink,
    ) -> impl Future<Output = Result<Vec<admin::ExportedImage>, Failure>> + Send;

    /// Removes the images that nothing uses and nobody pinned; with `dry_run` it only says which.
    fn prune(&self, dry_run: bool) -> impl Future<Output = Result<admin::PruneResponse, Failure>> + Send;
}
