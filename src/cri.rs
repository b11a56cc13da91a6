//! The door: CRI v1 and the admin service on one unix socket.
//!
//! One RPC, one file (a List call and its Stream twin share one): decode, validate the form, call a room,
//! encode. [`backend`] says what the rooms must offer, `status` alone makes gRPC statuses, [`server`] owns
//! the socket, [`authority`] lets in clients that call the server by its path.
//!
//! Must never: hold state, locks or paths, decide anything about pods or images, or log a request's body:
//! it may hold credentials.
//!
//! Invariants: a panic in one request is that request's Internal error; messages of 16 MiB pass both ways,
//! as in kubelet's client; a request that ends early ends the waiting and never the work behind it.
//!
//! Links: the CRI definition in `proto/runtime/v1`.

use std::sync::Arc;

use crate::config::Config;
use crate::proto::v1;

use backend::{ImageService, PodService, StreamService};

pub mod authority;
pub mod backend;
pub mod server;

mod admin;
mod attach;
mod call;
mod container_stats;
mod container_status;
mod create_container;
mod exec;
mod exec_sync;
mod image;
mod image_status;
pub mod images;
mod list_containers;
mod list_images;
mod list_pod_sandbox;
mod node_status;
mod pod_sandbox_stats;
mod pod_sandbox_status;
mod pods;
mod port_forward;
mod pull_image;
mod remove_container;
mod remove_image;
mod remove_pod_sandbox;
mod reopen_container_log;
mod require;
mod run_pod_sandbox;
mod runtime;
mod runtime_config;
mod start_container;
mod status;
mod stop_container;
mod stop_pod_sandbox;
mod stream;
mod streams;
mod unbuilt;
mod update_container_resources;
mod update_pod_sandbox_resources;
mod update_runtime_config;
mod version;

#[cfg(test)]
mod tests;

/// What the door knows without asking a room.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The configuration the daemon runs with, shown in the verbose Status.
    pub config: Config,
    /// The cgroup driver in use; kubelet adopts it.
    pub cgroup_driver: v1::CgroupDriver,
    /// The runtime handlers with what was found out about them; `""` is among them.
    pub handlers: Vec<v1::RuntimeHandler>,
    /// What pausa can do, whatever the handler.
    pub features: v1::RuntimeFeatures,
}

impl Facts {
    /// The facts that follow from the configuration and from what this node can do; `builtin` are the features
    /// of the built-in handler.
    pub fn new(config: Config, cgroup_driver: v1::CgroupDriver, builtin: v1::RuntimeHandlerFeatures) -> Self {
        let handlers = config.handlers.keys().map(|name| v1::RuntimeHandler {
            name: name.clone(),
            features: Some(builtin),
        });
        Self {
            cgroup_driver,
            handlers: handlers.collect(),
            features: v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
                mount_options: true,
            },
            config,
        }
    }
}

/// Serves RuntimeService.
#[derive(Debug)]
struct RuntimeDoor<P, S> {
    pods: Arc<P>,
    streams: Arc<S>,
    facts: Arc<Facts>,
}

/// Serves ImageService and Admin.
#[derive(Debug)]
struct ImageDoor<I> {
    images: Arc<I>,
}

/// The rooms behind the door.
#[derive(Debug)]
pub struct Rooms<P, I, S> {
    /// Pods and containers.
    pub pods: Arc<P>,
    /// Images.
    pub images: Arc<I>,
    /// Exec, attach and port-forward.
    pub streams: Arc<S>,
    /// What needs no asking.
    pub facts: Facts,
}

impl<P: PodService, I: ImageService, S: StreamService> Rooms<P, I, S> {
    fn into_doors(self) -> (RuntimeDoor<P, S>, ImageDoor<I>, ImageDoor<I>) {
        let runtime = RuntimeDoor {
            pods: self.pods,
            streams: self.streams,
            facts: Arc::new(self.facts),
        };
        let door = || ImageDoor {
            images: Arc::clone(&self.images),
        };
        (runtime, door(), door())
    }
}
