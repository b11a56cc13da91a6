//! Seccomp and AppArmor: from CRI's fields to what this node can enforce. SELinux is in [`crate::lsm::selinux`].
//!
//! A privileged container has neither, except for an AppArmor profile that it asks for by name. Without a seccomp
//! profile a container is unconfined, as CRI says; kubelet sets the defaults. Without AppArmor on the node, `RuntimeDefault`
//! is ignored and a `Localhost` profile is an error.

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, LinuxSeccomp};
use pausa_seccomp::{Profile, Target, default_profile};

use super::error::OciError;
use super::host::Host;
use crate::proto::v1::{self, security_profile::ProfileType};

const SECCOMP: &str = "linux.security_context.seccomp";
const APPARMOR: &str = "linux.security_context.apparmor";

/// The seccomp profile of a container.
#[derive(Debug, Clone, Default)]
pub enum Seccomp {
    #[default]
    Unconfined,
    /// [`Host::seccomp_default`], else pausa's own profile.
    RuntimeDefault,
    /// A profile that was read from the node.
    Localhost(Profile),
}

/// A profile as a field names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Unset,
    RuntimeDefault,
    Unconfined,
    Localhost(String),
}

/// The seccomp profile in CRI. The deprecated path counts only if the newer field is absent.
pub(crate) fn seccomp_choice(security: &v1::LinuxContainerSecurityContext) -> Result<Choice, OciError> {
    if security.privileged {
        return Ok(Choice::Unset);
    }
    if let Some(profile) = &security.seccomp {
        return typed(SECCOMP, profile);
    }
    #[expect(deprecated, reason = "crictl users and old kubelets still send it")]
    let path = &security.seccomp_profile_path;
    named("linux.security_context.seccomp_profile_path", path)
}

/// The file of a `Localhost` profile. kubelet sends absolute paths; others are relative to `root`.
pub(crate) fn localhost_path(root: &std::path::Path, reference: &str) -> Result<PathBuf, OciError> {
    let path = PathBuf::from(reference);
    let climbs = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    if reference.is_empty() || reference.contains('\0') || climbs {
        let reason = "it must be the path of a profile, without `..`";
        return Err(OciError::invalid(
            format!("{SECCOMP}.localhost_ref"),
            reference,
            reason,
        ));
    }
    Ok(root.join(path))
}

/// The filter for the runtime spec of a container with this bounding set.
pub(crate) fn seccomp(
    profile: &Seccomp,
    bounding: &Capabilities,
    host: &Host,
) -> Result<Option<LinuxSeccomp>, OciError> {
    if matches!(profile, Seccomp::Unconfined) {
        return Ok(None);
    }
    let Some(architecture) = host.architecture.filter(|_| host.seccomp) else {
        let reason = "this kernel or machine has no seccomp filters; use Unconfined";
        return Err(OciError::lacks(SECCOMP, "RuntimeDefault or Localhost", reason));
    };
    let target = Target {
        architecture,
        capabilities: bounding,
        kernel: host.kernel,
    };
    let profile = match (profile, &host.seccomp_default) {
        (Seccomp::Unconfined, _) => return Ok(None),
        (Seccomp::RuntimeDefault, None) => return Ok(Some(default_profile(&target))),
        (Seccomp::RuntimeDefault, Some(profile)) | (Seccomp::Localhost(profile), _) => profile,
    };
    let resolved = profile.resolve(&target).map_err(|source| OciError::Seccomp {
        field: SECCOMP.into(),
        source,
    })?;
    Ok(Some(resolved))
}

/// The filter of a container whose writable layer has a limit: see [`pausa_seccomp::keep_projects`].
pub(crate) fn keep_projects(seccomp: Option<LinuxSeccomp>, host: &Host) -> Result<LinuxSeccomp, OciError> {
    match host.architecture.filter(|_| host.seccomp) {
        Some(native) => Ok(pausa_seccomp::keep_projects(seccomp, native)),
        None => {
            let reason = "a limit of the writable layer needs seccomp filters, which this kernel or machine does not have";
            Err(OciError::lacks(SECCOMP, "", reason))
        }
    }
}

/// The AppArmor profile in CRI, and the field that names it. The deprecated name counts only if the newer field is absent.
///
/// Without a word, a container gets the default profile, and a privileged one none: the default one denies what it is
/// privileged for.
pub(crate) fn apparmor_choice(
    security: &v1::LinuxContainerSecurityContext,
) -> Result<(&'static str, Choice), OciError> {
    let (field, choice) = if let Some(profile) = &security.apparmor {
        (APPARMOR, typed(APPARMOR, profile)?)
    } else {
        let field = "linux.security_context.apparmor_profile";
        #[expect(deprecated, reason = "crictl users and old kubelets still send it")]
        let name = &security.apparmor_profile;
        (field, named(field, name)?)
    };
    let choice = match choice {
        Choice::Localhost(name) if name.is_empty() || name.contains(['\0', '\n']) => {
            return Err(OciError::invalid(field, name, "it is not a profile's name"));
        }
        Choice::Unset | Choice::RuntimeDefault if security.privileged => Choice::Unconfined,
        Choice::Unset => Choice::RuntimeDefault,
        other => other,
    };
    Ok((field, choice))
}

fn typed(field: &'static str, profile: &v1::SecurityProfile) -> Result<Choice, OciError> {
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(Choice::RuntimeDefault),
        Ok(ProfileType::Unconfined) => Ok(Choice::Unconfined),
        Ok(ProfileType::Localhost) => Ok(Choice::Localhost(
            profile
                .localhost_ref
                .strip_prefix("localhost/")
                .unwrap_or(&profile.localhost_ref)
                .to_owned(),
        )),
        Err(_) => Err(OciError::invalid(
            format!("{field}.profile_type"),
            profile.profile_type,
            "use RuntimeDefault (0), Unconfined (1) or Localhost (2)",
        )),
    }
}

fn named(field: &'static str, name: &str) -> Result<Choice, OciError> {
    match name {
        "" => Ok(Choice::Unset),
        "unconfined" => Ok(Choice::Unconfined),
        "runtime/default" | "docker/default" => Ok(Choice::RuntimeDefault),
        _ => match name.strip_prefix("localhost/") {
            Some(reference) => Ok(Choice::Localhost(reference.to_owned())),
            None => Err(OciError::invalid(
                field,
                name,
                "use runtime/default, unconfined or localhost/PROFILE",
            )),
        },
    }
}

#[cfg(test)]
mod tests;
