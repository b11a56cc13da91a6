//! Names of plugins: `NN-name`. The two digits are the place in the order in which plugins are called.

use std::fmt;

use crate::error::{Refusal, clean};

/// Largest length of the part behind the index, as of a file.
pub(crate) const MAX_NAME: usize = 255;

/// The index and the name of a plugin. The order is that of their calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) index: String,
    pub(crate) base: String,
}

impl Name {
    pub(crate) fn new(index: &str, base: &str) -> Result<Self, Refusal> {
        if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::Index(clean(index)));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        if !(1..=MAX_NAME).contains(&base.len()) || !base.bytes().all(fits) {
            return Err(Refusal::Name(clean(base)));
        }
        Ok(Self {
            index: index.to_owned(),
            base: base.to_owned(),
        })
    }

    /// The name of a plugin to be launched, from that of its file.
    pub(crate) fn of_file(file: &str) -> Result<Self, Refusal> {
        let (index, base) = file.split_once('-').unwrap_or((file, ""));
        Self::new(index, base)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.index, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_plugins_may_have() {
        assert_eq!(Name::of_file("07-a.b_c+d-1").unwrap().to_string(), "07-a.b_c+d-1");
        let long = format!("10-{}", "a".repeat(MAX_NAME + 1));
        for file in [
            "", "7-a", "007-a", "x1-a", "٠١-a", "10", "10-", "10-a b", "10-a/b", "10-ä", &long,
        ] {
            assert!(Name::of_file(file).is_err(), "{file:?}");
        }
    }

    #[test]
    fn the_order_is_by_index_and_then_by_name() {
        let mut names = ["10-b", "09-z", "10-a", "10-B"].map(|file| Name::of_file(file).unwrap());
        names.sort();
        assert_eq!(
            names.map(|name| name.to_string()),
            ["09-z", "10-B", "10-a", "10-b"]
        );
    }
}
