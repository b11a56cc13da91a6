//! A stream of the peer that has not been answered.

use std::sync::Arc;

use super::Stream;
use super::shared::Shared;
use crate::{Headers, RstStatus, StreamId};

/// A stream that the peer has opened and we have not answered. Dropping it refuses it. Bytes that the peer sends meanwhile are
/// kept.
#[derive(Debug)]
#[must_use = "a stream that is dropped is refused"]
pub struct Incoming {
    shared: Arc<Shared>,
    id: StreamId,
    headers: Headers,
    answered: bool,
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId, headers: Headers) -> Self {
        Self {
            shared,
            id,
            headers,
            answered: false,
        }
    }

    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The headers that the peer opened it with.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Sends SYN_REPLY and forgets the peer's headers. Nothing can be sent on a stream before (spdystream would drop it). If the peer has reset the stream
    /// meanwhile, its halves fail; headers larger than [`crate::Limits::header_block`] reset it, too.
    pub fn accept(mut self, headers: Headers) -> Stream {
        self.answered = true;
        {
            let mut state = self.shared.lock();
            if state.connection.reply(self.id, headers).is_err() {
                state.reset(self.id, RstStatus::InternalError);
            }
            state.wake_driver();
        }
        Stream::new(Arc::clone(&self.shared), self.id)
    }

    /// Resets the stream: its opener gets `status`.
    pub fn refuse(mut self, status: RstStatus) {
        self.answer_with(status);
    }

    fn answer_with(&mut self, status: RstStatus) {
        if !std::mem::replace(&mut self.answered, true) {
            let mut state = self.shared.lock();
            state.reset(self.id, status);
            state.drop_reader(self.id);
            state.drop_writer(self.id);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.answer_with(RstStatus::RefusedStream);
    }
}
