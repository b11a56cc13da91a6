//! A container's output, from its pipes or terminal into a log file in CRI log format.
//!
//! ```text
//!   stdout ─┐ read(2)                                              write(2), O_APPEND
//!           ├────────▶ [stream] rest of a line + new bytes ─▶ [format] entries ─▶ [writer] ─▶ log file
//!   stderr ─┘                       │
//!                                   └─ an unfinished line stays here until its end comes
//! ```
//!
//! Invariants: any way of cutting the same output into reads gives the same entries; an entry is on file
//! whole or (when the disk refuses) not at all; what the disk refuses is counted and dropped, and the
//! container is never made to wait for it. Must never interpret what it carries beyond line ends.
//!
//! The format is the one kubelet reads (kubernetes/pkg/kubelet/kuberuntime/logs; design proposal
//! kubelet-cri-logging): `<RFC 3339 with nanoseconds> <stdout|stderr> <P|F> <content>\n`.

mod format;
mod stream;
mod writer;

pub(crate) use format::Source;
pub(crate) use stream::{Flow, Stream, Work};
pub(crate) use writer::Writer;
