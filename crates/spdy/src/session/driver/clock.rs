//! When to ask a silent peer whether it is there, and when to give it up.
//!
//! One timer, set to the earliest deadline known when it was set. What happens meanwhile moves deadlines later only, so it
//! is enough to look again when the timer rings: traffic costs nothing here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{Error, Keepalive};

/// The clock of one connection.
#[derive(Debug)]
pub(super) struct Clock {
    keepalive: Option<Keepalive>,
    idle_timeout: Option<Duration>,
    last_received: Instant,
    /// Since when a PING has been unanswered.
    asked: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(super) fn new(keepalive: Option<Keepalive>, idle_timeout: Option<Duration>) -> Self {
        Self {
            keepalive,
            idle_timeout,
            last_received: Instant::now(),
            asked: None,
            timer: None,
        }
    }

    /// Something came from the peer, whatever it was.
    pub(super) fn received(&mut self, now: Instant) {
        self.last_received = now;
        self.asked = None;
    }

    /// Ready with `Ok` when a PING is to be sent, with an error when the connection is to end. `reading` tells whether an
    /// answer could be seen at all.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reading: bool,
        last_activity: impl Fn() -> Instant,
    ) -> Poll<Result<(), Error>> {
        loop {
            if self.timer.is_none() {
                let Some(deadline) = self.deadline(&last_activity) else {
                    return Poll::Pending;
                };
                self.timer = Some(Box::pin(sleep_until(deadline)));
            }
            let Some(timer) = self.timer.as_mut() else {
                return Poll::Pending;
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            let now = Instant::now();
            if let Some(timeout) = self.idle_timeout
                && now.duration_since(last_activity()) >= timeout
            {
                return Poll::Ready(Err(Error::Idle { timeout }));
            }
            if let Some(keepalive) = self.keepalive
                && self.keep_alive(keepalive, now, reading)?
            {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// True if a PING is due.
    fn keep_alive(&mut self, keepalive: Keepalive, now: Instant, reading: bool) -> Result<bool, Error> {
        let since = self.asked.unwrap_or(self.last_received);
        if now.duration_since(since) < self.patience(keepalive) {
            return Ok(false);
        }
        if let Some(timeout) = keepalive.timeout
            && self.asked.is_some()
            && reading
        {
            return Err(Error::Unanswered { timeout });
        }
        self.asked = Some(now);
        Ok(true)
    }

    /// How long to wait from the last sign of life, or from the last PING.
    fn patience(&self, keepalive: Keepalive) -> Duration {
        keepalive
            .timeout
            .filter(|_| self.asked.is_some())
            .unwrap_or(keepalive.interval)
    }

    fn deadline(&self, last_activity: impl Fn() -> Instant) -> Option<Instant> {
        let idle = self
            .idle_timeout
            .and_then(|timeout| last_activity().checked_add(timeout));
        let alive = self.keepalive.and_then(|keepalive| {
            self.asked
                .unwrap_or(self.last_received)
                .checked_add(self.patience(keepalive))
        });
        idle.into_iter().chain(alive).min()
    }
}
