//! What a pod of the built-in network may send: ARP, IPv4 and IPv6 under its own addresses, nothing else.
//!
//! On a bridge each port can speak for all others: an ARP or neighbour discovery message for a neighbour's or the gateway's
//! address takes over their traffic, a forged source address passes for a neighbour, and a router advertisement gives the
//! node a new default route (CVE-2020-10749). CAP_NET_RAW, which containers have by default, suffices. So a program on the
//! host's end of each veth pair drops what does not come from the pod's own hardware and protocol addresses. It needs no
//! firewall program, no flushed ruleset turns it off, and the kernel deletes it with the pair.
//!
//! One program serves all pods: what each may send is in a table, by the index of the host's end. A daemon loads both with its
//! first pod. Those of an earlier daemon stay with the pods that it attached.
//!
//! Of IPv6, router advertisements and redirects are dropped, neighbour advertisements for other addresses, and packets with
//! extension headers behind which such messages can hide (RFC 7113). A fragment cannot: receivers ignore neighbour discovery
//! in fragments (RFC 6980). Everything else than these three protocols is dropped, also frames with VLAN tags, in which
//! receivers would find what the program has not seen (CVE-2021-27853).
//!
//! Reference: `struct __sk_buff` in `linux/bpf.h`, tc-bpf(8), RFC 826, RFC 4861.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_sys::{BpfInstruction, BpfMap, load_traffic_program};
use rustix::io::Errno;

/// What tc(8) and bpftool(8) show; at most 15 characters.
pub(super) const NAME: &str = "pausa_source";
/// More pods than a subnet can have are of no use.
const MAX_PODS: u32 = 1 << 16;

/// What a pod may send from, by the index of the host's end of its veth pair: see [`Source::bytes`].
type Sources = BpfMap<4, SOURCE_LENGTH>;

/// The addresses of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) mac: [u8; 6],
    /// Unspecified if it has none.
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Option<Ipv6Addr>,
}

/// Where the parts of an entry of the table are.
const OF_MAC: i16 = 0;
const OF_V4: i16 = 6;
const OF_V6: i16 = 12;
const OF_LINK_LOCAL: i16 = 28;
const SOURCE_LENGTH: usize = 44;

impl Source {
    /// The pod's entry: hardware address, IPv4 address, two bytes of nothing, IPv6 address, and the link-local address that
    /// the kernel derives from the hardware address (RFC 4291, appendix A).
    fn bytes(&self) -> [u8; SOURCE_LENGTH] {
        let [a, b, c, d, e, f] = self.mac;
        let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        let (v6, link_local) = match self.v6 {
            Some(v6) => (v6.octets(), link_local),
            None => ([0; 16], [0; 16]),
        };
        let parts: [&[u8]; 5] = [&self.mac, &self.v4.octets(), &[0; 2], &v6, &link_local];
        let mut bytes = [0; SOURCE_LENGTH];
        for (to, from) in bytes.iter_mut().zip(parts.concat()) {
            *to = from;
        }
        bytes
    }
}

/// The program, and what it goes by.
#[derive(Debug)]
pub(super) struct SourceFilter {
    program: OwnedFd,
    sources: Sources,
}

impl SourceFilter {
    /// # Errors
    /// The errno of bpf(2).
    pub(super) fn load() -> Result<Self, Errno> {
        let sources = Sources::create(NAME, MAX_PODS)?;
        let program = load_traffic_program(NAME, &compile(&sources))?;
        Ok(Self { program, sources })
    }

    /// The program, for a link whose source is known: it drops everything from others.
    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// # Errors
    /// The errno of bpf(2).
    pub(super) fn allow(&self, index: u32, source: &Source) -> Result<(), Errno> {
        self.sources.insert(index.to_ne_bytes(), source.bytes())
    }

    /// # Errors
    /// The errno of bpf(2).
    pub(super) fn forget(&self, index: u32) -> Result<(), Errno> {
        self.sources.remove(index.to_ne_bytes())
    }
}

/// Registers: the result of a call or of the program, values, the arguments of a call, the context, the pod's addresses, the
/// stack's end.
const ANSWER: u8 = 0;
const VALUE: u8 = 1;
const SECOND: u8 = 2;
const ARGUMENTS: [u8; 4] = [1, 2, 3, 4];
const CONTEXT: u8 = 6;
const SOURCE: u8 = 7;
const FRAME: u8 = 10;

