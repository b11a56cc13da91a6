//! The image store.
//!
//! | module | subject |
//! |---|---|
//! | [`metadata`] | the thread that alone writes image records and publishes the [`index`] |
//! | [`layers`] | layers with reference counts |
//! | [`content`], [`lease`] | an image's data, held by the store and by containers |
//! | [`gc`] | removal of trees in the background |
//! | [`implied_dirs`] | an image's own layer on top, where one is needed |
//! | [`layout`], [`record`], [`files`] | what lies on disk |
//! | [`load`], [`clean_shutdown`] | the start of the daemon |
//! | [`pinned`] | names that garbage collection must not remove |
//!
//! Must never: use anything of [`pull`](super::pull), [`verify`](super::verify) or
//! [`archive`](super::archive).

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
