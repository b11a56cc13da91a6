//! Container Device Interface (CDI): vendors describe in spec files what a container needs to use a device, and the runtime makes
//! these edits to the container's OCI spec.

pub mod yaml;