const LOAD: u8 = 0x61; // target = *(u32 *)(source + offset)
const LOAD_HALF: u8 = 0x69; // target = *(u16 *)(source + offset)
const LOAD_BYTE: u8 = 0x71; // target = *(u8 *)(source + offset)
const STORE: u8 = 0x63; // *(u32 *)(target + offset) = source
const MOVE: u8 = 0xb4; // target = immediate
const COPY_LONG: u8 = 0xbf; // target = source, 64 bits
const ADD_LONG: u8 = 0x07; // target += immediate, 64 bits
const OR: u8 = 0x4c;
const XOR: u8 = 0xac;
const SKIP_IF: u8 = 0x16; // target == immediate
const SKIP_UNLESS: u8 = 0x56; // target != immediate
const SKIP_IF_SAME: u8 = 0x1e; // target == source
const SKIP_IF_NOT_NULL: u8 = 0x55; // target != immediate, 64 bits
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// `bpf_map_lookup_elem(map, key)`: the value's address, or null.
const LOOK_UP: i32 = 1;
/// `bpf_skb_load_bytes(context, offset, to, length)`: 0, or negative if the packet is shorter.
const LOAD_BYTES: i32 = 26;
/// `vlan_present` and `ifindex` in `struct __sk_buff`.
const VLAN_PRESENT: i16 = 20;
const IFINDEX: i16 = 40;

/// Go on with other programs, which accept the packet if there are none (`TC_ACT_UNSPEC`).
const ACCEPT: i32 = -1;
/// `TC_ACT_SHOT`
const DROP: i32 = 2;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Offsets in a frame without VLAN tag.
const V4_SOURCE: i32 = 26;
const ARP_SENDER: i32 = 22;
const V6_NEXT_HEADER: i32 = 20;
const V6_SOURCE: i32 = 22;
const V6_PAYLOAD: i32 = 54;
/// After a hop-by-hop header of the least length.
const V6_AFTER_OPTIONS: i32 = 62;
/// The target of a neighbour advertisement.
const ADVERTISED: i32 = 62;

/// Next headers of IPv6.
const HOP_BY_HOP: i32 = 0;
const ROUTING: i32 = 43;
const ICMPV6: i32 = 58;
const DESTINATION_OPTIONS: i32 = 60;
/// Types of ICMPv6 messages.
const LISTENER_REPORT: i32 = 131;
const LISTENER_DONE: i32 = 132;
const ROUTER_ADVERTISEMENT: i32 = 134;
const NEIGHBOUR_ADVERTISEMENT: i32 = 136;
const REDIRECT: i32 = 137;
const LISTENER_REPORT_2: i32 = 143;

/// Where a hardware address and the bytes after it are put on the stack, from the frame's end.
const MAC: i16 = -16;
const AFTER_MAC: i16 = MAC + 6;
/// Where an IPv6 address is put.
const ADDRESS: i16 = -32;
/// Where the index of the link, and single bytes of the packet, are put.
const KEY: i16 = -4;

/// The program for the host's ends of pods' veth pairs.
fn compile(sources: &Sources) -> Vec<BpfInstruction> {
    let mut program = vec![
        from(COPY_LONG, CONTEXT, VALUE, 0),
        from(LOAD, VALUE, CONTEXT, VLAN_PRESENT),
    ];
    program.extend(require(VALUE, 0));
    program.extend(look_up(sources));
    // The sender's hardware address and the type of the Ethernet header.
    program.extend(bytes(6, MAC, 8));
    program.extend(require_mac());
    program.push(from(LOAD_HALF, VALUE, FRAME, AFTER_MAC));
    for (kind, block) in [(IPV4, of_ipv4()), (ARP, of_arp()), (IPV6, of_ipv6())] {
        program.extend(only_if(network_order(kind), block));
    }
    program.extend(answer(DROP));
    program
}

fn of_ipv4() -> Vec<BpfInstruction> {
    let mut block = bytes(V4_SOURCE, AFTER_MAC, 4);
    block.extend(require_address());
    block.extend(answer(ACCEPT));
    block
}

