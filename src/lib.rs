//! pausa: a container runtime for Kubernetes nodes.
//!
//! `README.md` lists the modules in their order (section "Source layout"). A module imports only modules below it.

#![expect(
    unreachable_pub,
    reason = "the package is a program: nothing but `cli::main` and `proto` is used from outside, and `pub` below a \
              private module reaches no further than `pub(crate)`"
)]

mod accept;
mod async_fd;
mod blocking;
mod cgroups;
pub mod cli;
mod config;
mod container;
mod cri;
mod deadline;
mod error;
mod failpoint;
mod glob;
mod id;
mod image;
mod lsm;
mod monitor;
mod network;
mod oci;
pub mod proto;
mod quantity;
mod quota;
mod require;
mod resctrl;
mod sandbox;
mod state;
mod streaming;
mod telemetry;
mod tool;
