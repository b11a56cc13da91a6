//! Which plugin set which field of which container: one plugin for each, or the request fails.
//!
//! A list or a map is owned entry by entry. Hooks have as many owners as there are plugins that add some. Who takes
//! away what another plugin set is the only one who may set it anew; until then the owner is the plugin's name with `-` in
//! front, in the messages to validators too.

#[cfg(test)]
mod tests;

use crate::proto::{Field, FieldOwners};

/// In front of the key of an entry, it takes that entry away.
pub(crate) const REMOVAL: char = '-';

/// What plugins want does not go together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Conflict {
    /// A field has two owners, or the same one twice. The key is that of an entry, empty for a field that is one value.
    #[error(
        "NRI plugins {owner:?} and {plugin:?} both set {}{} of container {container}: \
         have one of them do it, or the later one remove it first",
        field.as_str_name(),
        if key.is_empty() { String::new() } else { format!(" {key:?}") }
    )]
    Field {
        container: String,
        field: Field,
        key: String,
        owner: String,
        plugin: String,
    },
    /// A container is updated before it exists.
    #[error("NRI plugin {plugin:?} updates container {container}, which is being created: it must adjust it")]
    NotCreated { container: String, plugin: String },
}

/// The fields of one container, from the view of one plugin.
#[derive(Debug)]
pub(crate) struct Claims<'a> {
    pub(crate) owners: &'a mut FieldOwners,
    pub(crate) container: &'a str,
    pub(crate) plugin: &'a str,
}

impl Claims<'_> {
    /// For a field that is one value.
    pub(crate) fn claim(&mut self, field: Field) -> Result<(), Conflict> {
        self.check(self.owners.simple.get(&field.into()), field, "")?;
        self.owners.simple.insert(field.into(), self.plugin.to_owned());
        Ok(())
    }

    /// For an entry of a list or a map.
    pub(crate) fn claim_entry(&mut self, field: Field, key: &str) -> Result<(), Conflict> {
        let entries = self.owners.compound.get(&field.into());
        self.check(entries.and_then(|entries| entries.owners.get(key)), field, key)?;
        self.set_entry(field, key, self.plugin.to_owned());
        Ok(())
    }

    /// For a field to which all plugins may add.
    pub(crate) fn join(&mut self, field: Field) {
        let owners = self.owners.simple.entry(field.into()).or_default();
        if !owners.is_empty() {
            owners.push(',');
        }
        owners.push_str(self.plugin);
    }

    /// Takes a field away from its owner.
    pub(crate) fn clear(&mut self, field: Field) {
        let remover = format!("{REMOVAL}{}", self.plugin);
        self.owners.simple.insert(field.into(), remover);
    }

    /// Takes an entry away from its owner.
    pub(crate) fn clear_entry(&mut self, field: Field, key: &str) {
        self.set_entry(field, key, format!("{REMOVAL}{}", self.plugin));
    }

    fn set_entry(&mut self, field: Field, key: &str, owner: String) {
        let entries = self.owners.compound.entry(field.into()).or_default();
        entries.owners.insert(key.to_owned(), owner);
    }

    fn check(&self, owner: Option<&String>, field: Field, key: &str) -> Result<(), Conflict> {
        match owner {
            Some(owner) if owner.strip_prefix(REMOVAL) != Some(self.plugin) => Err(Conflict::Field {
                container: self.container.to_owned(),
                field,
                key: key.to_owned(),
                owner: owner.trim_start_matches(REMOVAL).to_owned(),
                plugin: self.plugin.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
