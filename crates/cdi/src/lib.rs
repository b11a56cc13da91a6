//! Container Device Interface (CDI): vendors describe in spec files what a container needs to use a device, and the runtime
//! makes these edits to the container's OCI spec.
//!
//! ```text
//!   /etc/cdi, /var/run/cdi ──▶ Spec ──Registry::edits(names)──▶ Edits ──apply──▶ OCI spec
//! ```
//!
//! Spec files come from administrators and drivers. Names of devices come from kubelet, by the CRI and by annotations
//! ([`annotated_devices`]).
//!
//! It must never use a file in part, give a container other devices than all it asks for, or wait for anything but the file
//! systems of the spec files.
//!
//! Specification: <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md> (0.3.0 to 1.1.0). The
//! reference implementation, in the same place, decides where that is silent.

mod edits;
mod error;
mod name;
mod node;
mod registry;
mod spec;
mod version;

pub use edits::{Edits, HookStage};
pub use error::{CdiError, ErrorKind, Problem, SpecError, Unavailable};
pub use name::annotated_devices;
pub use registry::{ListedDevice, Listing, Registry};
pub use spec::Spec;
