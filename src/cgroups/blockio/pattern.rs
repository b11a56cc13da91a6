//! Patterns of paths as Go's `filepath.Glob` has them, by the crate `glob`: `*`, `?`, `[a-z]` and `[^a-z]`, none of which
//! stands for a slash.

use std::fmt;
use std::path::PathBuf;

use glob::{MatchOptions, glob_with};

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// An absolute path that may have wildcards.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    /// As the crate writes it.
    pattern: String,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// None if it is no absolute path or a wildcard is not complete. `\` would take the meaning from a wildcard, and `**` is
    /// no pattern in Go: neither is in the name of a device.
    pub(super) fn new(text: &str) -> Option<Self> {
        let pattern = text.replace("[^", "[!");
        let plain = text.starts_with('/') && !text.contains('\\') && !text.contains("**");
        (plain && glob::Pattern::new(&pattern).is_ok()).then(|| Self {
            text: text.to_owned(),
            pattern,
        })
    }

    /// The paths that it stands for and that there are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let paths = glob_with(&self.pattern, OPTIONS).into_iter().flatten();
        // What cannot be read has no devices.
        paths.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in [
            "",
            "sda",
            "./sda",
            "*",
            "/dev/[",
            "/dev/[a",
            "/dev/**",
            r"/dev/a\*",
        ] {
            assert!(Pattern::new(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_looked_up_at_each_level() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a1/x", "a2/x", "a2/y", "b/x", ".c/x"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let found = |end: &str| {
            let pattern = Pattern::new(&format!("{}/{end}", dir.path().display())).unwrap();
            let paths = pattern.paths();
            let relative = paths.iter().map(|path| path.strip_prefix(dir.path()).unwrap());
            relative
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("a?/[xy]"), ["a1/x", "a2/x", "a2/y"]);
        assert_eq!(found("[^a]*/x"), [".c/x", "b/x"]);
        assert_eq!(found("a2/y"), ["a2/y"]);
        assert!(found("c*/x").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_none(text in "/?[-a\\[\\]^!*?/ä]{0,20}") {
            Pattern::new(&text);
        }
    }
}
