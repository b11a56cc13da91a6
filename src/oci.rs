//! From CRI and an image's config to an OCI runtime spec, and from a spec to the monitor's plan.
//!
//! ```text
//!   ContainerConfig ─▶ prepare ──────┐  mount sources created, devices and profiles read   (touches the node)
//!   container's root ─▶ resolve_user ┤  passwd and group of the image                      (reads the image)
//!   PodSandboxConfig, image config ──┴─▶ generate ─▶ Spec ─▶ config.json, for every runtime handler
//!                                                     └────▶ compile ─▶ ContainerPlan   (built-in handler)
//!                                                     └────▶ exec_process ─▶ ProcessPlan
//! ```
//!
//! [`generate()`], [`compile()`] and [`exec_process()`] are pure: their output follows from their input alone. Three steps
//! before them are not: [`Host::probe`] reads `/proc` and `/sys` once at start, [`prepare()`] looks at paths of the host and
//! creates missing mount sources, [`resolve_user`] reads `passwd` and `group` of the image.
//!
//! The spec is written to config.json for other tools and runtime handlers, and so that a later daemon can plan an exec.
//! It is not enough for the plan of the built-in handler, which also has the pod's namespaces as descriptors, the
//! streams and the log ([`CompileInput`]).
//!
//! Must never: trust what is in an image, follow a path of a container by name, or fill in a security default
//! that CRI left out on purpose (see `security`).
//!
//! References: OCI runtime spec, CRI `api.proto`, `docs/design/0002-cgroups.md` for resources.

mod annotations;
mod capabilities;
mod compile;
mod devices;
mod error;
mod generate;
mod hooks;
mod host;
mod mounts;
mod namespaces;
mod prepare;
mod process;
mod programs;
mod resources;
mod security;
mod signal;
mod user;
mod userns;

use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use pausa_monitor_protocol::NamespacePlan;

pub use compile::{CompileInput, compile, exec_process, hook_plan};
#[cfg(test)]
pub(crate) use devices::rules as device_rules;
pub use error::OciError;
pub use generate::generate;
pub(crate) use generate::{MASKED, READONLY};
pub use host::Host;
pub use namespaces::{OtherNamespace, namespace_plan, replace_namespaces};
pub use prepare::{NodeSources, Prepared, check_sources, prepare};
pub(crate) use process::{add_term, keeping_exact_env};
pub use programs::SeccompPrograms;
pub(crate) use resources::{oom_score_adj, resources as limits};
pub use signal::{Signal, stop_signal};
pub use user::{ResolvedUser, resolve_user};
pub use userns::pod_users;

use crate::cgroups::Limits;
use crate::config::Handler;
use crate::lsm::selinux::Labels;
use crate::proto::v1;

/// The pod a container belongs to.
#[derive(Debug, Clone, Copy)]
pub struct PodInput<'a> {
    pub id: &'a str,
    pub config: &'a v1::PodSandboxConfig,
    pub files: &'a PodFiles,
    /// The pod's namespaces as paths, for runtime handlers that join by path.
    pub namespaces: PodNamespaces<'a>,
    /// The name in the pod's UTS namespace.
    pub hostname: &'a str,
}

/// Files of a pod that its containers see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFiles {
    pub hosts: Option<PathBuf>,
    pub hostname: Option<PathBuf>,
    pub resolv_conf: Option<PathBuf>,
    /// The pod's `/dev/shm`.
    pub shm: PathBuf,
}

/// Paths of a pod's namespaces; none where it uses the host's.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodNamespaces<'a> {
    pub network: Option<&'a Path>,
    pub ipc: Option<&'a Path>,
    pub uts: Option<&'a Path>,
    /// Where the pod shares one.
    pub pid: Option<&'a Path>,
}

/// The input of [`generate()`].
#[derive(Debug, Clone, Copy)]
pub struct ContainerInput<'a> {
    pub config: &'a v1::ContainerConfig,
    pub pod: PodInput<'a>,
    pub image: &'a ImageConfiguration,
    pub user: &'a ResolvedUser,
    /// The limits in force, which differ from the asked ones in the CPUs of a pinned container.
    pub limits: &'a Limits,
    pub rdt_class: Option<&'a str>,
    /// `linux.cgroupsPath`, in the form of the cgroup driver.
    pub cgroups_path: &'a str,
    /// Its root directory, for `root.path`.
    pub rootfs: &'a Path,
    pub host: &'a Host,
    /// What its pod's runtime handler adds.
    pub handler: &'a Handler,
    pub prepared: &'a Prepared,
    /// See [`namespace_plan`].
    pub namespaces: &'a NamespacePlan,
    /// The PID namespace to join with `pid: TARGET`.
    pub target_pid: Option<&'a Path>,
    /// SELinux's labels; none where it is off.
    pub labels: Option<&'a Labels>,
    /// Its writable layer has a limit, which it must not get around.
    pub limited_layer: bool,
}

pub(crate) fn security_context(config: &v1::ContainerConfig) -> Option<&v1::LinuxContainerSecurityContext> {
    config.linux.as_ref()?.security_context.as_ref()
}

pub(crate) fn pod_security_context(
    config: &v1::PodSandboxConfig,
) -> Option<&v1::LinuxSandboxSecurityContext> {
    config.linux.as_ref()?.security_context.as_ref()
}

/// The namespaces that a pod asks for. What it leaves out is of the pod.
pub(crate) fn pod_namespaces(config: &v1::PodSandboxConfig) -> v1::NamespaceOption {
    pod_security_context(config)
        .and_then(|security| security.namespace_options.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
