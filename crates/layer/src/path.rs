//! Names of entries: made relative and free of "." and "..", and recognised as whiteouts.
//!
//! Pure functions. A clean path has only components that a kernel lookup takes as plain names.

use crate::error::{EntryPath, Limit};
use crate::{Error, Limits};

const WHITEOUT: &[u8] = b".wh.";
const RESERVED: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Joins the plain components of `raw` by single slashes; empty means the root. Absolute names become relative, ".."
/// removes one component and is refused if there is none.
pub(crate) fn clean(raw: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    if raw.contains(&0) {
        return Err(Error::field(raw, "path"));
    }
    let mut clean = Vec::with_capacity(raw.len());
    let mut depth = 0;
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if depth == 0 {
                    return Err(Error::Escape {
                        path: EntryPath::new(raw),
                    });
                }
                depth -= 1;
                clean.truncate(split(&clean).0.len());
            }
            name => {
                depth += 1;
                if depth > limits.depth {
                    return Err(Error::limit(Limit::Depth, limits.depth as u64, raw));
                }
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    Ok(clean)
}

/// Parent and last component of a clean path.
pub(crate) fn split(clean: &[u8]) -> (&[u8], &[u8]) {
    match clean.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&clean[..slash], &clean[slash + 1..]),
        None => (&[], clean),
    }
}

/// A name below a directory; the root's path is empty.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

/// The meaning of an entry's clean path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    Plain,
    /// Everything of that name in the layers below is hidden.
    Whiteout {
        name: &'a [u8],
    },
    /// Everything in the parent directory in the layers below is hidden.
    Opaque,
    /// Housekeeping of another storage driver.
    Ignored,
    /// A whiteout of nothing, "." or "..".
    Nothing,
}

/// The meaning of a clean path.
pub(crate) fn meaning(clean: &[u8]) -> Meaning<'_> {
    let (parent, last) = split(clean);
    if parent
        .split(|byte| *byte == b'/')
        .any(|component| component.starts_with(RESERVED))
    {
        return Meaning::Ignored;
    }
    match last.strip_prefix(WHITEOUT) {
        None => Meaning::Plain,
        Some(_) if last == OPAQUE => Meaning::Opaque,
        Some(_) if last.starts_with(RESERVED) => Meaning::Ignored,
        Some(b"" | b"." | b"..") => Meaning::Nothing,
        Some(name) => Meaning::Whiteout { name },
    }
}

#[cfg(test)]
mod tests;
