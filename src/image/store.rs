//! The image store: metadata, layers, leases, garbage collection, and all of them as files on disk.

pub(crate) mod clean_shutdown;
pub(crate) mod content;
pub(crate) mod files;
pub(crate) mod gc;
pub(crate) mod implied_dirs;
pub(crate) mod index;
pub(crate) mod layers;
pub(crate) mod layout;
pub(crate) mod lease;
pub(crate) mod load;
pub(crate) mod metadata;
pub(crate) mod pinned;
pub(crate) mod record;
