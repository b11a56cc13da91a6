//! pausa: a container runtime for Kubernetes nodes.
//!
//! Read the rooms from the top: `cri` is the door, `sandbox` decides, `container`, `oci`,
//! `cgroups`, `network`, `image` and `streaming` know how, `state` keeps records, `monitor` speaks to the
//! process that owns a pod. An import only ever points down this list.

mod blocking;
pub mod cgroups;
pub mod cli;
pub mod config;
pub mod container;
pub mod cri;
pub mod deadline;
pub mod error;
pub mod id;
pub mod image;
pub mod monitor;
pub mod network;
pub mod oci;
pub mod proto;
pub mod sandbox;
pub mod state;
pub mod streaming;
pub mod telemetry;
