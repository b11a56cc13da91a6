//! The validator that is part of the runtime: it refuses adjustments of the kinds that the node's administrator does
//! not want, and containers that no plugin of a certain name has seen.
//!
//! Annotations of the pod are hostile: they can require more plugins, and tolerate missing ones only if the
//! configuration names the annotation for that.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use pausa_yaml::Scalars;
use serde::{Deserialize, Serialize};

use crate::creation::bare;
use crate::proto::security_profile::ProfileType;
use crate::proto::{Container, Field, PodSandbox, ValidateContainerAdjustmentRequest};

/// The annotation with a YAML list of plugins, by name or as INDEX-NAME, without which a container may not be created.
pub const REQUIRED_PLUGINS: &str = "required-plugins.noderesource.dev";

/// Bytes that the list may take: names of thousands of plugins.
const MEMORY: usize = 1 << 20;

/// What is refused. The keys are those of containerd's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct DefaultValidator {
    /// If not, everything is accepted.
    pub enable: bool,
    pub reject_oci_hook_adjustment: bool,
    /// Where the pod asks for the runtime's profile.
    pub reject_runtime_default_seccomp_adjustment: bool,
    /// Where the pod asks for no profile.
    pub reject_unconfined_seccomp_adjustment: bool,
    /// Where the pod asks for a profile of the node, `Localhost`.
    pub reject_custom_seccomp_adjustment: bool,
    pub reject_namespace_adjustment: bool,
    pub reject_sysctl_adjustment: bool,
    /// Plugins that must be there for all containers, static pods too, by name or as INDEX-NAME.
    pub required_plugins: Vec<String>,
    /// The annotation by which a pod goes without required plugins. If empty, there is none.
    pub tolerate_missing_plugins_annotation: String,
}

/// Why a container is not created.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Rejection {
    /// Something is adjusted that must not be.
    #[error(
        "NRI plugins {plugins} adjust the {what} of container {container:?}, \
         which the default validator is configured to reject"
    )]
    Adjusted {
        container: String,
        what: &'static str,
        plugins: String,
    },
    /// A required plugin is not there.
    #[error(
        "container {container:?} requires the NRI plugins {plugins:?}, which are not running: start them"
    )]
    MissingPlugins { container: String, plugins: Vec<String> },
    /// An annotation cannot be read.
    #[error("annotation {annotation} of the pod is {value:?}: it must be {expected}")]
    Annotation {
        annotation: String,
        value: String,
        expected: &'static str,
    },
}