fn of_arp() -> Vec<BpfInstruction> {
    // Sender's hardware and protocol address.
    let mut block = bytes(ARP_SENDER, MAC, 10);
    block.extend(require_mac());
    // A probe for an address that is not in use yet (RFC 5227) has none; nobody learns from it.
    block.extend([
        from(LOAD_HALF, VALUE, FRAME, AFTER_MAC),
        from(LOAD_HALF, SECOND, FRAME, AFTER_MAC + 2),
        from(OR, VALUE, SECOND, 0),
    ]);
    let address = require_address();
    block.push(jump_if(VALUE, 0, length(&address)));
    block.extend(address);
    block.extend(answer(ACCEPT));
    block
}

fn of_ipv6() -> Vec<BpfInstruction> {
    // A pod without an address of IPv6 sends none.
    let mut block = combine(|at| vec![from(LOAD, VALUE, SOURCE, OF_V6 + at)]);
    block.extend(skip(SKIP_UNLESS, DIFFERENCE, 0, 2));
    block.extend(answer(DROP));

    block.extend(bytes(V6_SOURCE, ADDRESS, 16));
    block.extend(require_own(&[
        difference(OF_V6),
        difference(OF_LINK_LOCAL),
        unspecified(),
    ]));

    // A report of a multicast listener is behind an option for routers. Nothing else needs one in front of it.
    let mut listener = byte(V6_PAYLOAD);
    listener.extend(require(VALUE, ICMPV6));
    listener.extend(byte(V6_PAYLOAD + 1));
    listener.extend(require(VALUE, 0));
    listener.extend(byte(V6_AFTER_OPTIONS));
    for kind in [LISTENER_REPORT, LISTENER_DONE, LISTENER_REPORT_2] {
        listener.extend(only_if(kind, answer(ACCEPT).to_vec()));
    }
    listener.extend(answer(DROP));

    let mut message = byte(V6_PAYLOAD);
    for kind in [ROUTER_ADVERTISEMENT, REDIRECT] {
        message.extend(only_if(kind, answer(DROP).to_vec()));
    }
    let mut advertisement = bytes(ADVERTISED, ADDRESS, 16);
    advertisement.extend(require_own(&[difference(OF_V6), difference(OF_LINK_LOCAL)]));
    advertisement.extend(answer(ACCEPT));
    message.extend(only_if(NEIGHBOUR_ADVERTISEMENT, advertisement));
    message.extend(answer(ACCEPT));

    block.extend(byte(V6_NEXT_HEADER));
    block.extend(only_if(HOP_BY_HOP, listener));
    block.extend(only_if(ICMPV6, message));
    for kind in [ROUTING, DESTINATION_OPTIONS] {
        block.extend(only_if(kind, answer(DROP).to_vec()));
    }
    block.extend(answer(ACCEPT));
    block
}

/// The register for what is zero if addresses are the same.
const DIFFERENCE: u8 = 3;

/// Ors four words, which `load` puts into [`VALUE`], into [`DIFFERENCE`].
fn combine(load: impl Fn(i16) -> Vec<BpfInstruction>) -> Vec<BpfInstruction> {
    let mut program = vec![with(MOVE, DIFFERENCE, 0)];
    for at in [0, 4, 8, 12] {
        program.extend(load(at));
        program.push(from(OR, DIFFERENCE, VALUE, 0));
    }
    program
}

/// Compares the address on the stack with one of the pod's.
fn difference(of: i16) -> Vec<BpfInstruction> {
    combine(|at| {
        vec![
            from(LOAD, VALUE, FRAME, ADDRESS + at),
            from(LOAD, SECOND, SOURCE, of + at),
            from(XOR, VALUE, SECOND, 0),
        ]
    })
}

/// Compares the address on the stack with that of somebody who has none yet.
fn unspecified() -> Vec<BpfInstruction> {
    combine(|at| vec![from(LOAD, VALUE, FRAME, ADDRESS + at)])
}

/// Drops the packet unless one of the comparisons finds no difference.
fn require_own(comparisons: &[Vec<BpfInstruction>]) -> Vec<BpfInstruction> {
    let mut program = answer(DROP).to_vec();
    for comparison in comparisons.iter().rev() {
        let rest = std::mem::take(&mut program);
        program.extend(comparison.iter().cloned());
        program.extend(skip(SKIP_IF, DIFFERENCE, 0, length(&rest)));
        program.extend(rest);
    }
    program
}

