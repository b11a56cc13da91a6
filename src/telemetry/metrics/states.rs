//! States at the moment of a request for metrics: what there is now, in contrast to what has happened.
//!
//! The modules that know them fill them in; here they get names.

use super::process::Process;
use super::table::Table;
use crate::accept;

/// What there is at the moment of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct States {
    pub(crate) build: Build,
    pub(crate) images: ImageStates,
    pub(crate) pods: PodStates,
    pub(crate) cpus: CpuStates,
    pub(crate) streaming: StreamingStates,
    /// Whether pods can be attached to the network.
    pub(crate) network_ready: bool,
    /// Records that wait to be copied below `root`.
    pub(crate) record_copies_waiting: usize,
}

/// What the daemon is, and what it runs on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Build {
    /// `1` or `2`.
    pub(crate) cgroup_version: &'static str,
    pub(crate) cgroup_driver: &'static str,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ImageStates {
    /// Pulls and imports in flight.
    pub(crate) pulls: usize,
    /// Their layers: those that wait for a slot, that another pull fetches, and that are fetched.
    pub(crate) layers_queued: usize,
    pub(crate) layers_joined: usize,
    pub(crate) layers_fetching: usize,
    /// Compressed bytes of all layers of pulls in flight, and those of them that are there.
    pub(crate) bytes_expected: u64,
    pub(crate) bytes_received: u64,
    /// Complete layers of failed pulls that are kept for a retry.
    pub(crate) kept_layers: usize,
    /// Incomplete layers of failed pulls that are kept for a retry.
    pub(crate) kept_parts: usize,
    /// Of complete layers the bytes on disk, of incomplete ones the bytes received.
    pub(crate) kept_bytes: u64,
    pub(crate) complete: usize,
    /// Images that lack layers.
    pub(crate) incomplete: usize,
    /// Of all unpacked layers.
    pub(crate) bytes: u64,
    /// Of those among them that are removed, and whose files are not yet.
    pub(crate) bytes_dying: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct PodStates {
    pub(crate) creating: usize,
    pub(crate) ready: usize,
    pub(crate) not_ready: usize,
    pub(crate) created: usize,
    pub(crate) running: usize,
    pub(crate) exited: usize,
    pub(crate) monitors_connected: usize,
    /// Monitors that a new daemon has not greeted yet.
    pub(crate) monitors_greeting: usize,
    /// Monitors of ready pods that do not answer.
    pub(crate) monitors_silent: usize,
    /// Monitors that were made in advance and wait for a pod.
    pub(crate) monitors_waiting: usize,
    /// Pods that could not be created and are still attached to their network.
    pub(crate) left_attached: usize,
    /// What waits for the actors of pods, of all and of the one for which most waits.
    pub(crate) turns_waiting: usize,
    pub(crate) turns_waiting_max: usize,
    /// Changes of resources that wait for their turn.
    pub(crate) updates_waiting: usize,
    /// Clients of GetContainerEvents.
    pub(crate) subscribers: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct CpuStates {
    /// CPUs that containers have of their own.
    pub(crate) pinned: usize,
    /// CPUs of everybody else.
    pub(crate) pool: usize,
    pub(crate) pinned_containers: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct StreamingStates {
    pub(crate) sessions: u32,
    pub(crate) sessions_max: u32,
    /// URLs that nobody has used yet.
    pub(crate) tickets: usize,
}

impl States {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        self.build.add_to(&mut table);
        self.images.add_to(&mut table);
        self.pods.add_to(&mut table);
        let cpus = [("pinned", self.cpus.pinned), ("pool", self.cpus.pool)];
        table.states(
            "pausa_cpus",
            "share",
            "CPUs that containers have of their own, and the others",
            cpus,
        );
        table.state(
            "pausa_pinned_containers",
            "Containers with CPUs of their own",
            self.cpus.pinned_containers,
        );
        let streaming = &self.streaming;
        table.state(
            "pausa_streaming_sessions",
            "Sessions of exec, attach and port-forward",
            streaming.sessions,
        );
        table.state(
            "pausa_streaming_sessions_max",
            "How many sessions there may be",
            streaming.sessions_max,
        );
        table.state(
            "pausa_streaming_tickets",
            "URLs of exec, attach and port-forward that nobody has used yet",
            streaming.tickets,
        );
        table.state(
            "pausa_network_ready",
            "Whether pods can be attached to the network",
            i64::from(self.network_ready),
        );
        table.state(
            "pausa_record_copies_waiting",
            "Records that wait to be copied to where they outlive a reboot",
            self.record_copies_waiting,
        );
        table.count(
            "pausa_accept_failures",
            "Failures to accept a connection on one of the daemon's sockets",
            accept::failures(),
        );
        add_runtime(&mut table);
        Process::read().unwrap_or_default().add_to(&mut table);
        table
    }
}

impl Build {
    fn add_to(self, table: &mut Table) {
        let keys = ["version", "revision", "cgroup_version", "cgroup_driver"];
        let build = table.gauges("pausa_build_info", keys, "What the daemon is and what it runs on");
        let revision = option_env!("PAUSA_REVISION").unwrap_or("unknown");
        let values = [
            env!("CARGO_PKG_VERSION"),
            revision,
            self.cgroup_version,
            self.cgroup_driver,
        ];
        build.of(values).set(1);
    }
}

impl ImageStates {
    fn add_to(&self, table: &mut Table) {
        table.state(
            "pausa_image_pulls_in_flight",
            "Pulls and imports in flight",
            self.pulls,
        );
        table.states(
            "pausa_image_pull_layers_in_flight",
            "state",
            "Layers of pulls and imports in flight that are not there yet",
            [
                ("queued", self.layers_queued),
                ("joined", self.layers_joined),
                ("fetching", self.layers_fetching),
            ],
        );
        table.state(
            "pausa_image_pulls_expected_bytes",
            "Compressed bytes of all layers of pulls and imports in flight",
            self.bytes_expected,
        );
        table.state(
            "pausa_image_pulls_received_bytes",
            "Those of the expected bytes that are there",
            self.bytes_received,
        );
        table.states(
            "pausa_image_kept_layers",
            "state",
            "Layers of failed pulls that are kept for a retry",
            [("complete", self.kept_layers), ("part", self.kept_parts)],
        );
        table.state(
            "pausa_image_kept_bytes",
            "Bytes of failed pulls that are kept for a retry",
            self.kept_bytes,
        );
        table.states(
            "pausa_images",
            "state",
            "Images, and those of them that lack layers",
            [("complete", self.complete), ("incomplete", self.incomplete)],
        );
        table.state(
            "pausa_images_bytes",
            "Bytes of unpacked layers on disk",
            self.bytes,
        );
        table.state(
            "pausa_images_removing_bytes",
            "Those of them that belong to removed layers whose files are not gone yet",
            self.bytes_dying,
        );
    }
}

impl PodStates {
    fn add_to(&self, table: &mut Table) {
        table.states(
            "pausa_pods",
            "state",
            "Pods by state",
            [
                ("creating", self.creating),
                ("ready", self.ready),
                ("not_ready", self.not_ready),
            ],
        );
        table.states(
            "pausa_containers",
            "state",
            "Containers by state",
            [
                ("created", self.created),
                ("running", self.running),
                ("exited", self.exited),
            ],
        );
        table.states(
            "pausa_monitors",
            "state",
            "Monitors of pods, those that a new daemon has not greeted yet, those of ready pods that do not answer, and those made in advance",
            [
                ("connected", self.monitors_connected),
                ("greeting", self.monitors_greeting),
                ("silent", self.monitors_silent),
                ("waiting", self.monitors_waiting),
            ],
        );
        table.state(
            "pausa_network_left_attached",
            "Pods that could not be created, nor detached from their network",
            self.left_attached,
        );
        table.state(
            "pausa_pod_turns_waiting",
            "Requests, events and outcomes that wait for the actors of their pods",
            self.turns_waiting,
        );
        table.state(
            "pausa_pod_turns_waiting_max",
            "Those of the pod for which most wait",
            self.turns_waiting_max,
        );
        table.state(
            "pausa_updates_waiting",
            "Changes of containers' resources that wait for their turn",
            self.updates_waiting,
        );
        table.state(
            "pausa_event_subscribers",
            "Clients of GetContainerEvents",
            self.subscribers,
        );
    }
}

/// What tokio tells of itself, where that is stable. The number of blocking threads is not.
fn add_runtime(table: &mut Table) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let metrics = runtime.metrics();
    table.state(
        "pausa_tasks",
        "Tasks of the async runtime that are alive",
        metrics.num_alive_tasks(),
    );
    table.state(
        "pausa_tasks_queued",
        "Tasks that are ready and wait in the async runtime's global queue",
        metrics.global_queue_depth(),
    );
}
