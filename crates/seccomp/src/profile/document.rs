//! The JSON of a profile, field by field.
//!
//! Profiles are often written by Go programs, which write `null` for an empty list: it is read as one.

use oci_spec::runtime::{Capability, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag};
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) default_action: LinuxSeccompAction,
    pub(super) default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) architectures: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) arch_map: Vec<ArchMap>,
    /// `None` means the default flags, an empty list no flags.
    pub(super) flags: Option<Vec<LinuxSeccompFilterFlag>>,
    pub(super) listener_path: Option<PathBuf>,
    pub(super) listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) syscalls: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchMap {
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) sub_architectures: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    /// The old way to name a single one.
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) names: Vec<String>,
    pub(super) action: LinuxSeccompAction,
    pub(super) errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) includes: Filter,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) excludes: Filter,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) arches: Vec<String>,
    pub(super) min_kernel: Option<String>,
}

/// A capability by its name in a profile. No container has one that the OCI runtime spec does not know.
pub(super) fn capability(name: &str) -> Option<Capability> {
    name.strip_prefix("CAP_").unwrap_or(name).parse().ok()
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
