//! The record that a monitor writes of a container's exit.

use serde::{Deserialize, Serialize};

use crate::message::ExitStatus;

/// `exits/<container>.json` in the pod's directory. Written atomically before [`crate::Event::Exited`] is sent, so that the
/// exit is known even if both daemon and monitor are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`Self::VERSION`] of the monitor that wrote it.
    pub version: u32,
    /// Container id.
    pub container: String,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
    /// How the first process ended.
    pub exit: ExitStatus,
}

impl ExitRecord {
    /// The version of the record that this crate writes.
    pub const VERSION: u32 = 1;
}
