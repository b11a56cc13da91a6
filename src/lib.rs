//! pausa: a container runtime for Kubernetes nodes.
//!
//! `README.md` lists the modules in their order (section "Source layout"). A module imports only modules below it.

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
