//! The work of pods and containers: what takes time, touches the kernel or asks other rooms.
//!
//! Functions here decide nothing about states and hold no locks: the actor calls them with what they need
//! and takes their outcome. Each either succeeds whole or leaves nothing: what it had made until it failed
//! is undone, whether or not anybody still waits.

mod cgroup;
mod container;
mod container_parts;
mod exec;
mod files;
mod log;
mod pod;
mod remove;
mod session;
mod start;
mod teardown;
mod usage;
mod users;
mod volumes;

pub(in crate::sandbox) use cgroup::{
    kill_cgroup, merge_resources, remove_cgroup, restore_resources, update_resources,
};
pub(in crate::sandbox) use container::{ContainerMade, make_container};
pub(in crate::sandbox) use container_parts::ContainerParts;
pub(in crate::sandbox) use exec::{ExecOutput, exec_sync};
pub(in crate::sandbox) use files::{unbind_netns, unmount};
pub(in crate::sandbox) use log::reopen_log;
pub(in crate::sandbox) use pod::{PodMade, make_pod, owes_network};
pub(in crate::sandbox) use remove::{
    forget_pod, read_exit_record, remove_container, remove_layer, remove_layers,
};
pub(in crate::sandbox) use session::{attach, exec};
pub(in crate::sandbox) use start::{Started, signal_number, start_container, undying};
pub(in crate::sandbox) use teardown::{queue_detach, tear_down};
pub(in crate::sandbox) use usage::usage;

use crate::blocking::blocking;
