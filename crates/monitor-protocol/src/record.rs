//! What a monitor leaves on file about a container that has exited.

use serde::{Deserialize, Serialize};

use crate::message::ExitStatus;

/// `exits/<container>.json` in the pod's directory: written beside and renamed into place before
/// [`crate::Event::Exited`] is sent, so that the exit is known even if daemon and monitor are both gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Form of this record, now 1.
    pub version: u32,
    /// Container id.
    pub container: String,
    /// When it was started, nanoseconds since the epoch.
    pub started_at: i64,
    /// How it ended.
    pub exit: ExitStatus,
}

impl ExitRecord {
    /// The form that this crate writes.
    pub const VERSION: u32 = 1;
}
