//! The namespaces that a container makes, inherits or joins.
//!
//! The monitor lives in the pod's network, IPC and UTS namespaces, so that its children inherit them. The child itself
//! joins namespaces of the host or of another container. A PID namespace is only entered by the last process (see
//! `process`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{Namespace, NamespacePlan};
use pausa_sys::{CloneArgs, NamespaceKinds};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::PodContext;
use crate::error::{At, Error, Step};
use crate::pid_namespace::PidNamespace;

/// Arguments for clone3, which makes the new namespaces except for the mount namespace, and enters the v2 cgroup.
pub(crate) fn clone_args<'a>(plan: &NamespacePlan, cgroup: Option<BorrowedFd<'a>>) -> CloneArgs<'a> {
    CloneArgs {
        mount: false,
        pid: plan.pid == Namespace::New,
        ipc: plan.ipc == Namespace::New,
        uts: plan.uts == Namespace::New,
        network: plan.network == Namespace::New,
        cgroup,
        sibling: false,
    }
}

/// The existing PID namespace that the container joins. `/proc` must be the host's.
pub(crate) fn joined_pid(plan: &NamespacePlan, pod: &PodContext<'_>) -> Result<Option<PidNamespace>, Error> {
    let holder = match plan.pid {
        Namespace::Pod => pod.pause,
        Namespace::Host | Namespace::New => None,
        Namespace::Container(_) => Some(pod.target.ok_or(Error::MissingTarget("PID"))?),
        Namespace::File(_) => return Err(Error::MissingTarget("PID")),
    };
    holder.map(PidNamespace::of).transpose()
}

/// The namespaces of a plan that are files of the host.
#[derive(Debug, Default)]
pub(crate) struct Files {
    network: Option<OwnedFd>,
    ipc: Option<OwnedFd>,
    uts: Option<OwnedFd>,
    cgroup: Option<OwnedFd>,
}

impl Files {
    /// Opens them while the host's files are in sight.
    pub(crate) fn open(plan: &NamespacePlan) -> Result<Self, Error> {
        let open = |namespace: &Namespace| match namespace {
            Namespace::File(path) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let opened = rustix::fs::open(path.as_slice(), flags, Mode::empty());
                opened.map(Some).at_with(|| Step::OpenNamespace(path.into()))
            }
            _ => Ok(None),
        };
        Ok(Self {
            network: open(&plan.network)?,
            ipc: open(&plan.ipc)?,
            uts: open(&plan.uts)?,
            cgroup: open(&plan.cgroup)?,
        })
    }
}

/// Joins namespaces that are neither new nor the pod's. Runs in the child after it has entered its cgroups, which become
/// the root of a new cgroup namespace.
pub(crate) fn join(plan: &NamespacePlan, pod: &PodContext<'_>, files: &Files) -> Result<(), Error> {
    let one = NamespaceKinds::default();
    enter(
        &plan.network,
        "network",
        files
            .network
            .as_ref()
            .map_or(pod.host.network, |file| file.as_fd()),
        LinkNameSpaceType::Network,
        pod,
        NamespaceKinds { network: true, ..one },
    )?;
    enter(
        &plan.ipc,
        "IPC",
        files.ipc.as_ref().map_or(pod.host.ipc, |file| file.as_fd()),
        LinkNameSpaceType::InterProcessCommunication,
        pod,
        NamespaceKinds { ipc: true, ..one },
    )?;
    enter(
        &plan.uts,
        "UTS",
        files.uts.as_ref().map_or(pod.host.uts, |file| file.as_fd()),
        LinkNameSpaceType::HostNameAndNISDomainName,
        pod,
        NamespaceKinds { uts: true, ..one },
    )?;
    if plan.network == Namespace::New {
        pausa_sys::loopback_up().at(Step::Loopback)?;
    }
    match plan.cgroup {
        Namespace::New => pausa_sys::unshare_cgroup().at(Step::CgroupNamespace),
        // Inherited: the monitor never leaves the host's.
        Namespace::Host | Namespace::Pod => Ok(()),
        Namespace::File(_) => {
            let file = files.cgroup.as_ref().ok_or(Error::MissingTarget("cgroup"))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::ControlGroup))
                .at(Step::JoinNamespace("cgroup"))
        }
        Namespace::Container(_) => {
            let target = pod.target.ok_or(Error::MissingTarget("cgroup"))?;
            pausa_sys::join_by_pidfd(target, NamespaceKinds { cgroup: true, ..one })
                .at(Step::JoinNamespace("cgroup"))
        }
    }
}

/// Leaves the host's mount namespace for the base that a container's mounts grow from.
pub(crate) fn enter_base_mounts(pod: &PodContext<'_>) -> Result<(), Error> {
    move_into_link_name_space(pod.base_mounts, Some(LinkNameSpaceType::Mount))
        .at(Step::BaseMounts("setns(CLONE_NEWNS)"))
}

fn enter(
    wanted: &Namespace,
    name: &'static str,
    other: BorrowedFd<'_>,
    kind: LinkNameSpaceType,
    pod: &PodContext<'_>,
    kinds: NamespaceKinds,
) -> Result<(), Error> {
    match wanted {
        Namespace::Pod | Namespace::New => Ok(()),
        Namespace::Host | Namespace::File(_) => {
            move_into_link_name_space(other, Some(kind)).at(Step::JoinNamespace(name))
        }
        Namespace::Container(_) => {
            let target = pod.target.ok_or(Error::MissingTarget(name))?;
            pausa_sys::join_by_pidfd(target, kinds).at(Step::JoinNamespace(name))
        }
    }
}
