//! One stream: two halves and what the peer said when it began.

use std::sync::Arc;

use super::shared::Shared;
use super::{RecvHalf, SendHalf};
use crate::{Headers, RstStatus, StreamId};

/// An open stream, both directions. Dropped before both directions have ended, it is reset (CANCEL), after what was
/// finished by `shutdown` has been sent.
#[derive(Debug)]
pub struct Stream {
    headers: Headers,
    recv: RecvHalf,
    send: SendHalf,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId, headers: Headers) -> Self {
        Self {
            headers,
            recv: RecvHalf::new(Arc::clone(&shared), id),
            send: SendHalf::new(shared, id),
        }
    }

    pub(super) fn set_headers(&mut self, headers: Headers) {
        self.headers = headers;
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.recv.id()
    }

    /// What the peer sent with it: in SYN_STREAM if it opened the stream, in SYN_REPLY if we did.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Gives the directions into different hands. The stream is reset (as for a dropped [`Stream`]) when both are
    /// dropped. A receiving half dropped alone discards what still comes; a sending half dropped alone sends nothing, not
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
