//! Which layers are kept, on disk: a layer without an image may as well be the rest of a removal that was cut off.
//!
//! A list that is lost or broken costs what it names.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::image::error::ImageError;
use crate::image::store::files;
use crate::image::store::layout::Layout;
use crate::image::store::record::{self, VERSION};

#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    version: u32,
    layers: Vec<String>,
}

/// Hex digits of the layers that were kept when it was last written.
pub(crate) fn read(layout: &Layout) -> HashSet<String> {
    let list = record::load::<List>(&layout.kept()).unwrap_or_default();
    let known = list.version == VERSION;
    list.layers.into_iter().filter(|_| known).collect()
}

/// Replaces the list; without layers there is none.
pub(crate) fn write(layout: &Layout, layers: Vec<String>) -> Result<(), ImageError> {
    let path = layout.kept();
    if layers.is_empty() {
        return files::remove_file(&path);
    }
    let list = List {
        version: VERSION,
        layers,
    };
    files::replace(&path, &record::encode(&list, &path)?)
}
