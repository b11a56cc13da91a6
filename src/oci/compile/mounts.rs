//! From mounts of a spec to the mount API: options become attributes, propagation or parameters.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;
use pausa_monitor_protocol::{Attributes, MountPlan, MountSource, Propagation};
use rustix::mount::MountAttrFlags;

use crate::cgroups::Layout;
use crate::oci::error::OciError;
use crate::oci::mounts::path_bytes;

/// File systems that SELinux would label as the node's own; the kernel's others have types that containers may use.
const LABELLED: [&str; 3] = ["tmpfs", "devpts", "mqueue"];

/// The mounts in order. A mount of type `cgroup` becomes the mounts of this node's layout; a bind of a path beneath the
/// container's root `root` becomes a bind within that root. New file systems get SELinux's label, if there is one.
pub(super) fn plan(
    mounts: &[Mount],
    root: &Path,
    cgroups: &Layout,
    label: Option<&str>,
) -> Result<Vec<MountPlan>, OciError> {
    let mut plan = Vec::new();
    for mount in mounts {
        let options = Options::parse(mount)?;
        let kind = mount.typ().as_deref().unwrap_or_default();
        if kind == "cgroup" && options.bind.is_none() {
            plan.extend(cgroup(mount, &options, cgroups));
        } else {
            plan.push(one(mount, kind, root, options)?);
        }
    }
    if let Some(label) = label {
        for mount in &mut plan {
            if let MountSource::Filesystem { fstype, options, .. } = &mut mount.source
                && LABELLED.contains(&fstype.as_str())
            {
                options.push(("context".to_owned(), Some(label.to_owned())));
            }
        }
    }
    Ok(plan)
}

fn one(mount: &Mount, kind: &str, root: &Path, options: Options) -> Result<MountPlan, OciError> {
    let own = mount.source().as_deref().and_then(|source| beneath(source, root));
    let source = mount.source().as_deref().map(path_bytes).unwrap_or_default();
    let source = match (options.bind, own) {
        (Some(_), Some(path)) => MountSource::RootfsPath { path },
        (bind, _) => elsewhere(mount, kind, bind, source, options.parameters)?,
    };
    Ok(MountPlan {
        target: path_bytes(mount.destination()),
        source,
        attributes: options.attributes,
        propagation: options.propagation,
    })
}

/// The path in the container of a source beneath its root. A path with `..` is not accepted as such.
fn beneath(source: &Path, root: &Path) -> Option<Vec<u8>> {
    let mut path = PathBuf::from("/");
    for part in source.strip_prefix(root).ok()?.components() {
        match part {
            Component::Normal(name) => path.push(name),
            _ => return None,
        }
    }
    (path != Path::new("/")).then(|| path_bytes(&path))
}

fn elsewhere(
    mount: &Mount,
    kind: &str,
    bind: Option<bool>,
    source: Vec<u8>,
    parameters: Parameters,
) -> Result<MountSource, OciError> {
    Ok(match bind {
        Some(_) if !source.starts_with(b"/") => {
            let target = mount.destination().display();
            return Err(OciError::spec(
                "mounts.source",
                target,
                "a bind mount needs an absolute source",
            ));
        }
        Some(recursive) => MountSource::Bind {
            path: source,
            recursive,
        },
        None if kind.is_empty() => {
            let target = mount.destination().display();
            return Err(OciError::spec("mounts.type", target, "it is missing"));
        }
        None => MountSource::Filesystem {
            fstype: kind.to_owned(),
            source: String::from_utf8_lossy(&source).into_owned(),
            options: parameters,
        },
    })
}

