//! Flow-control windows, of streams and of the session (draft 3.1, section 2.6.8).
//!
//! Invariant: no window is ever above 2^31-1. A send window may be negative: SETTINGS may reduce it below the bytes sent,
//! and windows of a peer without flow control are not obeyed.

use crate::{StreamId, Violation};

/// The peer's window for our bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(size.into())
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Counts sent bytes.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub_unsigned(bytes as u64);
    }

    /// WINDOW_UPDATE, or a change of the initial window.
    pub(crate) fn change(&mut self, delta: i64) -> Result<(), Violation> {
        let sum = self.0.saturating_add(delta);
        if sum > i64::from(StreamId::MAX) {
            return Err(Violation::WindowOverflow);
        }
        self.0 = sum;
        Ok(())
    }
}

/// Our window for the peer's bytes. Credit is sent in halves of the window, not byte by byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecvWindow {
    available: i64,
    owed: u32,
    size: u32,
}

impl RecvWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self {
            available: size.into(),
            owed: 0,
            size,
        }
    }

    /// Counts received bytes. False if they exceed the window.
    pub(crate) fn receive(&mut self, bytes: usize) -> bool {
        self.available = self.available.saturating_sub_unsigned(bytes as u64);
        self.available >= 0
    }

    /// Counts read bytes, which become credit for the peer.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The credit to send now, if it is worth a frame.
    pub(crate) fn credit(&mut self) -> Option<u32> {
        if self.owed < self.size / 2 {
            return None;
        }
        let credit = self.owed.min(StreamId::MAX);
        self.owed -= credit;
        self.available = self.available.saturating_add(credit.into());
        Some(credit)
    }
}

#[cfg(test)]
mod tests;
