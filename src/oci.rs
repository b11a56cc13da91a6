//! From CRI and an image's config to an OCI runtime spec, and from a spec to the monitor's plan.
//!
//! ```text
//!   ContainerConfig ─▶ prepare ──────┐  sources made, devices and profiles read   (touches the node)
//!   container's root ─▶ resolve_user ┤  passwd and group of the image             (reads the image)
//!   PodSandboxConfig, image config ──┴─▶ generate ─▶ Spec ─▶ config.json, for every runtime handler
//!                                                     └────▶ compile ─▶ ContainerPlan   (built-in handler)
//!                                                     └────▶ exec_process ─▶ ProcessPlan
//! ```
//!
//! [`generate`], [`compile`] and [`exec_process`] are pure: same input, same output, nothing is looked up. The
//! spec is the whole truth about a container; what JSON cannot hold is in its annotations.
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
mod users;

use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;

pub use compile::{CompileInput, compile, exec_process};
pub use error::OciError;
pub use generate::generate;
pub use host::Host;
pub use namespaces::namespace_plan;
pub use prepare::{Prepared, prepare};
pub(crate) use process::add_term;
pub use programs::SeccompPrograms;
pub use signal::{Signal, stop_signal};
pub use user::{ResolvedUser, resolve_user};
pub use users::pod_users;

use crate::proto::v1;

/// The pod a container belongs to.
#[derive(Debug, Clone, Copy)]
pub struct PodInput<'a> {
    /// Pod sandbox id.
    pub id: &'a str,
    /// What CRI said about the pod.
    pub config: &'a v1::PodSandboxConfig,
    /// The files that all containers of the pod share.
    pub files: &'a PodFiles,
    /// The pod's namespaces as paths, for runtime handlers that join by path.
    pub namespaces: PodNamespaces<'a>,
    /// The name in the pod's UTS namespace.
    pub hostname: &'a str,
}

/// Files of a pod that its containers see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFiles {
    /// `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// `/etc/hostname`.
    pub hostname: Option<PathBuf>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// The pod's `/dev/shm`.
    pub shm: PathBuf,
}

/// Paths of a pod's namespaces; none where it uses the host's.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodNamespaces<'a> {
    /// Network.
    pub network: Option<&'a Path>,
    /// IPC.
    pub ipc: Option<&'a Path>,
    /// UTS.
    pub uts: Option<&'a Path>,
    /// PID, where the pod shares one.
    pub pid: Option<&'a Path>,
}

/// Everything a container's spec follows from.
#[derive(Debug, Clone, Copy)]
pub struct ContainerInput<'a> {
    /// What CRI says about the container.
    pub config: &'a v1::ContainerConfig,
    /// Its pod.
    pub pod: PodInput<'a>,
    /// The config of its image.
    pub image: &'a ImageConfiguration,
    /// Who it runs as.
    pub user: &'a ResolvedUser,
    /// `linux.cgroupsPath`, in the form of the cgroup driver.
    pub cgroups_path: &'a str,
    /// Its root directory, for `root.path`.
    pub rootfs: &'a Path,
    /// The node.
    pub host: &'a Host,
    /// What was found on the node for this container.
    pub prepared: &'a Prepared,
    /// The PID namespace to join with `pid: TARGET`.
    pub target_pid: Option<&'a Path>,
}

/// A container's security context, where it has one.
pub(crate) fn security_context(config: &v1::ContainerConfig) -> Option<&v1::LinuxContainerSecurityContext> {
    config.linux.as_ref()?.security_context.as_ref()
}

#[cfg(test)]
mod tests;
