//! What is kept of one stream between the connection and the hands that hold its halves.

use std::task::{Context, Waker};

use crate::chunks::Chunks;
use crate::{Headers, RstStatus};

/// Pieces smaller than this are copied out of the read buffer, which a piece would keep alive as a whole.
const SHARE_FROM: usize = super::driver::LARGEST_READ / 8;

/// One stream.
#[derive(Debug)]
pub(super) struct Slot {
    /// Of SYN_STREAM or SYN_REPLY, until taken.
    pub(super) headers: Headers,
    pub(super) replied: bool,
    /// Received and not read.
    pub(super) unread: Chunks,
    /// FIN has come.
    pub(super) ended: bool,
    /// RST_STREAM has come or gone.
    pub(super) reset: Option<RstStatus>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Halves somebody holds.
    pub(super) has_reader: bool,
    pub(super) has_writer: bool,
}

impl Slot {
    pub(super) fn new(headers: Headers) -> Self {
        Self {
            headers,
            replied: false,
            unread: Chunks::new(SHARE_FROM),
            ended: false,
            reset: None,
            reader: None,
            writer: None,
            has_reader: true,
            has_writer: true,
        }
    }
}

/// Keeps the waker of who waits now.
pub(super) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