/// Loads a byte of the packet into [`VALUE`]; drops packets that are shorter.
fn byte(offset: i32) -> Vec<BpfInstruction> {
    let mut program = bytes(offset, KEY, 1);
    program.push(from(LOAD_BYTE, VALUE, FRAME, KEY));
    program
}

/// A block for one content of [`VALUE`], which it must not leave at its end.
fn only_if(value: i32, block: Vec<BpfInstruction>) -> Vec<BpfInstruction> {
    let mut program = skip(SKIP_UNLESS, VALUE, value, length(&block)).to_vec();
    program.extend(block);
    program
}

fn skip(code: u8, register: u8, value: i32, offset: i16) -> [BpfInstruction; 1] {
    [BpfInstruction {
        offset,
        ..with(code, register, value)
    }]
}

fn length(block: &[BpfInstruction]) -> i16 {
    i16::try_from(block.len()).unwrap_or(i16::MAX)
}

/// Loads the address of what the link's pod may send; drops packets of links that have no entry.
fn look_up(sources: &Sources) -> Vec<BpfInstruction> {
    let [table, key, ..] = ARGUMENTS;
    let mut program = vec![
        from(LOAD, VALUE, CONTEXT, IFINDEX),
        from(STORE, FRAME, VALUE, KEY),
    ];
    program.extend(sources.load_address(table));
    program.extend([
        from(COPY_LONG, key, FRAME, 0),
        with(ADD_LONG, key, i32::from(KEY)),
        with(CALL, 0, LOOK_UP),
        BpfInstruction {
            offset: 2,
            ..with(SKIP_IF_NOT_NULL, ANSWER, 0)
        },
    ]);
    program.extend(answer(DROP));
    program.push(from(COPY_LONG, SOURCE, ANSWER, 0));
    program
}

/// Copies bytes of the packet to the stack; drops packets that are shorter.
fn bytes(offset: i32, to: i16, length: i32) -> Vec<BpfInstruction> {
    let [context, from_offset, target, size] = ARGUMENTS;
    let call = [
        from(COPY_LONG, context, CONTEXT, 0),
        with(MOVE, from_offset, offset),
        from(COPY_LONG, target, FRAME, 0),
        with(ADD_LONG, target, i32::from(to)),
        with(MOVE, size, length),
        with(CALL, 0, LOAD_BYTES),
    ];
    [call.as_slice(), &require(ANSWER, 0)].concat()
}

fn require_mac() -> Vec<BpfInstruction> {
    [0, 2, 4].into_iter().flat_map(require_half).collect()
}

/// The protocol address that follows the hardware address on the stack, as in the table.
fn require_address() -> Vec<BpfInstruction> {
    [OF_V4, OF_V4 + 2].into_iter().flat_map(require_half).collect()
}

/// Drops the packet unless two bytes of the addresses on the stack are those of the pod. Larger loads would not be aligned.
fn require_half(offset: i16) -> [BpfInstruction; 5] {
    let [first, second] = answer(DROP);
    [
        from(LOAD_HALF, VALUE, FRAME, MAC + OF_MAC + offset),
        from(LOAD_HALF, SECOND, SOURCE, OF_MAC + offset),
        from(SKIP_IF_SAME, VALUE, SECOND, 2),
        first,
        second,
    ]
}

/// Drops the packet unless a register has this value.
fn require(register: u8, value: i32) -> [BpfInstruction; 3] {
    let [first, second] = answer(DROP);
    [jump_if(register, value, 2), first, second]
}

fn answer(what: i32) -> [BpfInstruction; 2] {
    [with(MOVE, ANSWER, what), with(EXIT, 0, 0)]
}

fn network_order(number: u16) -> i32 {
    i32::from(number.to_be())
}

fn jump_if(register: u8, value: i32, offset: i16) -> BpfInstruction {
    BpfInstruction {
        offset,
        ..with(SKIP_IF, register, value)
    }
}

fn from(code: u8, target: u8, source: u8, offset: i16) -> BpfInstruction {
    BpfInstruction {
        source,
        offset,
        ..with(code, target, 0)
    }
}

fn with(code: u8, target: u8, immediate: i32) -> BpfInstruction {
    BpfInstruction {
        code,
        target,
        source: 0,
        offset: 0,
        immediate,
    }
}
