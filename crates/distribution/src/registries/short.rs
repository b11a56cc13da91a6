//! Short names (containers-registries.conf(5), "Short-Name Aliasing"): names without a host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Error;
use crate::reference::Reference;

/// The treatment of a short name without an alias and with more than one search registry. There is no user to ask here, so
/// `permissive` and `disabled` are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Permissive,
    Enforcing,
}

/// The settings for short names in all files.
#[derive(Debug, Default)]
pub(super) struct ShortNames {
    pub(super) aliases: BTreeMap<String, String>,
    /// With the file that sets it.
    pub(super) search: Option<(Vec<String>, PathBuf)>,
    pub(super) mode: Mode,
}

impl ShortNames {
    /// The references that `text` may mean, in the order to try.
    pub(super) fn names(&self, text: &str) -> Result<Vec<Reference>, Error> {
        let plain: Reference = text.parse()?;
        let (name, rest) = Reference::split_name(text);
        if let Some(full) = self.aliases.get(name) {
            return Ok(vec![format!("{full}{rest}").parse()?]);
        }
        let Some((hosts, file)) = &self.search else {
            return Ok(vec![plain]);
        };
        let refused = |reason| Error::ShortName {
            name: crate::text::excerpt(text.as_bytes()),
            path: file.clone(),
            reason,
        };
        if hosts.is_empty() {
            return Err(refused(
                "has no alias, and unqualified-search-registries is empty",
            ));
        }
        if self.mode == Mode::Enforcing && hosts.len() > 1 {
            let reason = "has no alias, and short-name-mode is enforcing with more than one search registry";
            return Err(refused(reason));
        }
        hosts
            .iter()
            .map(|host| Ok(format!("{host}/{text}").parse()?))
            .collect()
    }
}
