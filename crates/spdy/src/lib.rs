//! SPDY/3.1 as Kubernetes uses it for exec, attach and port-forward: many streams over one upgraded connection, each with two
//! directions that end independently.
//!
//! Three layers, each usable without the next:
//!
//! ```text
//!   Session     tasks, sockets, timers: streams as AsyncRead and AsyncWrite       needs tokio
//!   Connection  one end as a state machine: streams, windows, valid frames        no I/O, no time
//!   Decoder, Encoder, Frame, Headers: bytes and their meaning                     no I/O
//! ```
//!
//! It must never trust a length, a count or an order of the peer; hold more of a peer's bytes than [`Config`] allows; or wait
//! for a WINDOW_UPDATE of a peer that never sends any (see [`FlowControl`]). It knows nothing of the streams' purpose.
//!
//! The protocol: draft 3 (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3/>) with the session window of
//! draft 3.1 (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>). The peer in practice: Go's
//! spdystream (<https://github.com/moby/spdystream>) in client-go, and so kubectl, crictl and the API server. Its
//! behaviour that matters here:
//!
//! * it sends no SETTINGS and no WINDOW_UPDATE and ignores both: see [`FlowControl`];
//! * it drops DATA on a stream we have not replied to: [`Incoming::accept`] comes before anything can be written;
//! * it reads nothing behind GOAWAY: [`Session::close`] sends everything else before;
//! * it resets its streams, sends GOAWAY and closes when it is done: bytes received before stay readable here;
//! * it closes the connection at an unknown frame type: we send only the eight of draft 3, without CREDENTIAL.
//!
//! Not here: HTTP and its upgrade, TLS, CREDENTIAL frames, server push, priorities (streams take turns).

mod chunks;
mod compress;
mod config;
mod connection;
mod decode;
mod dictionary;
mod encode;
mod error;
mod frame;
mod headers;
mod id;
mod session;
mod status;
mod window;

pub use config::{Config, DEFAULT_WINDOW, FlowControl, Keepalive, Limits};
pub use connection::{Connection, Event, Output};
pub use decode::{DecodeError, Decoder};
pub use encode::Encoder;
pub use error::{Error, ErrorKind, Violation};
pub use frame::{Frame, Setting};
pub use headers::Headers;
pub use id::{Role, StreamId};
pub use session::{Incoming, RecvHalf, SendHalf, Session, Stream};
pub use status::{GoAwayStatus, RstStatus};
