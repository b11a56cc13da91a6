//! OCI distribution client: references, registry configuration, authentication, manifests and blobs.
//!
//! Only what a container runtime needs to pull; it never pushes. Follows the OCI distribution spec ("Pull") and the OCI image
//! spec, and speaks Docker's schema 2 with registries that still do.
//!
//! ```text
//! Reference ──Registries (registries.conf, hosts.toml)──▶ endpoints ──▶ Failover ──▶ transport (redirects, auth, timeouts) ──▶ registry
//!                                                                          ▲                         │
//!                                                                          └─ next one, or again ◀───┘
//! ```
//!
//! Rules of this crate: a registry's responses are hostile input (sizes are bounded, digests verified, text is cleaned before it
//! gets into an error); a secret goes only to the host that it is for and never into a message; every wait has a limit.

mod blob;
mod body;
mod challenge;
mod client;
mod client_cert;
mod connect;
mod credentials;
mod digest;
mod distrust;
mod docker_config;
mod endpoint;
mod error;
mod explain;
mod hosts;
mod image_id;
mod manifest;
mod platform;
mod proxy;
mod reach;
mod reference;
mod registries;
mod resolver;
mod retry;
mod text;
mod token;
mod transport;
mod verify;

#[cfg(test)]
mod test_server;

pub use blob::BlobStream;
pub use client::{Client, ClientConfig, Image, Resolved};
pub use credentials::{AuthFields, Credentials};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use docker_config::{DockerConfig, Login};
pub use error::{Error, Kind, Target};
pub use explain::{Explanation, Path, Step, explain};
pub use image_id::ImageId;
pub use manifest::{Descriptor, Document, Index, Manifest, OCI_INDEX};
pub use platform::Platform;
pub use proxy::Proxies;
pub use reach::{Reached, reach};
pub use reference::{Reference, ReferenceError};
pub use registries::Registries;
pub use verify::VerifyingReader;
