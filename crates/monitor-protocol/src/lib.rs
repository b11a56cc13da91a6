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
//! The encoding is postcard (field order is the format), so both ends must agree on
//! [`PROTOCOL_VERSION`]; [`Request::Hello`] comes first on every connection and is the one message whose
//! form never changes. A daemon must be able to talk to the monitors of the version before it.
//!
//! This crate knows no I/O but [`socket`]; it never interprets what it carries.

mod message;
mod plan;
mod record;
pub mod socket;

pub use message::{
    ContainerReport, Event, ExitStatus, Failure, FailureKind, FromMonitor, ProcessState, Reply, Request,
    ToMonitor,
};
pub use plan::{
    Attributes, CapabilitySets, ContainerPlan, DeviceKind, DevicePlan, ExecPlan, FdRole, IoPlan, LogPlan,
    MountPlan, MountSource, Namespace, NamespacePlan, PodPlan, ProcessPlan, Propagation, Rlimit,
};
pub use record::ExitRecord;

/// Version of everything in this crate. Raised by any change of a message or a plan.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name of the monitor's listening socket in the pod's directory.
pub const SOCKET_NAME: &str = "monitor.sock";

/// Name of the directory, in the pod's directory, in which the monitor leaves one [`ExitRecord`] a container.
pub const EXITS_DIR: &str = "exits";

/// The descriptor number at which a new monitor finds its first connection: its standard input, which is
/// what a threaded daemon can set without forking itself (posix_spawn(3)).
pub const FIRST_CONNECTION_FD: i32 = 0;
