//! How many sessions there may be, with one pod and in all.
//!
//! ```text
//!   token redeemed ──admit──▶ Admitted, held by the session ──dropped──▶ counted no more, free memory returned
//!                       └────▶ refused
//! ```
//!
//! Each session is bounded in memory, but takes what its client sends for as long as the pod does not read it. Whoever may
//! start sessions with one pod must not be able to use up the memory of the daemon, nor all sessions of the node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::blocking::blocking;
use crate::id::Id;
use crate::telemetry::metrics;

/// How long after the end of a session free memory is given back, so that this is done once after many of them.
const TIDY_AFTER: Duration = Duration::from_secs(5);

/// How many sessions of exec, attach and port-forward may exist at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    pub per_pod: u32,
    pub total: u32,
}

/// Why a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "the pod has {limit} sessions of exec, attach and port-forward, as many as [streaming] max_sessions_per_pod \
         allows; end some of them first"
    )]
    Pod { limit: u32 },
    #[error(
        "this node has {limit} sessions of exec, attach and port-forward, as many as [streaming] max_sessions allows; \
         try again later"
    )]
    Node { limit: u32 },
}

impl Refused {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Pod { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Node { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

#[derive(Debug)]
pub(super) struct Sessions {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    limits: SessionLimits,
    total: u32,
    of_pods: HashMap<Id, u32>,
    /// Memory will be returned soon.
    tidying: bool,
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            counts: Mutex::new(Counts {
                limits,
                total: 0,
                of_pods: HashMap::new(),
                tidying: false,
            }),
        }
    }

    /// Sessions beyond these limits go on.
    pub(super) fn set_limits(&self, limits: SessionLimits) {
        self.counts.lock().limits = limits;
    }

    /// Counts a session with a pod until the answer is dropped.
    pub(super) fn admit(self: &Arc<Self>, pod: &Id) -> Result<Admitted, Refused> {
        let mut counts = self.counts.lock();
        let SessionLimits { per_pod, total } = counts.limits;
        let of_pod = counts.of_pods.get(pod).copied().unwrap_or(0);
        if of_pod >= per_pod {
            metrics::session_refused("pod");
            return Err(Refused::Pod { limit: per_pod });
        }
        if counts.total >= total {
            metrics::session_refused("node");
            return Err(Refused::Node { limit: total });
        }
        counts.total += 1;
        counts.of_pods.insert(pod.clone(), of_pod + 1);
        Ok(Admitted {
            sessions: Arc::clone(self),
            pod: pod.clone(),
        })
    }

    /// How many there are, and how many there may be.
    pub(super) fn total(&self) -> (u32, u32) {
        let counts = self.counts.lock();
        (counts.total, counts.limits.total)
    }

    /// Gives back what the allocator keeps of the buffers of ended sessions.
    async fn tidy(self: Arc<Self>) {
        tokio::time::sleep(TIDY_AFTER).await;
        self.counts.lock().tidying = false;
        blocking(pausa_sys::return_free_pages).await;
    }
}

/// A session that counts.
#[derive(Debug)]
pub(super) struct Admitted {
    sessions: Arc<Sessions>,
    pod: Id,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.sessions.counts.lock();
        counts.total -= 1;
        if let Some(of_pod) = counts.of_pods.get_mut(&self.pod) {
            *of_pod -= 1;
            if *of_pod == 0 {
                counts.of_pods.remove(&self.pod);
            }
        }
        // Without a runtime the daemon is ending.
        if let Ok(runtime) = Handle::try_current()
            && !std::mem::replace(&mut counts.tidying, true)
        {
            drop(counts);
            runtime.spawn(Arc::clone(&self.sessions).tidy());
        }
    }
}
