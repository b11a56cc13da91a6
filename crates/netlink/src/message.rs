//! Requests as netlink messages: pure translation, no I/O.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData,
    InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcFilterU32, TcFilterU32Option,
    TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::request::{LinkChange, Request, Route, TokenBucket, Veth};

/// The handle of a qdisc that filters for what comes in are attached to.
const INGRESS: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};
/// `ETH_P_ALL`
const ALL_PROTOCOLS: u16 = 3;

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
        Request::CreateBridge {
            name,
            mac,
            mtu,
            vlan_filtering,
        } => {
            let mut link = up(named(name));
            let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
            if *vlan_filtering {
                info.push(LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(
                    true,
                )])));
            }
            link.attributes.push(LinkAttribute::LinkInfo(info));
            hardware(&mut link, *mac, *mtu);
            (RouteNetlinkMessage::NewLink(link), create)
        }
        Request::CreateVeth(veth) => (RouteNetlinkMessage::NewLink(veth_pair(veth)), create),
        Request::CreateIfb { name, mtu } => {
            let mut link = named(name);
            link.attributes.extend([
                LinkAttribute::Mtu(*mtu),
                LinkAttribute::TxQueueLen(0),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
            ]);
            (RouteNetlinkMessage::NewLink(link), create)
        }
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
        Request::MoveLink { index, netns, name } => {
            let mut link = indexed(*index);
            link.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
            link.attributes.push(LinkAttribute::IfName((*name).to_owned()));
            (RouteNetlinkMessage::SetLink(link), 0)
        }
        Request::SetMac { index, mac } => {
            let mut link = indexed(*index);
            hardware(&mut link, Some(*mac), None);
            (RouteNetlinkMessage::SetLink(link), 0)
        }
        Request::SetPromiscuous { index, on } => {
            let mut link = indexed(*index);
            link.header.change_mask = LinkFlags::Promisc;
            if *on {
                link.header.flags = LinkFlags::Promisc;
            }
            (RouteNetlinkMessage::SetLink(link), 0)
        }
        Request::SetPort {
            index,
            hairpin,
            isolated,
        } => {
            let mut link = indexed(*index);
            link.attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::HairpinMode(*hairpin),
                    InfoBridgePort::Isolated(*isolated),
                ])),
            ]));
            (RouteNetlinkMessage::NewLink(link), 0)
        }
        Request::AddVlan {
            index,
            vlan,
            untagged,
        } => {
            let flags = if *untagged {
                BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged
            } else {
                BridgeVlanInfoFlags::empty()
            };
            (
                RouteNetlinkMessage::SetLink(vlan_of_port(*index, *vlan, flags)),
                0,
            )
        }
        Request::DeleteVlan { index, vlan } => {
            let link = vlan_of_port(*index, *vlan, BridgeVlanInfoFlags::empty());
            (RouteNetlinkMessage::DelLink(link), 0)
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
        Request::AddTokenBucket { index, bucket } => (
            RouteNetlinkMessage::NewQueueDiscipline(token_bucket(*index, *bucket)),
            create,
        ),
        Request::AddIngress { index } => {
            let mut qdisc = traffic_control(*index, TcHandle::INGRESS, "ingress");
            qdisc.header.handle = INGRESS;
            (RouteNetlinkMessage::NewQueueDiscipline(qdisc), create)
        }
        Request::RedirectIngress { index, to } => (
            RouteNetlinkMessage::NewTrafficFilter(redirection(*index, *to)),
            create,
        ),
        Request::ChangeLink { index, change } => (RouteNetlinkMessage::SetLink(changed(*index, *change)), 0),
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
        Request::AddRoute(route) => (RouteNetlinkMessage::NewRoute(route_message(route)), NLM_F_CREATE),
        Request::DeleteRoute(route) => {
            // Whoever added it, and of whatever kind.
            let mut message = route_message(route);
            message.header.protocol = RouteProtocol::Unspec;
            message.header.kind = RouteType::Unspec;
            (RouteNetlinkMessage::DelRoute(message), 0)
        }
    };
    encode(message, flags | NLM_F_ACK, sequence)
}

/// Queries one link by name.
pub(crate) fn link_query(name: &str, sequence: u32) -> Vec<u8> {
    encode(RouteNetlinkMessage::GetLink(named(name)), 0, sequence)
}

/// Queries one link by index.
pub(crate) fn link_by_index_query(index: u32, sequence: u32) -> Vec<u8> {
    encode(RouteNetlinkMessage::GetLink(indexed(index)), 0, sequence)
}

/// Queries the route that a packet to an address takes.
pub(crate) fn route_to_query(address: IpAddr, sequence: u32) -> Vec<u8> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    encode(RouteNetlinkMessage::GetRoute(message), 0, sequence)
}

/// Queries the root qdisc of a link. A listing would go through those of all links.
pub(crate) fn root_query(index: u32, sequence: u32) -> Vec<u8> {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    // Without ECHO, kernels before 6.8 answer only those that listen to changes. A link that is down may have no qdisc: then
    // the acknowledgement is the answer. Otherwise it follows the answer, and the next call skips it.
    let flags = NLM_F_ECHO | NLM_F_ACK;
    encode(RouteNetlinkMessage::GetQueueDiscipline(message), flags, sequence)
}

pub(crate) fn links_query(sequence: u32) -> Vec<u8> {
    encode(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        netlink_packet_core::NLM_F_DUMP,
        sequence,
    )
}

