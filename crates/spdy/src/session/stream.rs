//! One stream: two halves and the peer's headers.

use std::sync::Arc;

use super::shared::Shared;
use super::{RecvHalf, SendHalf};
use crate::{Headers, RstStatus, StreamId};

/// An open stream, both directions. If it is dropped before both directions have ended, it is reset (CANCEL), after bytes
/// finished by `shutdown` have been sent.
#[derive(Debug)]
pub struct Stream {
    headers: Headers,
    recv: RecvHalf,
    send: SendHalf,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self {
            headers: Headers::new(),
            recv: RecvHalf::new(Arc::clone(&shared), id),
            send: SendHalf::new(shared, id),
        }
    }

    pub(super) fn set_headers(&mut self, headers: Headers) {
        self.headers = headers;
    }

    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.recv.id()
    }

    /// The headers of the peer's SYN_REPLY. Of a stream that the peer opened, only [`Incoming`](super::Incoming) has them.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Splits the stream into its directions. The stream is reset (as for a dropped [`Stream`]) when both are
    /// dropped. A receiving half dropped alone discards further input; a sending half dropped alone sends nothing, not
    /// even FIN.
    #[must_use]
    pub fn split(self) -> (RecvHalf, SendHalf) {
        (self.recv, self.send)
    }

    /// Ends both directions at once.
    pub fn reset(mut self, status: RstStatus) {
        self.send.reset(status);
    }
}
