//! Patterns of paths, with the wildcards that Go's `filepath.Glob` has: `*`, `?`, `[a-z]`, `[^a-z]` and `\`, none of which
//! stands for a slash.

use std::fmt;
use std::path::PathBuf;

/// An absolute path that may have wildcards.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    components: Vec<Component>,
}

#[derive(Debug)]
enum Component {
    Plain(String),
    Wild(Vec<Token>),
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// Any number of any characters.
    Any,
    One,
    Character(char),
    Set {
        negated: bool,
        /// First and last characters.
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Character(own) => *own == character,
            Self::Set { negated, ranges } => {
                let within = |(first, last): &(char, char)| (*first..=*last).contains(&character);
                ranges.iter().any(within) != *negated
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// None if it is no absolute path or a wildcard is not complete.
    pub(super) fn new(text: &str) -> Option<Self> {
        let names = text.strip_prefix('/')?.split('/').filter(|name| !name.is_empty());
        let components = names.map(|name| match name.contains(['*', '?', '[', '\\']) {
            true => tokens(name).map(Component::Wild),
            false => Some(Component::Plain(name.to_owned())),
        });
        Some(Self {
            text: text.to_owned(),
            components: components.collect::<Option<_>>()?,
        })
    }

    /// The paths that it stands for. Without wildcards it stands for itself.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![PathBuf::from("/")];
        for component in &self.components {
            paths = match component {
                Component::Plain(name) => paths.into_iter().map(|path| path.join(name)).collect(),
                Component::Wild(tokens) => {
                    let entries = paths
                        .iter()
                        .filter_map(|path| path.read_dir().ok())
                        .flatten()
                        .flatten();
                    let names = entries.filter(|entry| {
                        let name = entry.file_name();
                        name.to_str().is_some_and(|name| matches(tokens, name))
                    });
                    names.map(|entry| entry.path()).collect()
                }
            };
        }
        paths
    }
}

fn tokens(name: &str) -> Option<Vec<Token>> {
    let mut characters = name.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Character(characters.next()?),
            '[' => {
                let negated = characters.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while characters.peek() != Some(&']') || ranges.is_empty() {
                    let mut bound = || match characters.next()? {
                        '-' | ']' => None,
                        '\\' => characters.next(),
                        plain => Some(plain),
                    };
                    let first = bound()?;
                    let last = match characters.next_if_eq(&'-') {
                        Some(_) => match characters.next()? {
                            '-' | ']' => return None,
                            '\\' => characters.next()?,
                            plain => plain,
                        },
                        None => first,
                    };
                    ranges.push((first, last));
                }
                characters.next();
                Token::Set { negated, ranges }
            }
            plain => Token::Character(plain),
        });
    }
    Some(tokens)
}

/// Whether the tokens stand for the whole name. Only the last [`Token::Any`] is tried again with more: where an earlier one
/// has ended, any later end could not do better.
fn matches(tokens: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut token, mut at) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            Some(Token::Any) => {
                again = Some((token, at));
                token += 1;
                continue;
            }
            Some(other) if name.get(at).is_some_and(|character| other.accepts(*character)) => {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            None if at == name.len() => return true,
            _ => {}
        }
        match again {
            Some((star, from)) if from < name.len() => {
                again = Some((star, from + 1));
                (token, at) = (star + 1, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &str, name: &str) -> bool {
        matches(&tokens(pattern).unwrap(), name)
    }

    /// Every way there is, for names so short that it does not matter.
    fn slowly(tokens: &[Token], name: &[char]) -> bool {
        match (tokens.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some((Token::Any, rest)), None) => slowly(rest, name),
            (Some((Token::Any, rest)), Some((_, shorter))) => slowly(rest, name) || slowly(tokens, shorter),
            (Some((token, rest)), Some((first, shorter))) => token.accepts(*first) && slowly(rest, shorter),
            (Some(_), None) => false,
        }
    }

    #[test]
    fn wildcards_mean_what_they_mean_in_go() {
        for (pattern, name, expected) in [
            ("sd[a-z]", "sda", true),
            ("sd[a-z]", "sda1", false),
            ("sd[a-z]", "sd1", false),
            ("sd[^a-c]", "sdd", true),
            ("sd[^a-c]", "sdb", false),
            ("[abx-z]", "y", true),
            ("[abx-z]", "c", false),
            (r"[\]]", "]", true),
            (r"[a\-c]", "-", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("*SSD*", "ata-VendorSSD-1", true),
            ("*SSD*", "ata-Vendor", false),
            ("nvme?n1", "nvme0n1", true),
            ("nvme?n1", "nvme10n1", false),
            ("*", ".hidden", true),
            ("ä*", "äö", true),
        ] {
            assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
        }
        for wrong in ["[", "[]", "[a", "[a-", "[a-]", "[-a]", "a\\", "[^]"] {
            assert!(tokens(wrong).is_none(), "{wrong}");
        }
        for wrong in ["", "sda", "./sda", "/dev/[", "*"] {
            assert!(Pattern::new(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_looked_up_at_each_level() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a1/x", "a2/x", "a2/y", "b/x"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let found = |end: &str| {
            let pattern = Pattern::new(&format!("{}/{end}", dir.path().display())).unwrap();
            let mut paths = pattern.paths();
            paths.retain(|path| path.exists());
            paths.sort();
            let relative = paths.iter().map(|path| path.strip_prefix(dir.path()).unwrap());
            relative
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("a?/[xy]"), ["a1/x", "a2/x", "a2/y"]);
        assert_eq!(found("*/x"), ["a1/x", "a2/x", "b/x"]);
        assert_eq!(found("a2//y"), ["a2/y"]);
        assert!(found("c*/x").is_empty());
    }

    proptest! {
        #[test]
        fn fast_and_slow_agree(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            let tokens = tokens(&pattern).unwrap();
            let characters: Vec<char> = name.chars().collect();
            prop_assert_eq!(matches(&tokens, &name), slowly(&tokens, &characters));
        }

        #[test]
        fn any_text_is_a_pattern_or_none(text in "\\PC{0,20}", name in "\\PC{0,20}") {
            if let Some(tokens) = tokens(&text) {
                matches(&tokens, &name);
            }
        }
    }
}
