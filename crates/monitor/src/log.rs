//! Writes a container's output, from its pipes or terminal, to a log file in CRI log format.
//!
//! ```text
//!   stdout ─┐ read(2)                                                   write(2), O_APPEND
//!           ├────────▶ [stream] unfinished line + new bytes ─▶ [format] entries ─▶ [writer] ─▶ log file
//!   stderr ─┘                       │
//!                                   └─ keeps an unfinished line until its end arrives
//! ```
//!
//! The entries do not depend on how the output is split into reads. An entry is written completely or, if the disk refuses
//! it, not at all. Refused entries are counted and dropped, and the container never waits for the disk. Output is not
//! interpreted beyond line ends.
//!
//! The format is the one that kubelet reads (kubernetes/pkg/kubelet/kuberuntime/logs; design proposal
//! kubelet-cri-logging): `<RFC 3339 with nanoseconds> <stdout|stderr> <P|F> <content>\n`.

mod format;
mod stream;
mod writer;

pub(crate) use format::Source;
pub(crate) use stream::{Buffers, Flow, Stream};
pub(crate) use writer::Writer;