impl DefaultValidator {
    /// Whether the container may be created with what the plugins made of it.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn validate(&self, request: &ValidateContainerAdjustmentRequest) -> Result<(), Rejection> {
        if !self.enable {
            return Ok(());
        }
        let nothing = Container::default();
        let container = request.container.as_ref().unwrap_or(&nothing);
        let rejected = |what, plugins: Option<String>| match plugins {
            None => Ok(()),
            Some(plugins) => Err(Rejection::Adjusted {
                container: container.name.clone(),
                what,
                plugins,
            }),
        };
        if self.reject_oci_hook_adjustment {
            rejected("OCI hooks", owner(request, container, Field::OciHooks))?;
        }
        let (reject, what) = self.seccomp(container);
        if reject {
            rejected(what, owner(request, container, Field::SeccompPolicy))?;
        }
        if self.reject_namespace_adjustment {
            rejected("namespaces", owners(request, container, Field::Namespace))?;
        }
        if self.reject_sysctl_adjustment {
            rejected("sysctls", sysctl_owners(request, container))?;
        }
        self.plugins(request, container)
    }

    /// Whether the policy may not be adjusted, given the profile that the pod asks for. None is unconfined.
    fn seccomp(&self, container: &Container) -> (bool, &'static str) {
        let profile = container
            .linux
            .as_ref()
            .and_then(|linux| linux.seccomp_profile.as_ref());
        match profile.map_or(ProfileType::Unconfined, |profile| profile.profile_type()) {
            ProfileType::Unconfined => {
                let reject = self.reject_unconfined_seccomp_adjustment;
                (reject, "seccomp policy, which is unconfined,")
            }
            ProfileType::RuntimeDefault => {
                let reject = self.reject_runtime_default_seccomp_adjustment;
                (reject, "seccomp policy, which is the runtime's default,")
            }
            ProfileType::Localhost => {
                let reject = self.reject_custom_seccomp_adjustment;
                (reject, "seccomp policy, which is a custom one,")
            }
        }
    }

    fn plugins(
        &self,
        request: &ValidateContainerAdjustmentRequest,
        container: &Container,
    ) -> Result<(), Rejection> {
        let invalid = |annotation: &str, value: &str, expected| Rejection::Annotation {
            annotation: annotation.to_owned(),
            value: value.chars().take(256).collect(),
            expected,
        };
        let pod = request.pod.as_ref();
        let tolerate = Some(self.tolerate_missing_plugins_annotation.as_str()).filter(|key| !key.is_empty());
        if let Some(key) = tolerate
            && let Some(value) = annotation(pod, key, &container.name)
            && boolean(value).ok_or_else(|| invalid(key, value, "true or false"))?
        {
            return Ok(());
        }
        let mut required = self.required_plugins.clone();
        if let Some(value) = annotation(pod, REQUIRED_PLUGINS, &container.name) {
            let error = || invalid(REQUIRED_PLUGINS, value, "a YAML list of names of plugins");
            required.extend(names(value).ok_or_else(error)?);
        }
        let running = request.plugins.iter();
        let mut known: BTreeSet<_> = running
            .flat_map(|plugin| [plugin.name.clone(), format!("{}-{}", plugin.index, plugin.name)])
            .collect();
        // Those that are missing are known then: aliases can repeat a name very often.
        required.retain(|name| known.insert(name.clone()));
        if required.is_empty() {
            return Ok(());
        }
        Err(Rejection::MissingPlugins {
            container: container.name.clone(),
            plugins: required,
        })
    }
}

/// The plugins that set a field which is one value.
fn owner(
    request: &ValidateContainerAdjustmentRequest,
    container: &Container,
    field: Field,
) -> Option<String> {
    let fields = request.owners.as_ref()?.owners.get(&container.id)?;
    fields.simple.get(&field.into()).cloned()
}

/// The plugins that set entries of a field, with the entries.
fn owners(
    request: &ValidateContainerAdjustmentRequest,
    container: &Container,
    field: Field,
) -> Option<String> {
    let fields = request.owners.as_ref()?.owners.get(&container.id)?;
    let entries = fields.compound.get(&field.into())?.owners.iter();
    let texts: Vec<_> = entries
        .map(|(key, plugin)| format!("{} ({key})", bare(plugin)))
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// As [`owners`], with those removals that took nothing from another plugin: they have no owner.
fn sysctl_owners(request: &ValidateContainerAdjustmentRequest, container: &Container) -> Option<String> {
    let linux = request.adjust.as_ref()?.linux.as_ref()?;
    let removed = linux.sysctl.keys().next()?;
    owners(request, container, Field::Sysctl).or_else(|| Some(format!("of unknown name ({removed})")))
}

/// The annotation for a container: its own before the pod's.
fn annotation<'a>(pod: Option<&'a PodSandbox>, key: &str, container: &str) -> Option<&'a str> {
    let annotations = &pod?.annotations;
    let keys = [
        format!("{key}/container.{container}"),
        format!("{key}/pod"),
        key.to_owned(),
    ];
    keys.iter()
        .find_map(|key| annotations.get(key))
        .map(String::as_str)
}

/// As Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The names in a YAML list. Nulls are none, and nor is an empty document, as in the reference implementation.
fn names(text: &str) -> Option<Vec<String>> {
    let list = pausa_yaml::parse(text, Scalars::Text, MEMORY).ok()?;
    let list: Option<Vec<Option<String>>> = serde_json::from_value(list).ok()?;
    Some(list.into_iter().flatten().flatten().collect())
}
