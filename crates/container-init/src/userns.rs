//! Containers in a pod with a user namespace.
//!
//! A process that joins a user namespace loses all privileges outside of it, and a PID namespace belongs to the user
//! namespace in which it was made. So a first child does what needs the host's privileges, and a second one the rest:
//!
//! ```text
//!   monitor            first child, root of the host         second child, root of the pod
//!   clone3 ──────────▶ cgroups, oom_score_adj, labels
//!     │                streams given to the user inside
//!     │                mount sources opened, owners mapped;
//!     │                /dev and its nodes; base mounts
//!     │                setns(user), clone3(CLONE_PARENT) ──▶ namespaces, mounts, … as without
//!     │ ◀── pid ────── exits                                  │
//!     │ ─── continue ───────────────────────────────────────▶ │
//!     │ ◀── failure or EOF ────────────────────────────────── execve
//! ```
//!
//! The first child follows no path of the container: it acts on paths of the host and on descriptors.

use pausa_monitor_protocol::{IdRange, NamespacePlan};
use pausa_sys::CloneArgs;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{At, Error, Step};
use crate::report::{Reporter, Stage};
use crate::{Streams, UserNamespace, namespaces, pending, terminal};

/// Makes a user of the namespace the owner of the streams, so that the process can open them by name (`/dev/stdout`).
/// Otherwise they belong to the host's root, which is not mapped.
pub(crate) fn give_streams(streams: &Streams<'_>, range: IdRange, uid: u32) {
    let Some(uid) = range.outside(uid) else { return };
    for stream in [streams.stdin, streams.stdout, streams.stderr]
        .into_iter()
        .flatten()
    {
        terminal::give_to(stream, uid);
    }
}

/// Enters the user namespace and clones the second child there. Returns only in that child.
pub(crate) fn continue_in_second_child(
    userns: &UserNamespace<'_>,
    plan: &NamespacePlan,
    reporter: &Reporter,
) -> Result<(), Error> {
    move_into_link_name_space(userns.fd, Some(LinkNameSpaceType::User)).at(Step::JoinUsers)?;
    become_root()?;
    let args = CloneArgs {
        mount: true,
        ..namespaces::clone_args(plan, None)
    };
    pending::continue_in_sibling(&args, Stage::Setup, reporter)
}

/// Becomes user and group 0 of the user namespace that was just joined, in which the host's root is not mapped.
pub(crate) fn become_root() -> Result<(), Error> {
    set_thread_groups(&[]).at(Step::NamespaceRoot("setgroups(0)"))?;
    let (gid, uid) = (Gid::ROOT, Uid::ROOT);
    set_thread_res_gid(gid, gid, gid).at(Step::NamespaceRoot("setresgid(0, 0, 0)"))?;
    set_thread_res_uid(uid, uid, uid).at(Step::NamespaceRoot("setresuid(0, 0, 0)"))?;
    // A change of user sets this to the value of fs.suid_dumpable.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Undumpable)
}
