//! Which images are pinned: kubelet's garbage collection leaves them alone.
//!
//! Only that: RemoveImage by somebody who asks for it removes a pinned image like any other, as containerd and CRI-O do.
//! Patterns are matched against names, never against ids, so that an image that loses its last name is no longer pinned.

use pausa_distribution::Reference;

use crate::image::store::index::{digest_name, tag_name};

/// The patterns of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinned {
    patterns: Vec<String>,
}

impl Pinned {
    /// A pattern without `*` is a reference, short names included: `busybox` is `docker.io/library/busybox:latest`. One with
    /// `*` is matched against whole names (`host/name:tag`, `host/name@digest`), `*` standing for any characters.
    pub(crate) fn new(patterns: &[String]) -> Self {
        let patterns = patterns.iter().map(|pattern| {
            let reference = pattern.parse::<Reference>().ok();
            let whole = reference
                .filter(|_| !pattern.contains('*'))
                .and_then(|reference| {
                    reference
                        .digest()
                        .map(|digest| digest_name(&reference, digest))
                        .or_else(|| tag_name(&reference))
                });
            whole.unwrap_or_else(|| pattern.clone())
        });
        Self {
            patterns: patterns.collect(),
        }
    }

    /// Whether one of an image's names is pinned.
    pub(crate) fn covers<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> bool {
        let fits = |name: &String| self.patterns.iter().any(|pattern| matches(pattern, name));
        names.into_iter().any(fits)
    }
}

/// Whether `*` in `pattern` can be filled so that it becomes `name`. Takes the earliest place for every piece, which is right
/// because only the last piece is bound to a place.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests;
