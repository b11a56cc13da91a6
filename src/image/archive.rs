//! Images in archives: export, and the files and plans of an import. The import itself is
//! [`Images::import`](super::Images::import), because it shares the way into the store with pulls.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod spool;
