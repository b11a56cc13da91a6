//! Answers of the kernel as links and addresses: pure parsing, bounds checked, unknown attributes skipped.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use netlink_packet_core::NlasIterator;

/// `struct ifinfomsg`
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`
const ADDRESS_HEADER: usize = 8;
/// `IFF_UP`
const UP: u32 = 1;
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
}

/// An address of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what the fields are")]
pub struct Address {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
}

impl Link {
    /// Reads the payload of `RTM_NEWLINK`; `None` when it is cut off.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        const ADDRESS: u16 = 1;
        const NAME: u16 = 3;
        const MTU: u16 = 4;
        const MASTER: u16 = 10;
        const INFO: u16 = 18;
        let header = payload.get(..LINK_HEADER)?;
        let mut link = Self {
            index: number(header.get(4..8)?)?,
            ..Self::default()
        };
        link.up = number(header.get(8..12)?)? & UP != 0;
        each_attribute(payload.get(LINK_HEADER..)?, |kind, value| match kind {
            ADDRESS => link.mac = value.try_into().ok(),
            NAME => link.name = text(value),
            MTU => link.mtu = number(value).unwrap_or_default(),
            MASTER => link.master = number(value),
            INFO => {
                const KIND: u16 = 1;
                each_attribute(value, |kind, value| {
                    if kind == KIND {
                        link.kind = text(value);
                    }
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
        let header = payload.get(..ADDRESS_HEADER)?;
        let (mut address, mut local) = (None, None);
        each_attribute(payload.get(ADDRESS_HEADER..)?, |kind, value| match kind {
            ADDRESS => address = ip(value),
            LOCAL => local = ip(value),
            _ => {}
        });
        // On a point-to-point link ADDRESS is the other side.
        let address = local.or(address)?;
        Some(Self {
            index: number(header.get(4..8)?)?,
            address,
            prefix: *header.get(1)?,
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
