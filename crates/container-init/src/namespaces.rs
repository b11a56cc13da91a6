//! The namespaces that a container makes, inherits or joins.
//!
//! The monitor lives in the pod's network, IPC and UTS namespaces, so that its children inherit them. The child itself
//! joins namespaces of the host or of another container. A PID namespace is only entered by children, so the monitor
//! joins it around the clone (see `pending`).

use std::os::fd::BorrowedFd;

use pausa_monitor_protocol::{Namespace, NamespacePlan};
use pausa_sys::{CloneArgs, NamespaceKinds};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::PodContext;
use crate::error::{At, Error, Step};

/// Arguments for clone3, which makes the new namespaces and enters the v2 cgroup.
pub(crate) fn clone_args<'a>(plan: &NamespacePlan, cgroup: Option<BorrowedFd<'a>>) -> CloneArgs<'a> {
    CloneArgs {
        mount: true,
        pid: plan.pid == Namespace::New,
        ipc: plan.ipc == Namespace::New,
        uts: plan.uts == Namespace::New,
        network: plan.network == Namespace::New,
        cgroup,
        sibling: false,
    }
}

/// The process whose PID namespace the container joins.
pub(crate) fn pid_holder<'a>(
    plan: &NamespacePlan,
    pod: &PodContext<'a>,
) -> Result<Option<BorrowedFd<'a>>, Error> {
    match plan.pid {
        Namespace::Pod => Ok(pod.pause),
        Namespace::Host | Namespace::New => Ok(None),
        Namespace::Container(_) => pod.target.map(Some).ok_or(Error::MissingTarget("PID")),
    }
}

/// Joins namespaces that are neither new nor the pod's. Runs in the child after it has entered its cgroups, which become
/// the root of a new cgroup namespace.
pub(crate) fn join(plan: &NamespacePlan, pod: &PodContext<'_>) -> Result<(), Error> {
    let one = NamespaceKinds::default();
    enter(
        &plan.network,
        "network",
        pod.host.network,
        LinkNameSpaceType::Network,
        pod,
        NamespaceKinds { network: true, ..one },
    )?;
    enter(
        &plan.ipc,
        "IPC",
        pod.host.ipc,
        LinkNameSpaceType::InterProcessCommunication,
        pod,
        NamespaceKinds { ipc: true, ..one },
    )?;
    enter(
        &plan.uts,
        "UTS",
        pod.host.uts,
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
        Namespace::Container(_) => {
            let target = pod.target.ok_or(Error::MissingTarget("cgroup"))?;
            pausa_sys::join_by_pidfd(target, NamespaceKinds { cgroup: true, ..one })
                .at(Step::JoinNamespace("cgroup"))
        }
    }
}

fn enter(
    wanted: &Namespace,
    name: &'static str,
    host: BorrowedFd<'_>,
    host_type: LinkNameSpaceType,
    pod: &PodContext<'_>,
    kinds: NamespaceKinds,
) -> Result<(), Error> {
    match wanted {
        Namespace::Pod | Namespace::New => Ok(()),
        Namespace::Host => move_into_link_name_space(host, Some(host_type)).at(Step::JoinNamespace(name)),
        Namespace::Container(_) => {
            let target = pod.target.ok_or(Error::MissingTarget(name))?;
            pausa_sys::join_by_pidfd(target, kinds).at(Step::JoinNamespace(name))
        }
    }
}
