//! The only crate that implements unsafe operations: Linux system calls that neither rustix nor nix wrap safely.
//!
//! Each function is one system call, or one fixed sequence of them. An error is the bare errno, which callers put into
//! words. The crate decides nothing and logs nothing.
//!
//! Functions are safe wherever the compiler or the function itself can ensure what the call needs. [`clone()`],
//! [`clone_bare`] and the functions that close descriptors by number are `unsafe fn`: they need facts about the whole process.

#![expect(unsafe_code, reason = "the system calls below have no safe wrapper elsewhere")]

mod allocator;
mod atomic_file;
mod bare_child;
mod bpf;
mod clock;
mod clone;
mod exec;
mod fd;
mod file_writer;
mod keyring;
mod mount;
mod mount_namespace;
mod namespace;
mod network;
mod pidfd;
mod program;
mod quota;
mod scheduling;
mod seccomp;
mod signal;
mod syscall;
#[cfg(test)]
mod tests;
mod userns;

pub use allocator::{return_allocations_from, return_free_pages, share_heaps};
pub use atomic_file::{AtomicFileError, Durability, StagedFile, remove_leftovers, replace_file};
pub use bare_child::{BareCloneArgs, ChildMemory, WithheldMemory, clone_bare};
pub use bpf::{
    BpfInstruction, BpfMap, attach_device_program, detach_device_program, device_programs,
    load_device_program, load_traffic_program, open_program, program_name,
};
pub use clock::{ClockState, clock_state};
pub use clone::{Child, CloneArgs, Forked, clone, exit_now};
pub use exec::{ArgumentVector, execve};
pub use fd::{close_all_but, close_from, close_others};
pub use file_writer::{FileWriter, Written};
pub use keyring::new_session_keyring;
pub use mount::{MountAttributes, map_mount_ids, mount_setattr, own_proc};
pub use mount_namespace::{
    MountNamespaceError, base_mounts, forget_host, in_mount_namespace, unshare_mounts,
};
pub use namespace::{NamespaceKinds, join_by_pidfd, unshare_cgroup, unshare_pod};
pub use network::loopback_up;
pub use pidfd::signal_by_pidfd;
pub use program::{release_program, release_unused_stack};
pub use quota::{
    ProjectQuota, ProjectQuotaState, project_of, project_quota, project_quota_state, set_project,
    set_project_limit,
};
pub use scheduling::{SchedulingAttributes, set_io_priority, set_memory_policy, set_scheduling};
pub use seccomp::{AUDIT_ARCHITECTURE, SeccompError, load_seccomp};
pub use signal::{reset_signals, wait_for_signal};
pub use userns::{UserNamespaceError, check_mounts_inside, owner_of, user_namespace};
