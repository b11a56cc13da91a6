//! Looks up what a container's configuration names on the host: mount sources, devices, seccomp and AppArmor profiles.
//!
//! Not pure: it changes the node, because a missing mount source is created as a directory, and AppArmor's default profile
//! is loaded if somebody has unloaded it. Paths of volumes may hang (NFS), so the caller runs it on a thread of its own.

use std::fs;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::devices::Device;
use super::error::OciError;
use super::hooks::{self, HookFile};
use super::security::{self, Choice, Seccomp};
use super::{mounts, security_context};
use crate::cgroups::mountinfo::{self, MountInfo};
use crate::lsm::apparmor::{AppArmor, UNCONFINED};
use crate::proto::v1::{self, MountPropagation};

mod nodes;

#[derive(Debug, Default)]
pub struct Prepared {
    /// The sources of `ContainerConfig.mounts`, in order, symlinks resolved. Image volumes have an empty path.
    pub sources: Vec<PathBuf>,
    /// The device nodes that CRI names, or the host's for a privileged container.
    pub devices: Vec<Device>,
    pub seccomp: Seccomp,
    /// The AppArmor profile, which is loaded.
    pub apparmor: Option<String>,
    /// The hooks that are configured on this node, for whichever containers.
    pub hooks: Vec<HookFile>,
    /// What the CDI devices that CRI names change in the spec.
    pub cdi: pausa_cdi::Edits,
}

/// Where to look for what a container's configuration names, or what is configured for it.
#[derive(Debug, Clone, Copy)]
pub struct NodeSources<'a> {
    /// The directory of relative `Localhost` seccomp profiles.
    pub seccomp_root: &'a Path,
    /// The devices that CRI names belong to the container's user and group.
    pub own_devices: bool,
    pub apparmor: &'a AppArmor,
    /// Directories of oci-hooks(5).
    pub hooks_dirs: &'a [PathBuf],
    /// The CDI devices of this node.
    pub cdi: &'a pausa_cdi::Registry,
}

impl Prepared {
    pub(crate) fn source(&self, index: usize, mount: &v1::Mount) -> PathBuf {
        match self.sources.get(index) {
            Some(source) => source.clone(),
            None => PathBuf::from(&mount.host_path),
        }
    }
}

/// Prepares one container.
///
/// # Errors
/// A path that is missing, cannot be read, or does not propagate as asked; the error names the field.
pub fn prepare(config: &v1::ContainerConfig, node: NodeSources<'_>) -> Result<Prepared, OciError> {
    let privileged = security_context(config).is_some_and(|security| security.privileged);
    Ok(Prepared {
        seccomp: read_seccomp(config, node.seccomp_root)?,
        apparmor: apparmor_profile(config, node.apparmor)?,
        devices: nodes::devices(config, privileged, node.own_devices)?,
        hooks: hooks::read_all(node.hooks_dirs)?,
        cdi: node.cdi.edits(&cdi_devices(config)?).map_err(OciError::cdi)?,
        sources: prepare_mounts(config)?,
    })
}

/// The CDI devices of a container: those of the field, then those of annotations, by which device plugins asked for them before
/// CRI had a field.
fn cdi_devices(config: &v1::ContainerConfig) -> Result<Vec<String>, OciError> {
    let annotated = pausa_cdi::annotated_devices(&config.annotations).map_err(|source| OciError::Cdi {
        field: "annotations".into(),
        source,
    })?;
    let of_field = config.cdi_devices.iter().map(|device| device.name.clone());
    Ok(of_field.chain(annotated).collect())
}

