//! Monitors with namespaces of their own that wait for a pod: `[sandbox] warm` of the configuration.
//!
//! ```text
//!   refill, one by one, while no pod is being created          take, by RunPodSandbox
//!   ───────────────────────────────────────────────▶ waiting ────────────────────────▶ pod of that id
//! ```
//!
//! A monitor carries its pod's id from its start on, so the pod gets the id with it. Nothing else is decided before: the
//! cgroup, hostname, files and the attachment to a network are made when the pod is. Only the namespaces are there, so they
//! have to be those that the pod asks for; all others get a monitor of their own.
//!
//! One that waits has no record, no file and no name anywhere. It ends when its connection does: with this daemon.

use std::time::Duration;

use parking_lot::Mutex;
use pausa_monitor_protocol::PodNamespaces;
use tokio::sync::Notify;

use super::Pods;
use super::ops::namespaces;
use super::services::{Services, Settings};
use crate::error::chain;
use crate::id::Id;
use crate::monitor::{Events, Monitor, MonitorError};
use crate::proto::v1;

/// How often it is looked whether pods are being created, and whether a monitor that waits has died.
const QUIET: Duration = Duration::from_millis(20);
const CARE: Duration = Duration::from_secs(5);

/// A monitor that waits for its pod.
#[derive(Debug)]
pub(super) struct WarmMonitor {
    /// The pod's.
    pub(super) id: Id,
    pub(super) monitor: Monitor,
    pub(super) events: Events,
}

/// What is to wait.
#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    monitors: usize,
    /// Those of a pod that asks for nothing.
    namespaces: PodNamespaces,
}

impl Wanted {
    fn of(settings: &Settings) -> Self {
        Self {
            monitors: settings.warm,
            namespaces: namespaces(settings, &v1::PodSandboxConfig::default()),
        }
    }
}

/// Those that wait.
#[derive(Debug)]
pub(super) struct WarmMonitors {
    wanted: Mutex<Wanted>,
    waiting: Mutex<Vec<WarmMonitor>>,
    taken: Notify,
}

impl WarmMonitors {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            wanted: Mutex::new(Wanted::of(settings)),
            waiting: Mutex::default(),
            taken: Notify::new(),
        }
    }

    /// Has other settings from now on. Monitors that do not fit them any more end.
    pub(super) fn configure(&self, settings: &Settings) {
        let wanted = Wanted::of(settings);
        let old = std::mem::replace(&mut *self.wanted.lock(), wanted.clone());
        if old == wanted {
            return;
        }
        let mut waiting = self.waiting.lock();
        let kept = match old.namespaces == wanted.namespaces {
            true => wanted.monitors.min(waiting.len()),
            false => 0,
        };
        let ended = waiting.split_off(kept);
        drop(waiting);
        drop(ended);
        self.taken.notify_one();
    }

    /// A monitor with the namespaces that the pod asks for, if one waits.
    pub(super) fn take(&self, settings: &Settings, config: &v1::PodSandboxConfig) -> Option<WarmMonitor> {
        let asked = namespaces(settings, config);
        let fits = self.wanted.lock().namespaces == asked;
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() || !fits {
            return None;
        }
        while let Some(warm) = waiting.pop() {
            self.taken.notify_one();
            if !warm.monitor.has_ended() {
                return Some(warm);
            }
        }
        None
    }

    /// Takes back what was not needed.
    pub(super) fn give_back(&self, warm: Option<WarmMonitor>) {
        self.waiting.lock().extend(warm);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    fn is_full(&self) -> bool {
        let wanted = self.wanted.lock().monitors;
        let mut waiting = self.waiting.lock();
        waiting.retain(|warm| !warm.monitor.has_ended());
        waiting.len() >= wanted
    }

    async fn make(&self, services: &Services) -> Result<(), MonitorError> {
        let id = Id::random();
        let wanted = self.wanted.lock().clone();
        let (monitor, events) = services.monitors.spawn(id.as_str()).await?;
        monitor.unshare(wanted.namespaces.clone(), Vec::new()).await?;
        let now = self.wanted.lock();
        // Otherwise it is not wanted any more, and ends here.
        if now.namespaces == wanted.namespaces {
            self.waiting.lock().push(WarmMonitor { id, monitor, events });
        }
        Ok(())
    }
}

impl Pods {
    /// Keeps as many monitors waiting as are wanted. A pod that is being created has precedence.
    pub(super) async fn keep_warm(&self) {
        let warm = &self.warm;
        let mut failing = false;
        loop {
            if warm.wanted.lock().monitors == 0 {
                // Until that is configured.
                warm.taken.notified().await;
                continue;
            }
            if warm.is_full() {
                // One that has died shows only when it is looked at.
                tokio::time::timeout(CARE, warm.taken.notified()).await.ok();
                continue;
            }
            if self.registry.being_created() > 0 {
                tokio::time::sleep(QUIET).await;
                continue;
            }
            let made = warm.make(&self.services).await;
            if let Err(error) = &made {
                if !failing {
                    tracing::warn!(
                        error = chain(error),
                        "cannot make a monitor in advance; pods start without until it succeeds"
                    );
                }
                tokio::time::sleep(CARE).await;
            }
            failing = made.is_err();
        }
    }
}
