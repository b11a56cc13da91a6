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
        /// Whether it forwards frames only between ports of the same VLAN.
        vlan_filtering: bool,
    },
    CreateVeth(Veth<'a>),
    /// Creates an intermediate functional block, a device that traffic is redirected to so that it can be queued. It has no
    /// transmit queue of its own, and is down.
    CreateIfb {
        name: &'a str,
        mtu: u32,
    },
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
    SetMac {
        index: u32,
        mac: [u8; 6],
    },
    /// Whether a link takes frames that are not for its address.
    SetPromiscuous {
        index: u32,
        on: bool,
    },
    /// Sets what is special about a port of a bridge.
    SetPort {
        index: u32,
        /// Whether the bridge sends frames back out of the port they came from.
        hairpin: bool,
        /// Whether the port exchanges no frames with other isolated ports.
        isolated: bool,
    },
    /// Makes a port of a bridge a member of a VLAN.
    AddVlan {
        index: u32,
        vlan: u16,
        /// Whether frames without a tag belong to it, and lose their tag on their way out.
        untagged: bool,
    },
    DeleteVlan {
        index: u32,
        vlan: u16,
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
    /// Limits what a link transmits, with a root qdisc of handle `1:`.
    AddTokenBucket {
        index: u32,
        bucket: TokenBucket,
    },
    /// Gives a link the place that filters for what comes in are attached to (the `ingress` qdisc).
    AddIngress {
        index: u32,
    },
    /// Sends all that comes in over a link with an ingress qdisc to another link, as if that one transmitted it.
    RedirectIngress {
        index: u32,
        to: u32,
    },
    /// Changes several attributes of a link.
    ChangeLink {
        index: u32,
        change: LinkChange,
    },
    /// Moves a link to another network namespace and names it there. It is down and without addresses afterwards.
    MoveLink {
        index: u32,
        netns: BorrowedFd<'a>,
        name: &'a str,
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
    /// Adds a route; fails if the very same exists. One to the same destination with another next hop is kept beside it.
    AddRoute(Route),
    /// Deletes the route with these properties.
    DeleteRoute(Route),
}

/// A route over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The link's index.
    pub index: u32,
    /// Destination and its prefix; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: (IpAddr, u8),
    /// Next hop; without one the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The address that packets are sent from.
    pub source: Option<IpAddr>,
    /// How far the destination is, as the kernel numbers it: 0 anywhere, 253 on the link, 255 any when deleting.
    pub scope: u8,
    /// The table; the main one if missing.
    pub table: Option<u32>,
    /// Metric: the lower, the better.
    pub priority: Option<u32>,
    /// MTU of the path.
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise.
    pub advmss: Option<u32>,
}

impl Route {
    /// A route to `destination` over a link, with nothing special.
    #[must_use]
    pub const fn new(index: u32, destination: (IpAddr, u8)) -> Self {
        Self {
            index,
            destination,
            gateway: None,
            source: None,
            scope: 0,
            table: None,
            priority: None,
            mtu: None,
            advmss: None,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, prefix) = self.destination;
        write!(f, "route to {to}/{prefix} on link {}", self.index)?;
        self.gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
    }
}

/// A veth pair with one end on the host and the other directly in a pod.
#[derive(Debug, Clone)]
pub struct Veth<'a> {
    /// Name of the end on the host, which is set up.
    pub name: &'a str,
    /// Bridge that the end on the host is attached to.
    pub master: Option<u32>,
    /// Hardware address of the end on the host. A random one of the kernel's is changed by udev, when it gets to it.
    pub mac: Option<[u8; 6]>,
    /// Name of the end in the pod.
    pub peer_name: &'a str,
    /// The pod's network namespace.
    pub peer_netns: BorrowedFd<'a>,
    /// Hardware address of the end in the pod.
    pub peer_mac: Option<[u8; 6]>,
    /// MTU of both ends.
    pub mtu: Option<u32>,
}

/// A token bucket filter: how fast and how much a link transmits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that may wait.
    pub limit: u32,
    /// Size of the bucket: the time that it takes to transmit what it holds, in units of 64 ns.
    pub buffer: u32,
}

/// Attributes of a link to change. What is not given stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of ip-link(8)")]
pub struct LinkChange {
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
    pub tx_queue_length: Option<u32>,
    pub promiscuous: Option<bool>,
    pub all_multicast: Option<bool>,
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
            Self::CreateIfb { name, .. } => write!(f, "create ifb device {name}"),
            Self::SetUp { index } => write!(f, "set link {index} up"),
            Self::SetDown { index } => write!(f, "set link {index} down"),
            Self::SetMaster { index, master } => write!(f, "attach link {index} to link {master}"),
            Self::SetMac { index, .. } => write!(f, "set the address of link {index}"),
            Self::SetPromiscuous { index, on } => write!(f, "set promiscuous mode of link {index} to {on}"),
            Self::SetPort {
                index,
                hairpin,
                isolated,
            } => write!(
                f,
                "set hairpin of link {index} to {hairpin} and isolation to {isolated}"
            ),
            Self::AddVlan { index, vlan, .. } => write!(f, "add link {index} to VLAN {vlan}"),
            Self::DeleteVlan { index, vlan } => write!(f, "remove link {index} from VLAN {vlan}"),
            Self::AddClassifier { index } => write!(f, "add a classifier to link {index}"),
            Self::AddIngressProgram { index, name, .. } => {
                write!(f, "attach program {name} to what comes in over link {index}")
            }
            Self::AddTokenBucket { index, bucket } => write!(
                f,
                "limit link {index} to {} B/s with a tbf qdisc (limit {} B, buffer {} ticks)",
                bucket.rate, bucket.limit, bucket.buffer
            ),
            Self::AddIngress { index } => write!(f, "add an ingress qdisc to link {index}"),
            Self::RedirectIngress { index, to } => {
                write!(f, "redirect what comes in over link {index} to link {to}")
            }
            Self::ChangeLink { index, change } => write!(f, "change link {index}: {change}"),
            Self::MoveLink { index, name, .. } => {
                write!(f, "move link {index} to another network namespace as {name}")
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
            Self::AddRoute(route) => write!(f, "add {route}"),
            Self::DeleteRoute(route) => write!(f, "delete {route}"),
        }
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_off = |on| if on { "on" } else { "off" };
        let mac = self
            .mac
            .map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        let parts = [
            mac.map(|mac| format!("address {mac}")),
            self.mtu.map(|mtu| format!("mtu {mtu}")),
            self.tx_queue_length.map(|length| format!("txqueuelen {length}")),
            self.promiscuous.map(|on| format!("promisc {}", on_off(on))),
            self.all_multicast
                .map(|on| format!("allmulticast {}", on_off(on))),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
