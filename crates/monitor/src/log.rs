//! Writes a container's output, from its pipes or terminal, to a log file in CRI log format.
//!
//! ```text
//!   stdout ─┐ read(2)                                                               write(2), O_APPEND
//!           ├────────▶ [stream] unfinished line + new bytes ─▶ [format] entries ─▶ [writer] [file] ─▶ thread ─▶ log file
//!   stderr ─┘                       │                                                 └─ [backlog]
//!                                   └─ keeps an unfinished line until its end arrives
//! ```
//!
//! The entries do not depend on how the output is split into reads. An entry is written completely or, if the disk refuses
//! it, not at all. Refused entries are counted and dropped. A disk that is slow slows the container down, one that stalls
//! costs it seconds: then output is dropped until the disk goes on. Nothing else ever waits for a log: each file has a
//! thread that writes it. Output is not interpreted beyond line ends.
//!
//! The format is the one that kubelet reads (kubernetes/pkg/kubelet/kuberuntime/logs; design proposal
//! kubelet-cri-logging): `<RFC 3339 with nanoseconds> <stdout|stderr> <P|F> <content>\n`.

mod backlog;
mod file;
mod format;
mod stream;
mod writer;

pub(crate) use file::LogThreads;
pub(crate) use format::Source;
pub(crate) use stream::{Buffers, Flow, Stream};
pub(crate) use writer::Writer;
