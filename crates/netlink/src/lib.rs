//! Small synchronous rtnetlink client: links, addresses, routes, and what limits, redirects and filters a link's traffic.
//!
//! Its purpose is to set up a pod's interface with few system calls. [`Netlink::execute`] sends any number of
//! [`Request`]s in one datagram; [`in_netns`] and [`Netlink::open_in`] enter another network namespace in a thread that
//! ends right after, so that no pool thread ever stays in a pod's namespace.
//!
//! It never holds a lock, keeps state of its own, or reads beyond the bounds of an answer. Answers of the kernel are
//! read attribute by attribute; unknown ones are skipped, for newer kernels.
//!
//! See netlink(7), rtnetlink(7), network_namespaces(7), veth(4).

mod error;
mod message;
mod netns;
mod reply;
mod request;
mod socket;
pub mod sysctl;

pub use error::{Error, ErrorKind};
pub use netns::{in_netns, open_netns};
pub use reply::{Address, AddressState, KnownRoute, Link, Neighbour};
pub use request::{LinkChange, Request, Route, TokenBucket, Veth};
pub use socket::{Family, Netlink};

/// Index of the loopback device, the first of every network namespace.
pub const LOOPBACK: u32 = 1;
