//! What a pod's configuration must look like, checked before anything is made.
//!
//! Pure. Every refusal names the field as CRI has it and says what would be right. What depends on the node
//! (the form of `cgroup_parent`, a network that exists) is refused by the module that knows.

use std::net::IpAddr;

use super::error::PodError;
use super::ops::check_layer_limits;
use super::record::selinux_options;
use crate::oci::{pod_namespaces, pod_security_context, security_context};
use crate::proto::v1::{self, NamespaceMode};

/// Longest host name the kernel takes (`__NEW_UTS_LEN`, sethostname(2)).
const HOSTNAME_MAX: usize = 64;

/// Refuses what cannot be made.
pub(super) fn pod(config: &v1::PodSandboxConfig) -> Result<(), PodError> {
    hostname(&config.hostname)?;
    if !config.log_directory.is_empty() && !plain_absolute(&config.log_directory) {
        return invalid(
            "config.log_directory",
            &config.log_directory,
            "it must be an absolute path without `..`",
        );
    }
    for port in &config.port_mappings {
        port_mapping(port)?;
    }
    if let Some(dns) = &config.dns_config {
        let values = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
        for value in values {
            if value.chars().any(char::is_control) {
                return invalid(
                    "config.dns_config",
                    value,
                    "a line break or control character would forge resolv.conf",
                );
            }
        }
    }
    if let Some(security) = pod_security_context(config)
        && let (Some(group), None) = (&security.run_as_group, &security.run_as_user)
    {
        return invalid(
            "config.linux.security_context.run_as_group",
            &group.value.to_string(),
            "a group is only set together with a user: set run_as_user, too",
        );
    }
    sysctls(config)?;
    if let Some(options) = selinux_options(config) {
        selinux("config.linux.security_context.selinux_options", options)?;
    }
    namespaces(&pod_namespaces(config))?;
    check_layer_limits(config)?;
    let users = crate::oci::pod_users(config).map(drop);
    users.map_err(|error| PodError::failed("give the pod these users", error))
}

/// Refuses a container whose configuration is wrong whatever its image and its pod are.
pub(super) fn container(config: &v1::ContainerConfig) -> Result<(), PodError> {
    let path = std::path::Path::new(&config.log_path);
    if path.is_absolute()
        || path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
    {
        return invalid(
            "config.log_path",
            &config.log_path,
            "it must be relative to the pod's log_directory, without `..`",
        );
    }
    if config.stop_signal != 0 && crate::oci::Signal::from_cri(config.stop_signal).is_none() {
        return invalid(
            "config.stop_signal",
            &config.stop_signal.to_string(),
            "it is none of CRI's signals",
        );
    }
    if let Some(options) = security_context(config).and_then(|security| security.selinux_options.as_ref()) {
        selinux("config.linux.security_context.selinux_options", options)?;
    }
    Ok(())
}

fn invalid<T>(field: &'static str, value: &str, right: &str) -> Result<T, PodError> {
    let shown: String = value.chars().take(100).collect();
    Err(PodError::Invalid {
        field,
        problem: format!("is {shown:?}: {right}"),
    })
}

/// Refused also where SELinux is off: the request is wrong everywhere.
fn selinux(field: &'static str, options: &v1::SeLinuxOption) -> Result<(), PodError> {
    crate::lsm::selinux::check(options).map_err(|(part, value, right)| {
        let shown: String = value.chars().take(100).collect();
        PodError::Invalid {
            field,
            problem: format!("has the {part} {shown:?}: {right}"),
        }
    })
}

fn hostname(name: &str) -> Result<(), PodError> {
    if name.len() > HOSTNAME_MAX {
        return invalid("config.hostname", name, "the kernel takes 64 bytes at most");
    }
    if name
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '/')
    {
        return invalid("config.hostname", name, "it is no host name");
    }
    Ok(())
}

fn plain_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

fn port_mapping(port: &v1::PortMapping) -> Result<(), PodError> {
    if !(1..=65535).contains(&port.container_port) {
        let value = port.container_port.to_string();
        return invalid(
            "config.port_mappings.container_port",
            &value,
            "a port is 1 to 65535",
        );
    }
    if !(0..=65535).contains(&port.host_port) {
        let value = port.host_port.to_string();
        return invalid(
            "config.port_mappings.host_port",
            &value,
            "a port is 1 to 65535, or 0 for none",
        );
    }
    if !port.host_ip.is_empty() && port.host_ip.parse::<IpAddr>().is_err() {
        return invalid(
            "config.port_mappings.host_ip",
            &port.host_ip,
            "it is no IP address",
        );
    }
    Ok(())
}

/// Only what belongs to the pod's own namespaces: the rest is the node's.
fn sysctls(config: &v1::PodSandboxConfig) -> Result<(), PodError> {
    const FIELD: &str = "config.linux.sysctls";
    let Some(linux) = &config.linux else { return Ok(()) };
    let options = pod_namespaces(config);
    for name in linux.sysctls.keys() {
        let dotted = name.replace('/', ".");
        let own_network = options.network() != NamespaceMode::Node;
        let own_ipc = options.ipc() != NamespaceMode::Node;
        if dotted.is_empty() || dotted.split('.').any(str::is_empty) {
            return invalid(FIELD, name, "it is no name of a sysctl");
        }
        let of_ipc = dotted.starts_with("fs.mqueue.")
            || dotted.starts_with("kernel.shm")
            || dotted.starts_with("kernel.msg")
            || dotted == "kernel.sem";
        if of_ipc && !own_ipc {
            return invalid(
                FIELD,
                name,
                "the pod uses the host's IPC namespace, where it may change nothing",
            );
        }
        let of_network = dotted.starts_with("net.");
        if of_network && !own_network {
            return invalid(
                FIELD,
                name,
                "the pod uses the host's network namespace, where it may change nothing",
            );
        }
        let of_uts = dotted == "kernel.domainname";
        if of_uts && !own_network {
            return invalid(
                FIELD,
                name,
                "a pod on the host's network has the host's UTS namespace, where it may change nothing",
            );
        }
        let of_users = dotted.starts_with("user.");
        let own_users = crate::oci::pod_users(config).is_ok_and(|users| users.is_some());
        if of_users && !own_users {
            return invalid(
                FIELD,
                name,
                "user.* belongs to a user namespace, which the pod does not have (hostUsers: false)",
            );
        }
        if dotted == "kernel.hostname" {
            return invalid(FIELD, name, "set config.hostname instead");
        }
        if !of_ipc && !of_network && !of_uts && !of_users {
            return invalid(
                FIELD,
                name,
                "only net.*, fs.mqueue.*, kernel.shm*, kernel.msg*, kernel.sem, kernel.domainname and user.* belong to a pod",
            );
        }
    }
    Ok(())
}

fn namespaces(options: &v1::NamespaceOption) -> Result<(), PodError> {
    const FIELD: &str = "config.linux.security_context.namespace_options";
    for (name, value) in [
        ("network", options.network),
        ("pid", options.pid),
        ("ipc", options.ipc),
    ] {
        let Ok(mode) = NamespaceMode::try_from(value) else {
            return invalid(FIELD, &value.to_string(), &format!("{name} has no such mode"));
        };
        let fits = match mode {
            NamespaceMode::Pod | NamespaceMode::Node => true,
            // What each container then has; the pod itself shares none.
            NamespaceMode::Container => name != "network",
            NamespaceMode::Target => false,
        };
        if !fits {
            return invalid(
                FIELD,
                mode.as_str_name(),
                &format!("{name} of a pod cannot have this mode"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
