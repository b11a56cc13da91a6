//! The messages between the pausa daemon and a pod's monitor.
//!
//! A monitor serves one pod. It listens on a `SOCK_SEQPACKET` unix socket in the pod's directory, so that a packet is a
//! message, and descriptors travel with the message they belong to (`SCM_RIGHTS`, unix(7)). The daemon that starts a
//! monitor passes one end of a socket pair as its standard input, which is what a threaded daemon can set without forking
//! itself (posix_spawn(3)). It is the monitor's first connection; a later daemon connects to the path.
//!
//! ```text
//!   daemon                                   monitor
//!     │ Request{id} ──────────────────────────▶ │   any number may be under way
//!     │ ◀───────────────────────── Reply{id}    │   exactly one per request, in any order
//!     │ ◀───────────────────────── Event        │   to every connection, in the order of the events
//! ```
//!
//! # Versions
//!
//! Monitors live as long as their pods, while daemons are upgraded and downgraded: any daemon may meet any monitor.
//! The encoding is postcard, in which the order of fields and variants is the format.
//!
//! * [`Request::Hello`] is the first request on every connection and carries the daemon's [`PROTOCOL_VERSION`]; the reply
//!   carries the monitor's. Both sides speak the lower of the two from then on ([`negotiated`]).
//! * Requests, replies, events and failures are **frozen**: their enums only grow at the end. So status, logs, signals,
//!   kills, forgetting and shutdown work between any two versions, and no pod is lost because its monitor is old.
//! * **Plans** (carried by Unshare, Setup, Start, StartExtended, Exec, Attach and Poststop) may change with the version. Both sides write and read the plans
//!   of every version from [`OLDEST_PLANS`] on. A version that changes a plan keeps the previous form under its old number
//!   and converts. If the negotiated version is older than that, the daemon sends no request with a plan. Unshare, Setup and
//!   Poststop are sent only by the daemon that has started the monitor, from its own program: only their present form is kept.
//! * A monitor answers a request that it does not know or understand with [`FailureKind::Protocol`], and a daemon ignores
//!   an event that it does not know. Neither ends the connection.
//!
//! | version | |
//! |---|---|
//! | 1 | before the first release |
//! | 2 | Starting, Started, StartFailed, HangUp, Attach, Detach, Detached; first version whose plans are kept |
//! | 3 | `FdRole::Birth`; the other plans are those of 2 |
//! | 4 | the base mounts of Setup; the plans are those of 3 |
//! | 5 | Unshare, and Setup without the namespaces; the other plans are those of 3 |
//! | 6 | StartExtended, Poststop and HookFailed; the other plans are those of 5 |
//!
//! The only I/O in this crate is in [`socket`]. The crate never interprets the messages.

mod message;
mod plan;
mod record;
pub mod socket;

pub use message::{
    ContainerReport, Detachment, Event, ExitStatus, Failure, FailureKind, FromMonitor, ProcessState, Reply,
    Request, ToMonitor,
};
pub use plan::{
    AttachPlan, Attributes, CapabilitySets, ContainerPlan, DeviceKind, DevicePlan, ExecPlan, ExtendedPlan,
    FdRole, HookCommand, HookPlan, IdRange, IoPlan, LogPlan, MemoryPolicy, MountPlan, MountSource, Namespace,
    NamespacePlan, PodNamespaces, PodPlan, ProcessPlan, Propagation, Rlimit, Scheduler, Scheduling,
};
pub use record::ExitRecord;

/// Version of everything in this crate. Raised by a release that adds to the messages or changes a plan.
pub const PROTOCOL_VERSION: u32 = 6;

/// The oldest version whose plans can still be written and read.
pub const OLDEST_PLANS: u32 = 2;

/// The first version with [`FdRole::Birth`].
pub const BIRTHS: u32 = 3;

/// The first version with [`Request::StartExtended`].
pub const EXTENSIONS: u32 = 6;

/// The version that a daemon and a monitor speak with each other.
pub const fn negotiated(daemon: u32, monitor: u32) -> u32 {
    if daemon < monitor { daemon } else { monitor }
}

/// Name of the monitor's listening socket in the pod's directory.
pub const SOCKET_NAME: &str = "monitor.sock";

/// Name of the directory of [`ExitRecord`]s in the pod's directory.
pub const EXITS_DIR: &str = "exits";
