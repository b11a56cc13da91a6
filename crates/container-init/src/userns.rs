//! Containers of a pod with a user namespace.
//!
//! Joining a user namespace means to give up all power outside of it, and a PID namespace belongs to the user namespace
//! in which it was made. So the child is two, one after the other, both the monitor's:
//!
//! ```text
//!   monitor            first child, root of the host         second child, root of the pod
//!   clone3 ──────────▶ cgroups, oom_score_adj, labels
//!     │                streams given to the user inside
//!     │                mount sources opened, owners mapped;
//!     │                /dev and its nodes
//!     │                setns(user), clone3(CLONE_PARENT) ──▶ namespaces, mounts, … as without
//!     │ ◀── pidfd ──── waits to be killed                     │
//!     │ ─── may go on ──────────────────────────────────────▶ │
//!     │ ◀── failure or EOF ────────────────────────────────── execve
//! ```
//!
//! Nothing of the container's is followed by the first one: it acts on the host's paths and on descriptors.

use std::os::fd::BorrowedFd;

use pausa_monitor_protocol::{IdRange, NamespacePlan};
use pausa_sys::{CloneArgs, Forked};
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{At, Error, Step};
use crate::report::Reporter;
use crate::{PodContext, Streams, Users, namespaces, pending, terminal};

/// Gives the streams to a user inside, who may open them again by name (`/dev/stdout`). Inside, nobody could: they
/// are the host's root's.
pub(crate) fn give_streams(streams: &Streams<'_>, range: IdRange, uid: u32) {
    let Some(uid) = range.outside(uid) else { return };
    for stream in [streams.stdin, streams.stdout, streams.stderr]
        .into_iter()
        .flatten()
    {
        terminal::give_to(stream, uid);
    }
}

/// Leaves everything else to a second child inside the user namespace. Returns only there.
pub(crate) fn go_on_inside(
    users: &Users<'_>,
    plan: &NamespacePlan,
    pod: &PodContext<'_>,
    reporter: &Reporter,
) -> Result<(), Error> {
    // For the child to come; and before, since a process outside is not to be seen from inside.
    if let Some(holder) = namespaces::pid_holder(plan, pod)? {
        pending::join_pid_namespace(holder).at(Step::JoinPid)?;
    }
    enter(users.namespace)?;
    let args = CloneArgs {
        sibling: true,
        ..namespaces::clone_args(plan, None)
    };
    match pausa_sys::clone(&args).at(Step::Clone("new namespaces, CLONE_PARENT"))? {
        Forked::Child => reporter.wait_to_be_known().at(Step::HandOver),
        Forked::Parent(child) => {
            reporter.make_way_for(&child).at(Step::HandOver)?;
            pausa_sys::exit_now(0)
        }
    }
}

fn enter(namespace: BorrowedFd<'_>) -> Result<(), Error> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::User)).at(Step::JoinUsers)?;
    become_root()
}

/// Becomes user and group 0 of the user namespace that was just joined, where the host's root is nobody.
pub(crate) fn become_root() -> Result<(), Error> {
    set_thread_groups(&[]).at(Step::NamespaceRoot("setgroups(0)"))?;
    let (gid, uid) = (Gid::ROOT, Uid::ROOT);
    set_thread_res_gid(gid, gid, gid).at(Step::NamespaceRoot("setresgid(0, 0, 0)"))?;
    set_thread_res_uid(uid, uid, uid).at(Step::NamespaceRoot("setresuid(0, 0, 0)"))?;
    // A change of user sets this to what fs.suid_dumpable says.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Undumpable)
}
