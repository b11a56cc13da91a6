//! User namespaces of pods (KEP-127): CRI's options and their rules.
//!
//! A pod has no range of ids, or one that users and groups, all its containers and all its volumes share. The host's PID
//! and IPC namespaces and privilege are refused with one: a namespace of the host is not owned by the pod's root, so its
//! kernel file systems could not be mounted, and privilege is meant for the host. The host's network can be had; such a pod
//! gets the host's `/sys`, read-only.
//!
//! Reference: user_namespaces(7), mount_setattr(2); CRI `UserNamespace`, `Mount.uidMappings`.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use pausa_monitor_protocol::IdRange;

use super::error::OciError;
use super::{ResolvedUser, pod_namespaces, pod_security_context, security_context};
use crate::proto::v1::{self, NamespaceMode};

const OF_POD: &str = "config.linux.security_context.namespace_options.userns_options";
const OF_CONTAINER: &str = "linux.security_context.namespace_options.userns_options";

/// The least that kubelet gives. Images rely on it: `nobody` is 65534.
const LENGTH_MIN: u32 = 65_536;

/// The range of ids of a pod; none if it uses the host's.
///
/// # Errors
/// A field that is wrong or cannot be combined with a user namespace.
pub fn pod_users(pod: &v1::PodSandboxConfig) -> Result<Option<IdRange>, OciError> {
    let security = pod_security_context(pod);
    let options = security.and_then(|security| security.namespace_options.as_ref());
    let Some(options) = options else { return Ok(None) };
    let Some(range) = parse(options.userns_options.as_ref(), OF_POD)? else {
        return Ok(None);
    };
    refuse_host_namespaces(options, "config.linux.security_context.namespace_options")?;
    if security.is_some_and(|security| security.privileged) {
        return Err(OciError::invalid(
            "config.linux.security_context.privileged",
            true,
            "a pod with a user namespace cannot be privileged",
        ));
    }
    Ok(Some(range))
}

/// The range of a container, which is its pod's. CRI may leave it out for a container.
pub(crate) fn container_users(
    pod: &v1::PodSandboxConfig,
    config: &v1::ContainerConfig,
    user: &ResolvedUser,
) -> Result<Option<IdRange>, OciError> {
    let of_pod = pod_users(pod)?;
    let security = security_context(config);
    let options = security.and_then(|security| security.namespace_options.as_ref());
    if let Some(options) = options
        && let Some(users) = &options.userns_options
        && parse(Some(users), OF_CONTAINER)? != of_pod
    {
        return Err(OciError::invalid(
            OF_CONTAINER,
            shown(users),
            "it must be the same as the pod's, because all containers share the pod's user namespace",
        ));
    }
    let Some(range) = of_pod else { return Ok(None) };
    if let Some(options) = options {
        refuse_host_namespaces(options, "linux.security_context.namespace_options")?;
        if options.network() == NamespaceMode::Node && pod_namespaces(pod).network() != NamespaceMode::Node {
            return Err(OciError::invalid(
                "linux.security_context.namespace_options.network",
                "NODE",
                "the pod has a user namespace and a network of its own, and its processes cannot join the host's",
            ));
        }
    }
    if security.is_some_and(|security| security.privileged) {
        return Err(OciError::invalid(
            "linux.security_context.privileged",
            true,
            "a container in a user namespace cannot be privileged",
        ));
    }
    let ids = [("run_as_user", user.uid), ("run_as_group", user.gid)];
    let groups = user.groups.iter().map(|gid| ("supplemental_groups", *gid));
    for (field, id) in ids.into_iter().chain(groups) {
        if range.outside(id).is_none() {
            return Err(OciError::invalid(
                format!("linux.security_context.{field}, or what the image says instead,"),
                id,
                "the pod's user namespace has no such id: it must be below the length of userns_options.uids",
            ));
        }
    }
    Ok(of_pod)
}

