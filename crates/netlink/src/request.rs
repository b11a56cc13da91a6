//! What can be asked for. A request says what it is in words, so that an error can name it.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// A change to links, addresses or routes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Creates a bridge, up. With `mac` it keeps that address whatever is attached to it later.
    CreateBridge {
        /// Its name.
        name: &'a str,
        /// Its hardware address.
        mac: Option<[u8; 6]>,
        /// Its MTU.
        mtu: Option<u32>,
    },
    /// Creates a veth pair.
    CreateVeth(Veth<'a>),
    /// Sets a link up.
    SetUp {
        /// The link's index.
        index: u32,
    },
    /// Sets a link down.
    SetDown {
        /// The link's index.
        index: u32,
    },
    /// Attaches a link to a bridge, or detaches it with 0.
    SetMaster {
        /// The link's index.
        index: u32,
        /// The bridge's index.
        master: u32,
    },
    /// Whether a bridge sends frames back out of the port they came from.
    SetHairpin {
        /// The port's index.
        index: u32,
        /// On or off.
        on: bool,
    },
    /// Deletes a link; the other end of a veth pair goes with it.
    DeleteLink {
        /// Its name.
        name: &'a str,
    },
    /// Gives a link an address.
    AddAddress {
        /// The link's index.
        index: u32,
        /// The address.
        address: IpAddr,
        /// Length of its network's prefix.
        prefix: u8,
    },
    /// Takes an address from a link.
    DeleteAddress {
        /// The link's index.
        index: u32,
        /// The address.
        address: IpAddr,
        /// Length of its network's prefix.
        prefix: u8,
    },
    /// Adds a route to the main table; it replaces none.
    AddRoute {
        /// The link's index.
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
    /// Name of the end here. It is made up.
    pub name: &'a str,
    /// Bridge that the end here is attached to.
    pub master: Option<u32>,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Network namespace of the other end.
    pub peer_netns: BorrowedFd<'a>,
    /// Hardware address of the other end.
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
