//! Sending: queues of streams, windows, frames.

use bytes::Bytes;

use super::{Connection, Output, Sending, StreamState};
use crate::encode::data_head;
use crate::{Error, RstStatus, StreamId};

/// The largest payload of a DATA frame: the buffer size of Go's `io.Copy`. Other streams wait for one frame on a slow link.
const MAX_PAYLOAD: usize = 32 * 1024;

/// What each stream may have queued, however many there are.
const SMALLEST_SHARE: usize = 4 * 1024;

enum Turn {
    /// Sent a frame and has more.
    More,
    /// Has nothing to send now, or its own window is closed.
    Rest,
    /// Only the session's window is closed.
    WaitsForSession,
}

impl Connection {
    /// How many bytes each stream may have queued: [`crate::Config::send_buffer`], or less if there are many.
    #[must_use]
    pub fn share(&self) -> usize {
        let share = self.config.session_send_buffer / self.streams.len().max(1);
        share.max(SMALLEST_SHARE).min(self.config.send_buffer)
    }

    /// How many bytes a stream accepts now: the rest of its [share](Self::share).
    ///
    /// # Errors
    /// If the stream has ended, is finished or has no reply yet.
    pub fn room(&self, stream: StreamId) -> Result<usize, Error> {
        match self.streams.get(&stream) {
            Some(state) if state.sending == Sending::Open && self.may_send(stream, state) => {
                Ok(self.share().saturating_sub(state.queue.len()))
            }
            _ => Err(Error::NotOpen { stream }),
        }
    }

    /// Queues bytes without copying them (but for small ones); the caller keeps to [`Self::room`].
    ///
    /// # Errors
    /// As [`Self::room`].
    pub fn write(&mut self, stream: StreamId, data: Bytes) -> Result<(), Error> {
        self.sending(stream)?.queue.push(data);
        self.list(stream);
        Ok(())
    }

    /// Queues a copy of bytes; the caller keeps to [`Self::room`].
    ///
    /// # Errors
    /// As [`Self::room`].
    pub fn write_slice(&mut self, stream: StreamId, data: &[u8]) -> Result<(), Error> {
        self.sending(stream)?.queue.push_slice(data);
        self.list(stream);
        Ok(())
    }

    /// Ends our direction of a stream behind the queued bytes.
    ///
    /// # Errors
    /// As [`Self::room`].
    pub fn finish(&mut self, stream: StreamId) -> Result<(), Error> {
        self.sending(stream)?.sending = Sending::Finishing;
        self.list(stream);
        Ok(())
    }

    /// Both halves of the stream were dropped. A finished direction is still sent, with its FIN; then, unless the peer has ended
    /// its direction too, the stream is reset (CANCEL). Without `finish`, queued bytes are discarded.
    pub fn abandon(&mut self, stream: StreamId) {
        match self.streams.get_mut(&stream) {
            Some(state) if state.sending == Sending::Finishing => state.abandoned = true,
            Some(_) => self.reset(stream, RstStatus::Cancel),
            None => {}
        }
    }

    /// Moves frames that can be sent now to the end of `target`, until it holds `max` bytes or a little more. Streams take
    /// turns, a frame each.
    pub fn take_output(&mut self, max: usize, target: &mut Output) {
        self.drained.clear();
        self.output.append_to(target);
        let mut waiting = Vec::new();
        while target.len() < max {
            let Some(stream) = self.ready.pop_front() else {
                break;
            };
            match self.turn(stream, target) {
                Turn::More => self.ready.push_back(stream),
                Turn::WaitsForSession => waiting.push(stream),
                Turn::Rest => {}
            }
        }
        for stream in waiting.into_iter().rev() {
            self.ready.push_front(stream);
        }
    }

    /// Whether everything written so far has been taken.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.streams.values().any(StreamState::has_output)
    }

    /// Streams that have more room since the last [`Self::take_output`].
    pub fn take_drained(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.drained)
    }

    /// Adds a stream to the list of streams with something to send.
    pub(super) fn list(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream)
            && !state.listed
            && state.has_output()
        {
            state.listed = true;
            self.ready.push_back(stream);
        }
    }

    fn turn(&mut self, stream: StreamId, target: &mut Output) -> Turn {
        let Some(state) = self.streams.get_mut(&stream) else {
            return Turn::Rest;
        };
        let own = if self.streams_take_part {
            state.send.available()
        } else {
            MAX_PAYLOAD
        };
        let session = if self.session_takes_part {
            self.send_window.available()
        } else {
            MAX_PAYLOAD
        };
        let data = state.queue.pop(MAX_PAYLOAD.min(own).min(session));
        if data.is_none() && !state.queue.is_empty() && own > 0 {
            return Turn::WaitsForSession;
        }
        let fin = state.queue.is_empty() && state.sending == Sending::Finishing;
        if data.is_none() && !fin {
            state.listed = false;
            return Turn::Rest;
        }
        let data = data.unwrap_or_default();
        let length = data.len();
        state.send.spend(length);
        self.send_window.spend(length);
        if fin {
            state.sending = Sending::Finished;
        }
        state.listed = state.has_output();
        let turn = if state.listed { Turn::More } else { Turn::Rest };
        let abandoned = fin && state.abandoned;
        let announced = u32::try_from(length).expect("no more than MAX_PAYLOAD");
        target.data(data_head(stream, fin, announced), data);
        self.drained.push(stream);
        self.remove_if_over(stream);
        if abandoned {
            self.reset(stream, RstStatus::Cancel);
            self.output.append_to(target);
        }
        turn
    }

    fn sending(&mut self, stream: StreamId) -> Result<&mut StreamState, Error> {
        let ours = self.role.owns(stream.value());
        self.streams
            .get_mut(&stream)
            .filter(|state| state.sending == Sending::Open && (state.replied || ours))
            .ok_or(Error::NotOpen { stream })
    }

    fn may_send(&self, stream: StreamId, state: &StreamState) -> bool {
        state.replied || self.role.owns(stream.value())
    }
}
