//! CRI v1 and the admin service on one unix socket.
//!
//! `runtime`, `image` and `admin` implement tonic's traits. An RPC is a call of one operation of [`crate::sandbox`] or
//! [`crate::image`], which checks the request, does the work and makes the answer. `call` is what happens around every
//! RPC, `status` alone makes gRPC statuses, [`server`] owns the socket, `authority` accepts clients that send the
//! socket's path as `:authority`.
//!
//! Must never: hold state, locks or paths, decide anything about pods or images, or log a request's body: it may hold
//! credentials.
//!
//! Invariants: a panic in one request is that request's Internal error; messages of 16 MiB pass both ways, as in
//! kubelet's client; a request that ends early ends the waiting and never the work behind it.
//!
//! Source: the CRI definition in `proto/runtime/v1`.

use std::sync::Arc;

use futures_util::future::{BoxFuture, Shared};

use crate::config::Running;
use crate::proto::v1;
use crate::sandbox::Pods;

pub mod server;

mod admin;
mod authority;
mod cadvisor;
mod call;
mod image;
mod runtime;
mod status;
mod stream;
/// What Status and RuntimeConfig say about this node.
#[derive(Debug)]
pub struct NodeInfo {
    /// The configuration in force, shown in the verbose Status, and its files.
    pub running: Arc<Running>,
    /// The cgroup driver in use; kubelet adopts it.
    pub cgroup_driver: v1::CgroupDriver,
    /// Whether mounts can be made read-only with all mounts below them.
    pub recursive_read_only_mounts: bool,
    /// Whether pods can have user namespaces, once that is found out.
    pub user_namespaces: Shared<BoxFuture<'static, bool>>,
}

/// Everything that is served on the CRI socket.
#[derive(Debug, Clone)]
pub struct Services {
    /// Pods and containers, and the image store that they are made from.
    pub pods: Pods,
    /// What needs no asking.
    pub node: Arc<NodeInfo>,
}

#[cfg(test)]
mod tests;
