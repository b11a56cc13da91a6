//! Answers of the kernel as links, addresses and qdiscs: pure parsing, bounds checked, unknown attributes skipped.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NlasIterator;

use crate::request::TokenBucket;

/// `struct ifinfomsg`
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`
const ADDRESS_HEADER: usize = 8;
/// `struct rtmsg`
const ROUTE_HEADER: usize = 12;
/// `struct ndmsg`
const NEIGHBOUR_HEADER: usize = 12;
/// `struct tcmsg`
const TRAFFIC_CONTROL_HEADER: usize = 20;
/// `IFF_UP`
const UP: u32 = 1;
/// `IFF_PROMISC`
const PROMISCUOUS: u32 = 0x100;
/// `IFF_ALLMULTI`
const ALL_MULTICAST: u32 = 0x200;
/// The upper bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;

/// A network interface as the kernel lists it (`RTM_NEWLINK`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of ip-link(8)")]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Its hardware address, if it has one.
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// Index of the bridge it is attached to.
    pub master: Option<u32>,
    /// `bridge`, `veth` and so on; empty for hardware.
    pub kind: String,
    /// Whether an administrator set it up.
    pub up: bool,
    /// Whether frames pass (`IF_OPER_UP`).
    pub operational: bool,
    /// Whether an administrator made it take frames that are not for its address.
    pub promiscuous: bool,
    /// Index of the link it is on top of; of a veth pair, the other end's, in the other end's namespace.
    pub parent: Option<u32>,
    /// Of a bridge: the VLAN that new ports are members of, 0 for none.
    pub default_vlan: Option<u16>,
    pub tx_queue_length: u32,
    /// How many wish for all frames, an administrator and programs such as tcpdump(8).
    pub promiscuity: u32,
    /// Whether an administrator asked for all multicast frames.
    pub all_multicast: bool,
}

/// An address of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what the fields are")]
pub struct Address {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    pub state: AddressState,
}

/// What duplicate address detection has found (RFC 4862).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressState {
    /// It can be used.
    Preferred,
    /// It is being probed for.
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

/// A route as the kernel lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what the fields are")]
pub struct KnownRoute {
    pub index: Option<u32>,
    /// Destination and its prefix; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: (IpAddr, u8),
    pub gateway: Option<IpAddr>,
    pub table: u32,
}

/// Another host on a link, as the kernel resolves its hardware address (ARP, neighbour discovery).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what the fields are")]
pub struct Neighbour {
    pub index: u32,
    pub address: IpAddr,
    /// Whether it has not answered the kernel's questions (`NUD_FAILED`).
    pub failed: bool,
}

impl Link {
    /// Reads the payload of `RTM_NEWLINK`; `None` when it is cut off.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        const ADDRESS: u16 = 1;
        const NAME: u16 = 3;
        const MTU: u16 = 4;
        const PARENT: u16 = 5;
        const MASTER: u16 = 10;
        const STATE: u16 = 16;
        /// `IF_OPER_UP`
        const OPERATIONAL: u8 = 6;
        const TX_QUEUE_LENGTH: u16 = 13;
        const INFO: u16 = 18;
        const PROMISCUITY: u16 = 30;
        let header = payload.get(..LINK_HEADER)?;
        let mut link = Self {
            index: number(header.get(4..8)?)?,
            ..Self::default()
        };
        let flags = number(header.get(8..12)?)?;
        link.up = flags & UP != 0;
        link.promiscuous = flags & PROMISCUOUS != 0;
        link.all_multicast = flags & ALL_MULTICAST != 0;
        each_attribute(payload.get(LINK_HEADER..)?, |kind, value| match kind {
            ADDRESS => link.mac = value.try_into().ok(),
            NAME => link.name = text(value),
            MTU => link.mtu = number(value).unwrap_or_default(),
            PARENT => link.parent = number(value),
            MASTER => link.master = number(value),
            STATE => link.operational = value == [OPERATIONAL],
            TX_QUEUE_LENGTH => link.tx_queue_length = number(value).unwrap_or_default(),
            PROMISCUITY => link.promiscuity = number(value).unwrap_or_default(),
            INFO => {
                const KIND: u16 = 1;
                const DATA: u16 = 2;
                const DEFAULT_VLAN: u16 = 39;
                each_attribute(value, |kind, value| match kind {
                    KIND => link.kind = text(value),
                    // The kernel sends the kind first.
                    DATA if link.kind == "bridge" => each_attribute(value, |kind, value| {
                        if kind == DEFAULT_VLAN {
                            link.default_vlan = value.try_into().ok().map(u16::from_ne_bytes);
                        }
                    }),
                    _ => {}
                });
            }
            _ => {}
        });
        Some(link)
    }
}

impl Address {
    /// Reads the payload of `RTM_NEWADDR`; `None` when it is cut off or of a family we do not know.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        const ADDRESS: u16 = 1;
        const LOCAL: u16 = 2;
        const FLAGS: u16 = 8;
        const DUPLICATE: u32 = 0x08;
        const TENTATIVE: u32 = 0x40;
        let header = payload.get(..ADDRESS_HEADER)?;
        let (mut address, mut local, mut flags) = (None, None, 0);
        each_attribute(payload.get(ADDRESS_HEADER..)?, |kind, value| match kind {
            ADDRESS => address = ip(value),
            LOCAL => local = ip(value),
            FLAGS => flags = number(value).unwrap_or_default(),
            _ => {}
        });
        // On a point-to-point link ADDRESS is the other side.
        let address = local.or(address)?;
        Some(Self {
            index: number(header.get(4..8)?)?,
            address,
            prefix: *header.get(1)?,
            state: if flags & DUPLICATE != 0 {
                AddressState::Duplicate
            } else if flags & TENTATIVE != 0 {
                AddressState::Tentative
            } else {
                AddressState::Preferred
            },
        })
    }
}

impl KnownRoute {
    /// Reads the payload of `RTM_NEWROUTE`; `None` when it is cut off or of a family we do not know.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        const DESTINATION: u16 = 1;
        const LINK: u16 = 4;
        const GATEWAY: u16 = 5;
        const TABLE: u16 = 15;
        const INET: u8 = 2;
        const INET6: u8 = 10;
        let header = payload.get(..ROUTE_HEADER)?;
        let mut route = Self {
            index: None,
            destination: match *header.first()? {
                INET => (Ipv4Addr::UNSPECIFIED.into(), *header.get(1)?),
                INET6 => (Ipv6Addr::UNSPECIFIED.into(), *header.get(1)?),
                _ => return None,
            },
            gateway: None,
            table: (*header.get(4)?).into(),
        };
        each_attribute(payload.get(ROUTE_HEADER..)?, |kind, value| match kind {
            DESTINATION => route.destination.0 = ip(value).unwrap_or(route.destination.0),
            LINK => route.index = number(value),
            GATEWAY => route.gateway = ip(value),
            TABLE => route.table = number(value).unwrap_or(route.table),
            _ => {}
        });
        Some(route)
    }
}

impl Neighbour {
    /// Reads the payload of `RTM_NEWNEIGH`; `None` when it is cut off or has no address of a family we know.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        const DESTINATION: u16 = 1;
        const FAILED: u16 = 0x20;
        let header = payload.get(..NEIGHBOUR_HEADER)?;
        let mut address = None;
        each_attribute(payload.get(NEIGHBOUR_HEADER..)?, |kind, value| {
            if kind == DESTINATION {
                address = ip(value);
            }
        });
        let state = u16::from_ne_bytes(header.get(8..10)?.try_into().ok()?);
        Some(Self {
            index: number(header.get(4..8)?)?,
            address: address?,
            failed: state & FAILED != 0,
        })
    }
}

impl TokenBucket {
    /// Reads the payload of `RTM_NEWQDISC`; `None` when it is cut off or a qdisc of another kind.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        const KIND: u16 = 1;
        const OPTIONS: u16 = 2;
        let (mut kind, mut options) = (String::new(), None);
        each_attribute(
            payload.get(TRAFFIC_CONTROL_HEADER..)?,
            |attribute, value| match attribute {
                KIND => kind = text(value),
                OPTIONS => options = Some(value),
                _ => {}
            },
        );
        if kind != "tbf" {
            return None;
        }
        let (mut bucket, mut high_rate) = (None, None);
        each_attribute(options?, |attribute, value| {
            const PARAMETERS: u16 = 1;
            const RATE: u16 = 4;
            match attribute {
                PARAMETERS => bucket = Self::of_parameters(value),
                RATE => high_rate = value.try_into().ok().map(u64::from_ne_bytes),
                _ => {}
            }
        });
        let bucket = bucket?;
        Some(Self {
            rate: high_rate.unwrap_or(bucket.rate),
            ..bucket
        })
    }

    /// Reads `struct tc_tbf_qopt`.
    fn of_parameters(parameters: &[u8]) -> Option<Self> {
        Some(Self {
            rate: number(parameters.get(8..12)?)?.into(),
            limit: number(parameters.get(24..28)?)?,
            buffer: number(parameters.get(28..32)?)?,
        })
    }
}

fn each_attribute<'a>(attributes: &'a [u8], mut take: impl FnMut(u16, &'a [u8])) {
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let bytes = attribute.into_inner();
        let length = bytes
            .get(..2)
            .and_then(|length| length.try_into().ok())
            .map_or(0, u16::from_ne_bytes);
        let kind = bytes
            .get(2..4)
            .and_then(|kind| kind.try_into().ok())
            .map_or(0, u16::from_ne_bytes);
        if let Some(value) = bytes.get(4..usize::from(length)) {
            take(kind & TYPE_MASK, value);
        }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