/// Creates missing mount sources, resolves symlinks, checks propagation, in the order of the configuration.
///
/// # Errors
/// As [`prepare()`].
pub fn prepare_mounts(config: &v1::ContainerConfig) -> Result<Vec<PathBuf>, OciError> {
    let mut mounts_of_host = None;
    let mut sources = Vec::new();
    for (index, mount) in config.mounts.iter().enumerate() {
        // A wrong request is reported before what this node lacks.
        mounts::check_recursive_read_only(index, mount)?;
        if mount.host_path.is_empty() {
            // An image volume; otherwise it is refused later.
            sources.push(PathBuf::new());
            continue;
        }
        let source = source(index, Path::new(&mount.host_path))?;
        let propagation = mount.propagation();
        if propagation != MountPropagation::PropagationPrivate {
            if mounts_of_host.is_none() {
                mounts_of_host = Some(read_mountinfo()?);
            }
            let mounts = mounts_of_host.as_deref().unwrap_or_default();
            let field = format!("mounts[{index}]");
            check_propagation(&field, &source, propagation, mounts)?;
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Checks that sources of mounts propagate: what is mounted below them into containers, and, of those with `true`, what
/// containers mount below them onto the node.
///
/// # Errors
/// A source that does not exist or is on a mount that does not propagate.
pub fn check_sources(sources: Vec<(PathBuf, bool)>) -> Result<(), OciError> {
    if sources.is_empty() {
        return Ok(());
    }
    let mounts = read_mountinfo()?;
    for (source, shared) in sources {
        let asked = match shared {
            true => MountPropagation::PropagationBidirectional,
            false => MountPropagation::PropagationHostToContainer,
        };
        check_propagation("mounts", &source, asked, &mounts)?;
    }
    Ok(())
}

fn source(index: usize, path: &Path) -> Result<PathBuf, OciError> {
    let failed = |call| {
        move |source| OciError::HostPath {
            field: format!("mounts[{index}].host_path").into(),
            path: path.to_path_buf(),
            call,
            source,
        }
    };
    if !path.is_absolute() {
        let field = format!("mounts[{index}].host_path");
        return Err(OciError::invalid(
            field,
            path.display(),
            "it must be an absolute path",
        ));
    }
    match fs::canonicalize(path) {
        Ok(source) => Ok(source),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o755);
            builder.create(path).map_err(failed("mkdir"))?;
            fs::canonicalize(path).map_err(failed("realpath"))
        }
        Err(error) => Err(failed("realpath")(error)),
    }
}

fn read_mountinfo() -> Result<Vec<MountInfo>, OciError> {
    let path = "/proc/self/mountinfo";
    let bytes = fs::read(path).map_err(|source| OciError::HostPath {
        field: "mounts".into(),
        path: path.into(),
        call: "read",
        source,
    })?;
    Ok(mountinfo::parse(&bytes))
}

/// HOST_TO_CONTAINER needs a source on a mount that receives events, BIDIRECTIONAL on one that also sends them.
fn check_propagation(
    field: &str,
    source: &Path,
    asked: MountPropagation,
    mounts: &[MountInfo],
) -> Result<(), OciError> {
    let found =
        statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID).map_err(|errno| OciError::HostPath {
            field: format!("{field}.host_path").into(),
            path: source.to_path_buf(),
            call: "statx",
            source: errno.into(),
        })?;
    let mount = mounts.iter().find(|mount| mount.id == found.stx_mnt_id);
    let enough = mount.is_some_and(|mount| match asked {
        MountPropagation::PropagationPrivate => true,
        MountPropagation::PropagationHostToContainer => mount.shared || mount.slave,
        MountPropagation::PropagationBidirectional => mount.shared,
    });
    if enough {
        return Ok(());
    }
    Err(OciError::lacks(
        format!("{field}.propagation"),
        format!("{} of {}", asked.as_str_name(), source.display()),
        "the source is on a private mount; try `mount --make-rshared` on it",
    ))
}

fn read_seccomp(config: &v1::ContainerConfig, root: &Path) -> Result<Seccomp, OciError> {
    let Some(security) = security_context(config) else {
        return Ok(Seccomp::Unconfined);
    };
    let reference = match security::seccomp_choice(security)? {
        Choice::Unset | Choice::Unconfined => return Ok(Seccomp::Unconfined),
        Choice::RuntimeDefault => return Ok(Seccomp::RuntimeDefault),
        Choice::Localhost(reference) => reference,
    };
    let path = security::localhost_path(root, &reference)?;
    let field = "linux.security_context.seccomp.localhost_ref";
    Ok(Seccomp::Localhost(read_profile(field, &path)?))
}

/// The AppArmor profile of the container's processes; none where the node has no AppArmor.
fn apparmor_profile(config: &v1::ContainerConfig, apparmor: &AppArmor) -> Result<Option<String>, OciError> {
    let nothing = v1::LinuxContainerSecurityContext::default();
    let (field, choice) = security::apparmor_choice(security_context(config).unwrap_or(&nothing))?;
    let refused = |source| OciError::Lsm {
        field: field.into(),
        source,
    };
    match choice {
        Choice::Localhost(name) if !apparmor.is_on() => Err(OciError::lacks(
            field,
            name,
            "AppArmor is not enabled on this node; see /sys/module/apparmor and /sys/kernel/security",
        )),
        Choice::Localhost(name) => {
            apparmor.ensure(&name).map_err(refused)?;
            Ok(Some(name))
        }
        Choice::Unconfined => Ok(apparmor.is_on().then(|| UNCONFINED.to_owned())),
        Choice::Unset | Choice::RuntimeDefault => {
            let default = apparmor.default_profile().map_err(refused)?;
            Ok(default.map(str::to_owned))
        }
    }
}

/// Reads the seccomp profile that a field names.
pub(super) fn read_profile(field: &'static str, path: &Path) -> Result<pausa_seccomp::Profile, OciError> {
    let limit = u64::try_from(pausa_seccomp::MAX_PROFILE_SIZE).unwrap_or(u64::MAX);
    let mut json = Vec::new();
    fs::File::open(path)
        // One byte more than allowed, so that a larger file is recognised.
        .and_then(|file| file.take(limit + 1).read_to_end(&mut json))
        .map_err(|source| OciError::HostPath {
            field: field.into(),
            path: path.to_path_buf(),
            call: "read",
            source,
        })?;
    pausa_seccomp::Profile::parse(&json).map_err(|source| OciError::Seccomp {
        field: field.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
