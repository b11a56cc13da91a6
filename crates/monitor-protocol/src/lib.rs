//! The messages between the pausa daemon and a pod's monitor.
//!
//! One monitor serves one pod. It listens on a `SOCK_SEQPACKET` unix socket in the pod's directory, so
//! that a packet is a message and file descriptors travel with the message they belong to
//! (`SCM_RIGHTS`, unix(7)). The daemon that starts a monitor hands it one end of a socket pair as its
//! first connection; a later daemon connects to the path.
//!
//! ```text
//!   daemon                                   monitor
//!     │ Request{id} ──────────────────────────▶ │   any number may be under way
//!     │ ◀───────────────────────── Reply{id}    │   exactly one a request, in any order
//!     │ ◀───────────────────────── Event        │   to every connection, in the order things happened
//! ```
//!
//! # Versions
//!
//! Monitors live as long as their pods, daemons are upgraded and downgraded: any daemon meets any monitor.
//! The encoding is postcard, in which the order of fields and variants is the format.
//!
//! * [`Request::Hello`] comes first on every connection, with the daemon's [`PROTOCOL_VERSION`]; the answer
//!   has the monitor's. The lower of the two is what both speak from then on ([`negotiated`]).
//! * Requests, replies, events and failures are **frozen**: their enums only grow at the end. So status, logs,
//!   signals, kills, forgetting and shutdown work between any two versions, and a pod is never given up
//!   because of its monitor's age.
//! * **Plans** (what Setup, Start, Exec and Attach carry) may change with the version. Both sides write and
//!   read the plans of every version from [`OLDEST_PLANS`] on; a version that changes a plan keeps the form
//!   it had under its old number and converts. Where the negotiated version is older than that, a daemon
//!   asks for nothing that takes a plan.
//! * A request that a monitor does not know or understand is answered by [`FailureKind::Protocol`], an event
//!   that a daemon does not know is passed over; neither ends the connection.
//!
//! | version | |
//! |---|---|
//! | 1 | before the first release |
//! | 2 | Starting, Started, StartFailed, HangUp, Attach, Detach, Detached; the first whose plans are kept |
//!
//! This crate knows no I/O but [`socket`]; it never interprets what it carries.

mod message;
mod plan;
mod record;
pub mod socket;

pub use message::{
    ContainerReport, Detachment, Event, ExitStatus, Failure, FailureKind, FromMonitor, ProcessState, Reply,
    Request, ToMonitor,
};
pub use plan::{
    AttachPlan, Attributes, CapabilitySets, ContainerPlan, DeviceKind, DevicePlan, ExecPlan, FdRole, IdRange,
    IoPlan, LogPlan, MountPlan, MountSource, Namespace, NamespacePlan, PodPlan, ProcessPlan, Propagation,
    Rlimit,
};
pub use record::ExitRecord;

/// Version of everything in this crate. Raised by a release that adds to the messages or changes a plan.
pub const PROTOCOL_VERSION: u32 = 2;

/// The oldest version whose plans can still be written and read.
pub const OLDEST_PLANS: u32 = 2;

/// What two sides speak with each other.
pub const fn negotiated(daemon: u32, monitor: u32) -> u32 {
    if daemon < monitor { daemon } else { monitor }
}

/// Name of the monitor's listening socket in the pod's directory.
pub const SOCKET_NAME: &str = "monitor.sock";

/// Name of the directory, in the pod's directory, in which the monitor leaves one [`ExitRecord`] a container.
pub const EXITS_DIR: &str = "exits";

/// The descriptor number at which a new monitor finds its first connection: its standard input, which is
/// what a threaded daemon can set without forking itself (posix_spawn(3)).
pub const FIRST_CONNECTION_FD: i32 = 0;
