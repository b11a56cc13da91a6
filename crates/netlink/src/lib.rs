//! Small synchronous rtnetlink client: links, addresses and routes.
//!
//! What it is for: making a pod's interface in few system calls. [`Netlink::execute`] sends any number of
//! [`Request`]s in one datagram; [`in_netns`] and [`Netlink::open_in`] reach into another network namespace by a
//! thread that ends right after, so that no thread of a pool ever stays in a pod's namespace.
//!
//! What it must never do: hold a lock, keep state of its own, or trust more of an answer than its bounds allow.
//! Answers of the kernel are read attribute by attribute; unknown ones are skipped, so that a newer kernel does not
//! break us.
//!
//! See netlink(7), rtnetlink(7), network_namespaces(7), veth(4).

mod error;
mod message;
mod netns;
mod reply;
mod request;
mod socket;

pub use error::{Error, ErrorKind};
pub use netns::in_netns;
pub use reply::{Address, Link};
pub use request::{Request, Veth};
pub use socket::Netlink;

/// Index of the loopback device: it is the first of every network namespace.
pub const LOOPBACK: u32 = 1;
