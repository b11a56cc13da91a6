//! The watchdog of systemd: a daemon that does not answer any more is killed and started again; containers go on.
//!
//! ```text
//!   every half of WatchdogSec ─▶ a task of the runtime ─▶ an actor takes a turn ─▶ a thread for blocking work ─▶ WATCHDOG=1
//! ```
//!
//! Whatever of these hangs, the ping is not sent. A single pod that hangs is no reason: any actor will do.
//!
//! Must never: ping from a thread of its own, which would only say that there is a process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::blocking::blocking;
use crate::cri::server::notify;
use crate::failpoint::hold;
use crate::sandbox::Pods;

/// Begins to ping, if systemd expects it. `state` is the daemon's directory.
pub(super) fn start(pods: Pods, state: PathBuf) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let ping = move || {
        hold(|| state.join("hold-watchdog"));
        notify(&[NotifyState::Watchdog]);
    };
    let alive = move || {
        let pods = pods.clone();
        async move { pods.alive().await }
    };
    tokio::spawn(ping_while(limit / 2, alive, ping));
}

/// Pings every `period`, each time that the daemon has answered.
async fn ping_while<F: Future<Output = ()>>(
    period: Duration,
    alive: impl Fn() -> F,
    ping: impl Fn() + Clone + Send + 'static,
) {
    let mut rounds = interval(period);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let begun = Instant::now();
        alive().await;
        // Also because sending waits where the service manager does not read.
        blocking(ping.clone()).await;
        if begun.elapsed() > period {
            tracing::warn!(
                took_s = begun.elapsed().as_secs(),
                "the daemon has answered its watchdog late; beyond WatchdogSec systemd starts it again"
            );
        }
    }
}

#[cfg(test)]
mod tests;
