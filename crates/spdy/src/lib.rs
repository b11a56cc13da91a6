//! SPDY/3.1 as Kubernetes speaks it for exec, attach and port-forward.
//!
//! This is the skeleton: types and signatures of the driver ([`Session`]) stand, bodies marked "missing" follow.

mod error;
mod headers;
mod id;
mod session;
mod status;

pub use error::{Error, ErrorKind};
pub use headers::Headers;
pub use id::{Role, StreamId};
pub use session::{Config, FlowControl, Incoming, Keepalive, RecvHalf, SendHalf, Session, Stream};
pub use status::{GoAwayStatus, RstStatus};
