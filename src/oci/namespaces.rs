//! The namespaces of a container: its own, the pod's, the host's or another container's.
//!
//! | CRI mode  | pid | ipc | network, uts |
//! |-----------|-----|-----|--------------|
//! | POD       | the pod's | the pod's | the pod's |
//! | CONTAINER | its own | its own | refused |
//! | NODE      | the host's | the host's | the host's |
//! | TARGET    | that container's | refused | refused |
//!
//! A pod with a user namespace may be on the host's network. It is in that already, and none of its processes could join it:
//! POD and NODE are the same there.
//!
//! In a pod that shares no PID namespace (CONTAINER), POD means the container's own. The mount namespace is always the
//! container's own. So is the cgroup namespace, except for a privileged container, which is there to see the node. The
//! user namespace is always the pod's: see [`super::userns`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use pausa_monitor_protocol::{Namespace, NamespacePlan};
use serde::{Deserialize, Serialize};

use super::PodNamespaces;
use super::error::OciError;
use crate::proto::v1::{self, NamespaceMode};

/// The namespaces of a container, for its spec and for the monitor.
///
/// # Errors
/// A mode that makes no sense for its namespace.
pub fn namespace_plan(
    pod: &v1::PodSandboxConfig,
    config: &v1::ContainerConfig,
) -> Result<NamespacePlan, OciError> {
    let security = super::security_context(config);
    let default = v1::NamespaceOption::default();
    let options = security
        .and_then(|security| security.namespace_options.as_ref())
        .unwrap_or(&default);
    let network = match shared("network", options.network())? {
        Namespace::Host if super::pod_users(pod)?.is_some() => Namespace::Pod,
        network => network,
    };
    let ipc = match options.ipc() {
        NamespaceMode::Container => Namespace::New,
        mode => shared("ipc", mode)?,
    };
    let pid = match options.pid() {
        NamespaceMode::Container => Namespace::New,
        NamespaceMode::Target if options.target_id.is_empty() => {
            let reason = "pid mode TARGET needs the id of a container";
            return Err(OciError::invalid(field("target_id"), "", reason));
        }
        NamespaceMode::Target => Namespace::Container(options.target_id.clone()),
        // The pod has no PID namespace to share and `Pod` would be the host's: never by accident.
        NamespaceMode::Pod if pod_pid(pod) == NamespaceMode::Container => Namespace::New,
        mode => shared("pid", mode)?,
    };
    let privileged = security.is_some_and(|security| security.privileged);
    Ok(NamespacePlan {
        pid,
        ipc,
        uts: network.clone(),
        network,
        cgroup: if privileged {
            Namespace::Host
        } else {
            Namespace::New
        },
    })
}

/// A namespace in place of the one that CRI asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherNamespace {
    /// A new one.
    New,
    /// The node's.
    Host,
    /// The one behind this file of the node.
    File(PathBuf),
}

/// Puts namespaces in place of others, by their kind in the runtime spec.
///
/// # Errors
/// A kind that cannot be replaced, or not by a file.
pub fn replace_namespaces(
    plan: &mut NamespacePlan,
    others: &BTreeMap<String, OtherNamespace>,
) -> Result<(), OciError> {
    for (kind, other) in others {
        let place = match kind.as_str() {
            "pid" if matches!(other, OtherNamespace::File(_)) => {
                let reason = "a PID namespace cannot be joined by its file; use pid TARGET";
                return Err(OciError::lacks("linux.namespaces", kind, reason));
            }
            "pid" => &mut plan.pid,
            "ipc" => &mut plan.ipc,
            "uts" => &mut plan.uts,
            "network" => &mut plan.network,
            "cgroup" => &mut plan.cgroup,
            _ => {
                let reason = "only pid, ipc, uts, network and cgroup namespaces can be replaced";
                return Err(OciError::lacks("linux.namespaces", kind, reason));
            }
        };
        *place = match other {
            OtherNamespace::New => Namespace::New,
            OtherNamespace::Host => Namespace::Host,
            OtherNamespace::File(path) => Namespace::File(path.as_os_str().as_encoded_bytes().to_vec()),
        };
    }
    Ok(())
}

/// The namespaces as the runtime spec has them: with a path, joined; without, new; not there, the host's.
pub(crate) fn to_oci(
    plan: &NamespacePlan,
    pod: &PodNamespaces<'_>,
    target_pid: Option<&Path>,
) -> Result<Vec<LinuxNamespace>, OciError> {
    let wanted = [
        (LinuxNamespaceType::Pid, &plan.pid, pod.pid),
        (LinuxNamespaceType::Ipc, &plan.ipc, pod.ipc),
        (LinuxNamespaceType::Uts, &plan.uts, pod.uts),
        (LinuxNamespaceType::Network, &plan.network, pod.network),
        (LinuxNamespaceType::Cgroup, &plan.cgroup, None),
        (LinuxNamespaceType::Mount, &Namespace::New, None),
    ];
    let mut namespaces = Vec::new();
    for (kind, from, pod) in wanted {
        let path = match from {
            Namespace::New => None,
            // A file is only put into the spec afterwards.
            Namespace::Host | Namespace::File(_) => continue,
            // The pod has none of its own: it uses the host's.
            Namespace::Pod if pod.is_none() => continue,
            Namespace::Pod => pod,
            Namespace::Container(id) if target_pid.is_none() => {
                let reason = "there is no running container with this id in the pod";
                return Err(OciError::lacks(field("target_id"), id, reason));
            }
            Namespace::Container(_) => target_pid,
        };
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path.map(Path::to_path_buf));
        namespaces.push(namespace);
    }
    Ok(namespaces)
}

/// The PID mode of the pod itself: `POD` means it has a PID namespace that containers share.
fn pod_pid(pod: &v1::PodSandboxConfig) -> NamespaceMode {
    super::pod_namespaces(pod).pid()
}

/// Modes that every namespace has.
fn shared(name: &'static str, mode: NamespaceMode) -> Result<Namespace, OciError> {
    match mode {
        NamespaceMode::Pod => Ok(Namespace::Pod),
        NamespaceMode::Node => Ok(Namespace::Host),
        NamespaceMode::Container | NamespaceMode::Target => Err(OciError::invalid(
            field(name),
            mode.as_str_name(),
            "this namespace is the pod's or the node's",
        )),
    }
}

fn field(name: &str) -> String {
    format!("linux.security_context.namespace_options.{name}")
}

#[cfg(test)]
mod tests;