/// v2: the one hierarchy. v1: a small tmpfs with one mount per hierarchy, without the v2 hierarchy that hybrid nodes have
/// beside them: programs take `/sys/fs/cgroup/unified` for a node with controllers on v2, and runc has none either. In a cgroup namespace of its own, a container
/// sees its own cgroups as the roots.
fn cgroup(mount: &Mount, options: &Options, layout: &Layout) -> Vec<MountPlan> {
    let target = path_bytes(mount.destination());
    let at = |name: &str| [&target, b"/".as_slice(), name.as_bytes()].concat();
    let make = |target, fstype: &str, parameters, attributes| MountPlan {
        target,
        source: MountSource::Filesystem {
            fstype: fstype.to_owned(),
            source: "cgroup".to_owned(),
            options: parameters,
        },
        attributes,
        propagation: options.propagation,
    };
    let hierarchies = match layout {
        Layout::V2 { flags, .. } => {
            let flags = flags.iter().map(|flag| (flag.clone(), None)).collect();
            return vec![make(target, "cgroup2", flags, options.attributes)];
        }
        Layout::V1 { hierarchies } => hierarchies,
    };
    // The tmpfs cannot be read-only while mount points are created in it; it becomes so with the read-only paths.
    let mut writable = options.attributes;
    writable.set &= !u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    let small = [("mode", "755"), ("size", "64k"), ("nr_inodes", "64")];
    let small = small.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let mut plan = vec![make(target.clone(), "tmpfs", small.to_vec(), writable)];
    for hierarchy in hierarchies {
        for (directory, parameters) in places(&hierarchy.controllers) {
            plan.push(make(at(&directory), "cgroup", parameters, options.attributes));
        }
    }
    plan
}

type Parameters = Vec<(String, Option<String>)>;

/// The mount points of a v1 hierarchy and its parameters. Controllers that share one get a mount point each, as hosts have
/// links: programs look for `/sys/fs/cgroup/cpu`.
fn places(controllers: &[String]) -> Vec<(String, Parameters)> {
    if let [one] = controllers
        && let Some(name) = one.strip_prefix("name=")
    {
        let named = ("name".to_owned(), Some(name.to_owned()));
        return vec![(name.to_owned(), vec![("none".to_owned(), None), named])];
    }
    let parameters: Parameters = controllers.iter().map(|one| (one.clone(), None)).collect();
    let mut names = vec![controllers.join(",")];
    if controllers.len() > 1 {
        names.extend(controllers.iter().cloned());
    }
    names.into_iter().map(|name| (name, parameters.clone())).collect()
}

/// The parsed options of a mount.
#[derive(Default)]
struct Options {
    /// A bind mount, and whether recursive.
    bind: Option<bool>,
    attributes: Attributes,
    propagation: Option<Propagation>,
    parameters: Vec<(String, Option<String>)>,
}

impl Options {
    fn parse(mount: &Mount) -> Result<Self, OciError> {
        let mut parsed = Self::default();
        if mount.typ().as_deref() == Some("bind") {
            parsed.bind = Some(true);
        }
        for option in mount.options().as_deref().unwrap_or_default() {
            if parsed.mode(option) || parsed.flag(option) {
                continue;
            }
            if parsed.bind.is_some() {
                return Err(OciError::spec(
                    "mounts.options",
                    option,
                    "a bind mount cannot have it",
                ));
            }
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option.as_str(), None),
            };
            parsed.parameters.push((name.to_owned(), value));
        }
        Ok(parsed)
    }

    /// Options that say how to mount.
    fn mode(&mut self, option: &str) -> bool {
        match option {
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            // All propagation is recursive: a mount and its submounts belong together.
            "private" | "rprivate" => self.propagation = Some(Propagation::Private),
            "slave" | "rslave" => self.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => self.propagation = Some(Propagation::Shared),
            "defaults" | "rw" | "suid" | "dev" | "exec" => {}
            // Mapped by the pod's user namespace, the only mapping a mount may have here.
            "ridmap" if self.bind.is_some() => {
                self.attributes.set_recursive |= bits(MountAttrFlags::MOUNT_ATTR_IDMAP);
            }
            "rro" => self.attributes.set_recursive |= bits(MountAttrFlags::MOUNT_ATTR_RDONLY),
            _ => return false,
        }
        true
    }

    /// Options that are attributes of the mount.
    fn flag(&mut self, option: &str) -> bool {
        let flag = match option {
            "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
            "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            "nosymfollow" => MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
            // Mapped by the pod's user namespace, the only mapping a mount may have here.
            "idmap" if self.bind.is_some() => MountAttrFlags::MOUNT_ATTR_IDMAP,
            "relatime" | "noatime" | "strictatime" => {
                // The three are one field: clear it before it is set.
                self.attributes.clear |= bits(MountAttrFlags::MOUNT_ATTR__ATIME);
                match option {
                    "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
                    "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                    _ => MountAttrFlags::MOUNT_ATTR_RELATIME,
                }
            }
            _ => return false,
        };
        self.attributes.set |= bits(flag);
        true
    }
}

fn bits(flag: MountAttrFlags) -> u64 {
    flag.bits().into()
}
