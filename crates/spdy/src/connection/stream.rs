//! The connection's state of one stream.

use crate::chunks::Chunks;
use crate::window::{RecvWindow, SendWindow};

/// Smaller pieces from the application are gathered into one frame.
const SHARE_FROM: usize = 2 * 1024;

/// Our direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    /// FIN follows when the queue is empty.
    Finishing,
    /// FIN was sent, or the stream is unidirectional.
    Finished,
}

/// One stream. It lives until both directions have ended or either end resets it.
#[derive(Debug)]
pub(super) struct StreamState {
    /// SYN_REPLY has been sent (peer's stream) or received (ours).
    pub(super) replied: bool,
    pub(super) sending: Sending,
    /// The peer's FIN was received.
    pub(super) received_all: bool,
    pub(super) send: SendWindow,
    pub(super) recv: RecvWindow,
    pub(super) queue: Chunks,
    /// Whether it is in the list of streams with something to send.
    pub(super) listed: bool,
    /// To be reset once FIN is sent.
    pub(super) abandoned: bool,
}

impl StreamState {
    pub(super) fn new(send_window: u32, recv_window: u32) -> Self {
        Self {
            replied: false,
            sending: Sending::Open,
            received_all: false,
            send: SendWindow::new(send_window),
            recv: RecvWindow::new(recv_window),
            queue: Chunks::new(SHARE_FROM),
            listed: false,
            abandoned: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.received_all && self.sending == Sending::Finished
    }

    /// Whether there is something to send, if windows allow it.
    pub(super) fn has_output(&self) -> bool {
        !self.queue.is_empty() || self.sending == Sending::Finishing
    }
}
