//! The endpoint to ask next, and when to give up.
//!
//! ```text
//!   asked ──transient error──▶ next endpoint ──after the last──▶ wait (exponential, jittered) ──▶ first endpoint
//!     └────final error (404, 401, bad answer)──▶ endpoint is not asked again in this operation
//!   no endpoint left, or the budget of rounds spent ──▶ the errors of all endpoints
//! ```
//!
//! Progress restores the budget, so that a long download survives any number of rare failures but not a server that fails all
//! the time.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Fallback;
use crate::error::Error;
use crate::transport::Route;

#[cfg(test)]
mod tests;

/// If a server asks for a longer wait than this, its error is returned instead.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How often and how fast failed requests are repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPolicy {
    /// Rounds over all endpoints without progress.
    pub(crate) rounds: u32,
    /// Wait after the first round; doubles with every further one, up to `longest_wait`.
    pub(crate) first_wait: Duration,
    pub(crate) longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            rounds: 5,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(10),
        }
    }
}

#[derive(Debug)]
struct Lane {
    route: Arc<Route>,
    error: Option<Error>,
    out: bool,
}

/// Endpoints in order, with the last error of each.
#[derive(Debug)]
pub(crate) struct Failover {
    lanes: Vec<Lane>,
    at: usize,
    round: u32,
    policy: RetryPolicy,
}

impl Failover {
    /// Begins with the first of `routes`. There must be one.
    pub(crate) fn new(routes: Vec<Route>, policy: RetryPolicy) -> Self {
        let lanes = routes
            .into_iter()
            .map(|route| Lane {
                route: Arc::new(route),
                error: None,
                out: false,
            })
            .collect();
        Self {
            lanes,
            at: 0,
            round: 0,
            policy,
        }
    }

    /// The route to try now; `None` only if there are no routes.
    pub(crate) fn current(&self) -> Option<Arc<Route>> {
        self.lanes.get(self.at).map(|lane| Arc::clone(&lane.route))
    }

    /// Moves the routes for which `doubtful` holds behind the others. The plain-HTTP twin of a route stays behind it.
    pub(crate) fn put_last(&mut self, doubtful: impl Fn(&Route) -> bool) {
        let mut last = false;
        let mut keyed: Vec<(bool, Lane)> = Vec::with_capacity(self.lanes.len());
        for lane in self.lanes.drain(..) {
            if lane.route.endpoint.fallback == Fallback::None {
                last = false;
            }
            last |= doubtful(&lane.route);
            keyed.push((last, lane));
        }
        // A doubtful twin takes the route before it along.
        for at in (1..keyed.len()).rev() {
            let twin = keyed[at].0 && keyed[at].1.route.endpoint.fallback != Fallback::None;
            keyed[at - 1].0 |= twin;
        }
        keyed.sort_by_key(|(last, _)| *last);
        self.lanes = keyed.into_iter().map(|(_, lane)| lane).collect();
    }

    /// Restores the budget of rounds after progress.
    pub(crate) fn progressed(&mut self) {
        self.round = 0;
    }

    /// Records the current route's error and moves on to the next route, waiting after a full round. Fails when no route is left.
    pub(crate) async fn failed(&mut self, error: Error) -> Result<(), Error> {
        let transient = error.is_transient();
        let pause = error.retry_after();
        let text = error.to_string();
        if let Some(lane) = self.lanes.get_mut(self.at) {
            let patient = pause.is_none_or(|pause| pause <= MAX_RETRY_AFTER);
            lane.out = !transient || !patient || error.is_no_tls();
            lane.error = Some(error);
        }
        if let Some(next) = (self.at + 1..self.lanes.len()).find(|at| self.eligible(*at)) {
            self.at = next;
            tracing::debug!(error = text, "asking the next registry endpoint");
            return Ok(());
        }
        self.round += 1;
        let first = (0..self.lanes.len()).find(|at| self.eligible(*at));
        let Some(first) = first.filter(|_| self.round < self.policy.rounds) else {
            return Err(self.verdict());
        };
        self.at = first;
        tracing::debug!(
            error = text,
            round = self.round,
            "asking all registry endpoints again"
        );
        let wait = jittered(self.wait());
        tokio::time::sleep(
            pause
                .filter(|pause| *pause <= MAX_RETRY_AFTER)
                .map_or(wait, |pause| wait.max(pause)),
        )
        .await;
        Ok(())
    }

    fn wait(&self) -> Duration {
        let factor = 2u32.saturating_pow(self.round.saturating_sub(1));
        self.policy
            .first_wait
            .saturating_mul(factor)
            .min(self.policy.longest_wait)
    }

    fn eligible(&self, at: usize) -> bool {
        let Some(lane) = self.lanes.get(at).filter(|lane| !lane.out) else {
            return false;
        };
        let before = || {
            let lane = at.checked_sub(1).and_then(|at| self.lanes.get(at));
            lane.and_then(|lane| lane.error.as_ref())
        };
        match lane.route.endpoint.fallback {
            Fallback::None => true,
            Fallback::AfterNoTls => before().is_some_and(Error::is_no_tls),
            Fallback::AfterNoConnection => before().is_some_and(Error::is_no_connection),
        }
    }

    /// The errors of all endpoints without the expected TLS error of a plain-HTTP registry.
    fn verdict(&mut self) -> Error {
        let mut tried: Vec<Error> = self
            .lanes
            .iter_mut()
            .filter_map(|lane| lane.error.take())
            .collect();
        if tried.len() > 1 && !tried.iter().all(Error::is_no_tls) {
            tried.retain(|error| !error.is_no_tls());
        }
        match tried.len() {
            1 => tried.remove(0),
            _ => Error::AllFailed { tried },
        }
    }
}

/// Between half and all of `wait`, so that nodes that failed together do not retry together.
fn jittered(wait: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(0u8) % 512).unwrap_or(0);
    wait / 2 + (wait / 1024).saturating_mul(random)
}
