//! Requests as netlink messages: pure translation, no I/O.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::request::{Request, Veth};

/// The bytes of a message with its header.
pub(crate) fn encode(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The message for a request, which the kernel acknowledges.
pub(crate) fn of_request(request: &Request<'_>, sequence: u32) -> Vec<u8> {
    let create = NLM_F_CREATE | NLM_F_EXCL;
    let (message, flags) = match request {
        Request::CreateBridge { name, mac, mtu } => {
            let mut link = up(named(name));
            link.attributes
                .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
            hardware(&mut link, *mac, *mtu);
            (RouteNetlinkMessage::NewLink(link), create)
        }
        Request::CreateVeth(veth) => (RouteNetlinkMessage::NewLink(veth_pair(veth)), create),
        Request::SetUp { index } => (RouteNetlinkMessage::SetLink(up(indexed(*index))), 0),
        Request::SetDown { index } => {
            let mut link = indexed(*index);
            link.header.change_mask = LinkFlags::Up;
            (RouteNetlinkMessage::SetLink(link), 0)
        }
        Request::SetMaster { index, master } => {
            let mut link = indexed(*index);
            link.attributes.push(LinkAttribute::Controller(*master));
            (RouteNetlinkMessage::SetLink(link), 0)
        }
        Request::SetHairpin { index, on } => {
            let mut link = indexed(*index);
            link.attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(*on)])),
            ]));
            (RouteNetlinkMessage::NewLink(link), 0)
        }
        Request::AddClassifier { index } => {
            let mut qdisc = traffic_control(*index, TcHandle::CLSACT, "clsact");
            qdisc.header.handle.major = TcHandle::CLSACT.major;
            (RouteNetlinkMessage::NewQueueDiscipline(qdisc), create)
        }
        Request::AddIngressProgram { index, name, program } => (
            RouteNetlinkMessage::NewTrafficFilter(ingress_program(*index, name, *program)),
            create,
        ),
        Request::DeleteLink { name } => (RouteNetlinkMessage::DelLink(named(name)), 0),
        Request::AddAddress {
            index,
            address,
            prefix,
        } => (
            RouteNetlinkMessage::NewAddress(address_message(*index, *address, *prefix)),
            create,
        ),
        Request::DeleteAddress {
            index,
            address,
            prefix,
        } => (
            RouteNetlinkMessage::DelAddress(address_message(*index, *address, *prefix)),
            0,
        ),
        Request::AddRoute {
            index,
            destination,
            gateway,
        } => (
            RouteNetlinkMessage::NewRoute(route_message(*index, *destination, *gateway)),
            create,
        ),
    };
    encode(message, flags | NLM_F_ACK, sequence)
}

/// Queries one link by name.
pub(crate) fn link_query(name: &str, sequence: u32) -> Vec<u8> {
    encode(RouteNetlinkMessage::GetLink(named(name)), 0, sequence)
}

pub(crate) fn links_query(sequence: u32) -> Vec<u8> {
    encode(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        netlink_packet_core::NLM_F_DUMP,
        sequence,
    )
}

/// Lists the addresses of a link.
pub(crate) fn addresses_query(index: u32, sequence: u32) -> Vec<u8> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    encode(
        RouteNetlinkMessage::GetAddress(message),
        netlink_packet_core::NLM_F_DUMP,
        sequence,
    )
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn indexed(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

fn up(mut link: LinkMessage) -> LinkMessage {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

fn hardware(link: &mut LinkMessage, mac: Option<[u8; 6]>, mtu: Option<u32>) {
    link.attributes
        .extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    link.attributes.extend(mtu.map(LinkAttribute::Mtu));
}

fn veth_pair(veth: &Veth<'_>) -> LinkMessage {
    // The peer cannot be set up here: the kernel creates it before the pair is complete.
    let mut peer = named(veth.peer_name);
    peer.attributes
        .push(LinkAttribute::NetNsFd(veth.peer_netns.as_raw_fd()));
    hardware(&mut peer, veth.peer_mac, veth.mtu);
    let mut link = up(named(veth.name));
    hardware(&mut link, None, veth.mtu);
    link.attributes.extend(veth.master.map(LinkAttribute::Controller));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    link
}

fn traffic_control(index: u32, parent: TcHandle, kind: &str) -> TcMessage {
    // The kernel's number is an `int`, though never negative.
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message
}

/// The first of the programs; what it returns is the decision itself ("direct action").
fn ingress_program(index: u32, name: &str, program: BorrowedFd<'_>) -> TcMessage {
    /// `ETH_P_ALL`
    const ALL_PROTOCOLS: u16 = 3;
    let ingress = TcHandle {
        minor: TcHandle::MIN_INGRESS,
        ..TcHandle::CLSACT
    };
    let mut message = traffic_control(index, ingress, TcFilterBpf::KIND);
    // The priority is in the upper half.
    message.header.info = 1 << 16 | u32::from(ALL_PROTOCOLS.to_be());
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd().unsigned_abs())),
        TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    message
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    if let IpAddr::V4(address) = address
        && prefix < 31
    {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        message.attributes.push(AddressAttribute::Broadcast(
            (u32::from(address) | host_bits).into(),
        ));
    }
    message
}

fn route_message(index: u32, (to, prefix): (IpAddr, u8), gateway: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if gateway.is_some() {
        RouteScope::Universe
    } else {
        RouteScope::Link
    };
    if prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(to.into()));
    }
    message
        .attributes
        .extend(gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    message
}
