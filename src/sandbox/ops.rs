//! The operations on pods and containers, one file each.
//!
//! A file holds, in this order: the RPC with its checks (`impl Pods`), the decision on the pod's state and its transitions
//! (`impl Lifecycle`, pure), what the actor does about it (`impl Pod`), and the work that takes time, which either succeeds
//! whole or undoes what it had made until it failed, whether or not anybody still waits.
//!
//! `cgroup`, `classes`, `confine`, `files`, `layer`, `userns`, `volumes`, `log` and `oom_score` are what several operations
//! need of the kernel, `adjust` is what NRI plugins do to a container that is being created.

mod adjust;
mod cgroup;
mod check_network;
mod classes;
mod confine;
mod create_container;
mod exec;
mod files;
mod layer;
mod log;
mod oom_score;
mod port_forward;
mod remove_container;
mod remove_pod;
mod run_pod;
mod start_container;
mod stop_container;
mod stop_pod;
mod update_pod;
mod update_resources;
mod userns;
mod volumes;

pub(in crate::sandbox) use cgroup::{
    kill_cgroup, path as cgroup_path, remove_cgroup, seat_again, seat_monitor,
};
pub use check_network::{NetworkCheck, NetworkOutcome};
pub(in crate::sandbox) use create_container::{ContainerParts, read_spec};
pub(in crate::sandbox) use files::{open_directory, share_netns_dir, unbind_netns, unmount};
pub(in crate::sandbox) use layer::{
    check as check_layer_limits, describe as describe_layer, remove_layer, remove_layers,
    usage as layer_usage,
};
pub(in crate::sandbox) use remove_container::read_exit_record;
pub(in crate::sandbox) use run_pod::namespaces;
pub(in crate::sandbox) use start_container::Started;
pub(in crate::sandbox) use stop_pod::needs_teardown;
pub(in crate::sandbox) use update_resources::plugin_update;

// What the tests of the lifecycle drive it with.
#[cfg(test)]
pub(in crate::sandbox) use {
    run_pod::{CREATING_MAX, CreateFailure},
    stop_container::StopStep,
    stop_pod::{PodStep, next_step as next_pod_step},
};
