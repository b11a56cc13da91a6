//! Receiving: frames, their effects, and events.

use bytes::{Bytes, BytesMut};

use super::{Connection, Event, Sending, StreamState};
use crate::frame::{SETTING_INITIAL_WINDOW, SETTING_MAX_STREAMS};
use crate::{
    DecodeError, FlowControl, Frame, GoAwayStatus, Headers, RstStatus, Setting, StreamId, Violation,
};

impl Connection {
    /// Takes bytes from the front of `input` until the next event; `None` when no whole frame is left. Call it until `None`,
    /// then read more.
    ///
    /// # Errors
    /// If the peer broke the protocol in a way that ends the connection. GOAWAY is in the output; every further call fails.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Some(violation) = self.failed {
                return Err(violation);
            }
            let result = match self.decoder.decode(input) {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => self.frame(frame),
                Err(DecodeError::Stream { stream, .. }) => {
                    self.note_peer_id(stream);
                    Ok(self.fail(stream, RstStatus::ProtocolError))
                }
                Err(DecodeError::Connection(violation)) => Err(violation),
            };
            match result {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(violation) => {
                    self.failed = Some(violation);
                    self.go_away(GoAwayStatus::ProtocolError);
                    return Err(violation);
                }
            }
        }
    }

    /// The application has read, or will never read, this many bytes of a stream.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.unread = self.unread.saturating_sub(bytes);
        self.recv_window.release(bytes);
        if let Some(state) = self.streams.get_mut(&stream) {
            state.recv.release(bytes);
        }
        self.credit(Some(stream));
    }

    /// Sends the due WINDOW_UPDATE frames for the session and one stream. A peer that overruns windows and has never used flow control
    /// gets none, because it would ignore them; they stay due in case it uses flow control later.
    fn credit(&mut self, stream: Option<StreamId>) {
        let knows = self.streams_take_part || self.session_takes_part;
        if self.sent_go_away || self.overruns && !knows {
            return;
        }
        if let Some(delta) = self.recv_window.credit() {
            self.put(&Frame::WindowUpdate { stream: None, delta });
        }
        let state = stream.and_then(|stream| self.streams.get_mut(&stream));
        if let Some(delta) = state
            .filter(|state| !state.received_all)
            .and_then(|state| state.recv.credit())
        {
            self.put(&Frame::WindowUpdate { stream, delta });
        }
    }

    /// The peer uses flow control. Sends the WINDOW_UPDATE frames that were held back.
    fn peer_takes_part(&mut self) {
        if !std::mem::replace(&mut self.streams_take_part, true) && self.overruns {
            let mut open: Vec<_> = self.streams.keys().copied().collect();
            open.sort_unstable();
            for stream in open {
                self.credit(Some(stream));
            }
            self.credit(None);
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<Option<Event>, Violation> {
        match frame {
            Frame::Data { stream, fin, data } => self.data(stream, data, fin),
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
                ..
            } => self.opened(stream, headers, fin, unidirectional),
            Frame::SynReply { stream, fin, headers } => Ok(self.replied(stream, headers, fin)),
            Frame::Headers { stream, fin, headers } => {
                let event = Event::Headers { stream, headers, fin };
                Ok(self.on_open_stream(stream, fin, event))
            }
            Frame::RstStream { stream, status } => {
                Ok(self.remove(stream).then_some(Event::Reset { stream, status }))
            }
            Frame::Settings { settings, .. } => self.settings(&settings).map(|()| None),
            Frame::WindowUpdate { stream, delta } => self.window_update(stream, delta),
            Frame::GoAway { last_good, status } => Ok(self.gone(last_good, status)),
            Frame::Ping { id: 0 } => Err(Violation::ZeroId {
                frame: crate::frame::kind::PING,
            }),
            Frame::Ping { id } if self.role.owns(id) => Ok(Some(Event::Pong { id })),
            Frame::Ping { id } => {
                self.put(&Frame::Ping { id });
                Ok(None)
            }
        }
    }

    fn opened(
        &mut self,
        stream: StreamId,
        headers: Headers,
        fin: bool,
        unidirectional: bool,
    ) -> Result<Option<Event>, Violation> {
        if self.role.owns(stream.value()) || stream.value() <= self.last_peer_id {
            return Err(Violation::StreamId { stream });
        }
        if self.sent_go_away {
            return Ok(None);
        }
        self.last_peer_id = stream.value();
        if self.received_go_away || self.peer_streams >= self.config.max_streams {
            self.put(&Frame::RstStream {
                stream,
                status: RstStatus::RefusedStream,
            });
            return Ok(None);
        }
        let mut state = StreamState::new(self.peer_initial_window, self.config.announced_stream_window());
        state.received_all = fin;
        if unidirectional {
            state.sending = Sending::Finished;
        }
        self.streams.insert(stream, state);
        self.peer_streams += 1;
        self.remove_if_over(stream);
        Ok(Some(Event::Opened { stream, headers, fin }))
    }

    fn replied(&mut self, stream: StreamId, headers: Headers, fin: bool) -> Option<Event> {
        if !self.role.owns(stream.value()) {
            return self.fail(stream, RstStatus::ProtocolError);
        }
        match self.streams.get_mut(&stream) {
            Some(state) if state.replied => self.fail(stream, RstStatus::StreamInUse),
            Some(state) => {
                state.replied = true;
                self.on_open_stream(stream, fin, Event::Replied { stream, headers, fin })
            }
            None => self.stray(stream),
        }
    }

    fn data(&mut self, stream: StreamId, data: Bytes, fin: bool) -> Result<Option<Event>, Violation> {
        let length = data.len();
        let enforced = self.config.flow_control == FlowControl::Enforced;
        if !self.recv_window.receive(length) {
            if enforced {
                return Err(Violation::WindowOverrun);
            }
            self.overruns = true;
        }
        self.unread += length;
        if let Some(state) = self.streams.get_mut(&stream)
            && !state.recv.receive(length)
            && !state.received_all
        {
            if enforced {
                self.release(stream, length);
                return Ok(self.fail(stream, RstStatus::FlowControlError));
            }
            self.overruns = true;
        }
        let event = self.on_open_stream(stream, fin, Event::Data { stream, data, fin });
        if !matches!(event, Some(Event::Data { .. })) {
            self.release(stream, length);
        }
        Ok(event)
    }

    /// Handles a frame that is valid only on an open stream: returns the event, or fails the stream.
    fn on_open_stream(&mut self, stream: StreamId, fin: bool, event: Event) -> Option<Event> {
        match self.streams.get_mut(&stream) {
            Some(state) if state.received_all => self.fail(stream, RstStatus::StreamAlreadyClosed),
            Some(state) => {
                state.received_all = fin;
                self.remove_if_over(stream);
                Some(event)
            }
            None => self.stray(stream),
        }
    }

    /// Handles a frame for an unknown stream: ignored if the stream was open once, an error if it never was.
    fn stray(&mut self, stream: StreamId) -> Option<Event> {
        let id = stream.value();
        let was_open = if self.role.owns(id) {
            id < self.next_id
        } else {
            id <= self.last_peer_id
        };
        if !was_open && !self.sent_go_away {
            self.put(&Frame::RstStream {
                stream,
                status: RstStatus::InvalidStream,
            });
        }
        None
    }

    /// Resets a stream on which the peer broke the protocol.
    fn fail(&mut self, stream: StreamId, status: RstStatus) -> Option<Event> {
        let known = self.remove(stream);
        self.put(&Frame::RstStream { stream, status });
        known.then_some(Event::Reset { stream, status })
    }

    fn note_peer_id(&mut self, stream: StreamId) {
        if !self.role.owns(stream.value()) {
            self.last_peer_id = self.last_peer_id.max(stream.value());
        }
    }

    fn settings(&mut self, settings: &[Setting]) -> Result<(), Violation> {
        for setting in settings {
            match setting.id {
                SETTING_MAX_STREAMS => self.peer_max_streams = setting.value,
                SETTING_INITIAL_WINDOW => self.initial_window(setting.value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Also changes the windows of open streams, which may become negative.
    fn initial_window(&mut self, window: u32) -> Result<(), Violation> {
        if window > StreamId::MAX {
            return Err(Violation::WindowOverflow);
        }
        self.peer_takes_part();
        let delta = i64::from(window) - i64::from(self.peer_initial_window);
        self.peer_initial_window = window;
        let mut opened = Vec::new();
        for (id, state) in &mut self.streams {
            state.send.change(delta)?;
            opened.push(*id);
        }
        opened.sort_unstable();
        for stream in opened {
            self.list(stream);
        }
        Ok(())
    }

    fn window_update(&mut self, stream: Option<StreamId>, delta: u32) -> Result<Option<Event>, Violation> {
        self.peer_takes_part();
        let Some(stream) = stream else {
            self.session_takes_part = true;
            return self.send_window.change(delta.into()).map(|()| None);
        };
        let Some(state) = self.streams.get_mut(&stream) else {
            return Ok(None);
        };
        if state.send.change(delta.into()).is_err() {
            return Ok(self.fail(stream, RstStatus::FlowControlError));
        }
        self.list(stream);
        Ok(None)
    }

    /// The peer never processed our streams above `last_good`: they are reset as if refused.
    fn gone(&mut self, last_good: u32, status: GoAwayStatus) -> Option<Event> {
        self.received_go_away = true;
        let mut refused: Vec<_> = self.streams.keys().copied().collect();
        refused.retain(|id| self.role.owns(id.value()) && id.value() > last_good);
        refused.sort_unstable();
        for stream in refused {
            self.remove(stream);
            self.events.push_back(Event::Reset {
                stream,
                status: RstStatus::RefusedStream,
            });
        }
        self.events.push_back(Event::GoAway { status });
        None
    }
}
