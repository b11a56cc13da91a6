//! OCI distribution client: references, registry configuration, authentication, manifests and blobs.
//!
//! What a container runtime needs to pull: it never pushes. Follows the OCI distribution spec ("Pull") and the OCI image
//! spec, and speaks Docker's schema 2 with registries that still do.
//!
//! ```text
//! Reference ──Resolver (hosts.toml)──▶ endpoints ──▶ Failover ──▶ transport (redirects, auth, timeouts) ──▶ registry
//!                                                      ▲                         │
//!                                                      └── next one, or again ◀──┘
//! ```
//!
//! Rules of this crate: whatever a registry says is hostile (sizes bounded, digests verified, text cleaned before it gets into
//! an error); secrets go to nobody but the host they are for and into no message; nothing waits for ever.

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
mod reference;
mod registries;
mod resolver;
mod retry;
mod token;
mod transport;
mod verify;

#[cfg(test)]
mod test_server;

pub use blob::ahead::RangePolicy;
pub use blob::{BlobStream, Servers};
pub use client::{Client, ClientConfig, Image, Probe, Resolved};
pub use credentials::{AuthFields, Credentials};
pub use digest::{Algorithm, Digest, Hasher};
pub use docker_config::{DockerConfig, Login};
pub use endpoint::{Capabilities, ClientPem, Endpoint, Fallback, Role, Source, TlsSettings};
pub use error::{Error, Kind, Target};
pub use explain::{Explanation, Found, Path, Step, explain};
pub use hosts::HostsDir;
pub use image_id::ImageId;
pub use manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, Index, Manifest, OCI_INDEX, OCI_MANIFEST,
};
pub use platform::Platform;
pub use proxy::Proxies;
pub use reference::{DEFAULT_HOST, Reference, ReferenceError};
pub use registries::Registries;
pub use resolver::Resolver;
pub use retry::RetryPolicy;
pub use verify::VerifyingReader;