/// Lists the routes of the main table and of all others.
pub(crate) fn routes_query(family: AddressFamily, sequence: u32) -> Vec<u8> {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    encode(
        RouteNetlinkMessage::GetRoute(message),
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

/// Lists the neighbours on all links.
pub(crate) fn neighbours_query(sequence: u32) -> Vec<u8> {
    encode(
        RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
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

fn changed(index: u32, change: LinkChange) -> LinkMessage {
    let mut link = indexed(index);
    hardware(&mut link, change.mac, change.mtu);
    link.attributes
        .extend(change.tx_queue_length.map(LinkAttribute::TxQueueLen));
    let flags = [
        (LinkFlags::Promisc, change.promiscuous),
        (LinkFlags::Allmulti, change.all_multicast),
    ];
    for (flag, on) in flags {
        link.header.change_mask.set(flag, on.is_some());
        link.header.flags.set(flag, on == Some(true));
    }
    link
}

fn veth_pair(veth: &Veth<'_>) -> LinkMessage {
    // The peer cannot be set up here: the kernel creates it before the pair is complete.
    let mut peer = named(veth.peer_name);
    peer.attributes
        .push(LinkAttribute::NetNsFd(veth.peer_netns.as_raw_fd()));
    hardware(&mut peer, veth.peer_mac, veth.mtu);
    let mut link = up(named(veth.name));
    hardware(&mut link, veth.mac, veth.mtu);
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

/// `TCA_TBF_PARMS` is `struct tc_tbf_qopt`. Its rate ends at 4 GB/s; a higher one has an attribute of its own besides.
fn token_bucket(index: u32, bucket: TokenBucket) -> TcMessage {
    const PARAMETERS: u16 = 1;
    const RATE: u16 = 4;
    let mut message = traffic_control(index, TcHandle::ROOT, "tbf");
    message.header.handle = TcHandle { major: 1, minor: 0 };
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    let mut parameters = Vec::with_capacity(36);
    // `struct tc_ratespec`: no overhead, and no table of times, which kernels have not needed since 3.8.
    parameters.extend([0; 8]);
    parameters.extend(rate.to_ne_bytes());
    // No peak rate.
    parameters.extend([0; 12]);
    parameters.extend(bucket.limit.to_ne_bytes());
    parameters.extend(bucket.buffer.to_ne_bytes());
    // What a peak rate would need.
    parameters.extend([0; 4]);
    let mut options = vec![TcOption::Other(DefaultNla::new(PARAMETERS, parameters))];
    if bucket.rate > u64::from(u32::MAX) {
        let rate = bucket.rate.to_ne_bytes().to_vec();
        options.push(TcOption::Other(DefaultNla::new(RATE, rate)));
    }
    message.attributes.push(TcAttribute::Options(options));
    message
}

/// A filter that matches everything, in the form that the reference CNI plugin gives it: its second action, for those that
/// the first one lets through, never runs.
fn redirection(index: u32, to: u32) -> TcMessage {
    let redirect = |table, then| {
        let mut generic = TcActionGeneric::default();
        generic.action = then;
        let mut mirror = TcMirror::default();
        mirror.generic = generic;
        mirror.eaction = TcMirrorActionType::EgressRedir;
        mirror.ifindex = to;
        let mut action = TcAction::default();
        action.tab = table;
        action.attributes = vec![
            TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
            TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
        ];
        action
    };
    let mut everything = TcU32Selector::default();
    everything.flags = TcU32SelectorFlags::Terminal;
    everything.nkeys = 1;
    everything.keys = vec![TcU32Key::default()];
    let mut message = traffic_control(index, INGRESS, TcFilterU32::KIND);
    message.header.info = 1 << 16 | u32::from(ALL_PROTOCOLS.to_be());
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::U32(TcFilterU32Option::Selector(everything)),
        TcOption::U32(TcFilterU32Option::ClassId(TcHandle { major: 1, minor: 1 })),
        TcOption::U32(TcFilterU32Option::Action(vec![
            redirect(1, TcActionType::Stolen),
            redirect(2, TcActionType::Ok),
        ])),
    ]));
    message
}

/// The first of the programs; what it returns is the decision itself ("direct action").
fn ingress_program(index: u32, name: &str, program: BorrowedFd<'_>) -> TcMessage {
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

fn route_message(route: &Route) -> RouteMessage {
    let (to, prefix) = route.destination;
    let mut message = RouteMessage::default();
    message.header.address_family = family(to);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::from(route.scope);
    if let Some(table) = route.table {
        // Numbers above 255 are only in the attribute.
        message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.attributes.push(RouteAttribute::Table(table));
    }
    if prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(to.into()));
    }
    message.attributes.extend(
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(gateway.into())),
    );
    message.attributes.extend(
        route
            .source
            .map(|source| RouteAttribute::PrefSource(source.into())),
    );
    message
        .attributes
        .extend(route.priority.map(RouteAttribute::Priority));
    let metrics: Vec<RouteMetric> = [
        route.mtu.map(RouteMetric::Mtu),
        route.advmss.map(RouteMetric::Advmss),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message.attributes.push(RouteAttribute::Oif(route.index));
    message
}

/// A port's membership of a VLAN of the bridge that it is attached to.
fn vlan_of_port(index: u32, vlan: u16, flags: BridgeVlanInfoFlags) -> LinkMessage {
    let mut link = indexed(index);
    link.header.interface_family = AddressFamily::Bridge;
    link.attributes.push(LinkAttribute::AfSpecBridge(vec![
        AfSpecBridge::Flags(BridgeFlag::Controller),
        AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid: vlan }),
    ]));
    link
}
