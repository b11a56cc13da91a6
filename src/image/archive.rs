//! Images as archives: import and export.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod spool;
