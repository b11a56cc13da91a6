//! Requests to the kernel. A request's `Display` form goes into errors.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// A change to links, addresses, routes or filters.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the variants say what the fields are")]
#[non_exhaustive]
pub enum Request<'a> {
    /// Creates a bridge and sets it up. With `mac` it keeps this address; without, the address follows the attached links.
    CreateBridge {
        name: &'a str,
        mac: Option<[u8; 6]>,
        mtu: Option<u32>,
    },
    CreateVeth(Veth<'a>),
    SetUp {
        index: u32,
    },
    SetDown {
        index: u32,
    },
    /// Attaches a link to a bridge, or detaches it with 0.
    SetMaster {
        index: u32,
        master: u32,
    },
    /// Whether a bridge sends frames back out of the port they came from.
    SetHairpin {
        index: u32,
        on: bool,
    },
    /// Gives a link the place that programs for its traffic are attached to (the `clsact` qdisc).
    AddClassifier {
        index: u32,
    },
    /// Attaches a BPF program that sees each packet that comes in over a link with a classifier, and may drop it.
    AddIngressProgram {
        index: u32,
        /// What tc(8) shows.
        name: &'a str,
        program: BorrowedFd<'a>,
    },
    /// Deletes a link, with both ends of a veth pair.
    DeleteLink {
        name: &'a str,
    },
    /// Adds an address to a link.
    AddAddress {
        index: u32,
        address: IpAddr,
        prefix: u8,
    },
    /// Deletes an address from a link.
    DeleteAddress {
        index: u32,
        address: IpAddr,
        prefix: u8,
    },
    /// Adds a route to the main table; fails if it exists.
    AddRoute {
        index: u32,
        /// Destination and its prefix; `0.0.0.0/0` or `::/0` is the default route.
        destination: (IpAddr, u8),
        /// Next hop; without one the destination is on the link.
        gateway: Option<IpAddr>,
    },
}

/// A veth pair with one end on the host and the other directly in a pod.
#[derive(Debug, Clone)]
pub struct Veth<'a> {
    /// Name of the end on the host, which is set up.
    pub name: &'a str,
    /// Bridge that the end on the host is attached to.
    pub master: Option<u32>,
    /// Name of the end in the pod.
    pub peer_name: &'a str,
    /// The pod's network namespace.
    pub peer_netns: BorrowedFd<'a>,
    /// Hardware address of the end in the pod.
    pub peer_mac: Option<[u8; 6]>,
    /// MTU of both ends.
    pub mtu: Option<u32>,
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBridge { name, .. } => write!(f, "create bridge {name}"),
            Self::CreateVeth(Veth {
                name,
                peer_name,
                master,
                ..
            }) => {
                write!(f, "create veth pair {name} and {peer_name}")?;
                master.map_or(Ok(()), |master| write!(f, " attached to link {master}"))
            }
            Self::SetUp { index } => write!(f, "set link {index} up"),
            Self::SetDown { index } => write!(f, "set link {index} down"),
            Self::SetMaster { index, master } => write!(f, "attach link {index} to link {master}"),
            Self::SetHairpin { index, on } => write!(f, "set hairpin of link {index} to {on}"),
            Self::AddClassifier { index } => write!(f, "add a classifier to link {index}"),
            Self::AddIngressProgram { index, name, .. } => {
                write!(f, "attach program {name} to what comes in over link {index}")
            }
            Self::DeleteLink { name } => write!(f, "delete link {name}"),
            Self::AddAddress {
                index,
                address,
                prefix,
            } => {
                write!(f, "add address {address}/{prefix} to link {index}")
            }
            Self::DeleteAddress {
                index,
                address,
                prefix,
            } => {
                write!(f, "delete address {address}/{prefix} from link {index}")
            }
            Self::AddRoute {
                index,
                destination: (to, prefix),
                gateway,
            } => {
                write!(f, "add route to {to}/{prefix} on link {index}")?;
                gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
            }
        }
    }
}
