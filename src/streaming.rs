//! Exec, attach and port-forward: what clients stream to and from containers and pods.

pub mod target;