/// Whether file owners on a mount are mapped to the pod's ids.
pub(crate) fn maps_owners(index: usize, mount: &v1::Mount, pod: Option<IdRange>) -> Result<bool, OciError> {
    if mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty() {
        return Ok(false);
    }
    let field = |name| format!("mounts[{index}].{name}");
    let range = range(&mount.uid_mappings, &field("uidMappings"))?;
    if range != self::range(&mount.gid_mappings, &field("gidMappings"))? || Some(range) != pod {
        return Err(OciError::invalid(
            field("uidMappings and gidMappings"),
            line(&mount.uid_mappings),
            "they must be those of the pod's userns_options",
        ));
    }
    Ok(true)
}

/// The mapping for the runtime spec.
pub(crate) fn to_oci(range: IdRange) -> Vec<LinuxIdMapping> {
    let mapping = LinuxIdMappingBuilder::default()
        .container_id(0_u32)
        .host_id(range.first)
        .size(range.length)
        .build();
    // Building fails only if a field is missing.
    mapping.into_iter().collect()
}

fn parse(users: Option<&v1::UserNamespace>, field: &str) -> Result<Option<IdRange>, OciError> {
    let Some(users) = users else { return Ok(None) };
    match NamespaceMode::try_from(users.mode) {
        Ok(NamespaceMode::Node) if users.uids.is_empty() && users.gids.is_empty() => Ok(None),
        Ok(NamespaceMode::Node) => Err(OciError::invalid(
            field.to_owned(),
            shown(users),
            "with mode NODE there is nothing to map: leave out uids and gids",
        )),
        Ok(NamespaceMode::Pod) => {
            let uids = range(&users.uids, &format!("{field}.uids"))?;
            if uids == range(&users.gids, &format!("{field}.gids"))? {
                return Ok(Some(uids));
            }
            let reason = "it must be the same as uids";
            Err(OciError::invalid(
                format!("{field}.gids"),
                line(&users.gids),
                reason,
            ))
        }
        _ => Err(OciError::invalid(
            format!("{field}.mode"),
            users.mode,
            "use POD (0) with one mapping, or NODE (2)",
        )),
    }
}

fn range(mappings: &[v1::IdMapping], field: &str) -> Result<IdRange, OciError> {
    let bad = |reason| Err(OciError::invalid(field.to_owned(), line(mappings), reason));
    let [mapping] = mappings else {
        return bad("it must have exactly one mapping");
    };
    let range = IdRange {
        first: mapping.host_id,
        length: mapping.length,
    };
    if mapping.container_id != 0 {
        return bad("container_id must be 0: a container has a root");
    }
    if range.first == 0 {
        return bad("host_id must not be 0: that is the node's root");
    }
    if range.length < LENGTH_MIN {
        return bad("length must be 65536 or more");
    }
    // The last id, 2^32-1, means "no id".
    if range.first.checked_add(range.length).is_none() {
        return bad("host_id and length reach beyond the ids there are");
    }
    Ok(range)
}

fn refuse_host_namespaces(options: &v1::NamespaceOption, field: &str) -> Result<(), OciError> {
    let modes = [("pid", options.pid), ("ipc", options.ipc)];
    for (name, mode) in modes {
        if mode == i32::from(NamespaceMode::Node) {
            return Err(OciError::invalid(
                format!("{field}.{name}"),
                "NODE",
                "a pod with a user namespace cannot use the host's; set userns_options.mode to NODE to do so",
            ));
        }
    }
    Ok(())
}

fn line(mappings: &[v1::IdMapping]) -> String {
    let one =
        |mapping: &v1::IdMapping| format!("{} {} {}", mapping.container_id, mapping.host_id, mapping.length);
    // More than one is wrong already.
    mappings.iter().take(4).map(one).collect::<Vec<_>>().join(", ")
}

fn shown(users: &v1::UserNamespace) -> String {
    format!("mode {}, uids {}", users.mode, line(&users.uids))
}

#[cfg(test)]
mod tests;
