//! What a pod may send: IPv4 and ARP under its own addresses, nothing else.
//!
//! On a bridge each port can speak for all others: an ARP message for a neighbour's or the gateway's address takes over
//! their traffic, a forged source address passes for a neighbour, and a router advertisement gives the node a new default
//! route (CVE-2020-10749). CAP_NET_RAW, which containers have by default, suffices. So a program on the host's end of each
//! veth pair drops what does not come from the pod's own hardware and IPv4 address. It needs no firewall program, no
//! flushed ruleset turns it off, and the kernel deletes it with the pair.
//!
//! One program serves all pods: what each may send is in a table, by the index of the host's end. A daemon loads both with its
//! first pod. Those of an earlier daemon stay with the pods that it attached.
//!
//! Everything else is dropped: IPv6, which this network does not have, and frames with VLAN tags, in which receivers would
//! find what the program has not seen (CVE-2021-27853).
//!
//! Reference: `struct __sk_buff` in `linux/bpf.h`, tc-bpf(8), RFC 826.

use std::net::Ipv4Addr;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_sys::{BpfInstruction, BpfMap, load_traffic_program};
use rustix::io::Errno;

/// What tc(8) and bpftool(8) show; at most 15 characters.
pub(super) const NAME: &str = "pausa_source";
/// More pods than a subnet can have are of no use.
const MAX_PODS: u32 = 1 << 16;

/// A pod's hardware address and after it its IPv4 address, by the index of the host's end of its veth pair.
type Sources = BpfMap<4, 10>;

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
    pub(super) fn allow(&self, index: u32, mac: [u8; 6], address: Ipv4Addr) -> Result<(), Errno> {
        let mut source = [0; 10];
        source[..6].copy_from_slice(&mac);
        source[6..].copy_from_slice(&address.octets());
        self.sources.insert(index.to_ne_bytes(), source)
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
const STORE: u8 = 0x63; // *(u32 *)(target + offset) = source
const MOVE: u8 = 0xb4; // target = immediate
const COPY_LONG: u8 = 0xbf; // target = source, 64 bits
const ADD_LONG: u8 = 0x07; // target += immediate, 64 bits
const OR: u8 = 0x4c;
const SKIP_IF: u8 = 0x16; // target == immediate
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

/// Where a hardware address and the bytes after it are put on the stack, from the frame's end.
const MAC: i16 = -16;
const AFTER_MAC: i16 = MAC + 6;
/// Where the index of the link is put, from the frame's end.
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

    let mut ipv4 = require(VALUE, network_order(IPV4)).to_vec();
    ipv4.extend(bytes(26, AFTER_MAC, 4));
    ipv4.extend(require_address());
    ipv4.extend(answer(ACCEPT));
    let skip = i16::try_from(ipv4.len()).unwrap_or(i16::MAX);
    program.push(jump_if(VALUE, network_order(ARP), skip));
    program.extend(ipv4);

    // Sender's hardware and protocol address.
    program.extend(bytes(22, MAC, 10));
    program.extend(require_mac());
    // A probe for an address that is not in use yet (RFC 5227) has none; nobody learns from it.
    program.extend([
        from(LOAD_HALF, VALUE, FRAME, AFTER_MAC),
        from(LOAD_HALF, SECOND, FRAME, AFTER_MAC + 2),
        from(OR, VALUE, SECOND, 0),
    ]);
    let address = require_address();
    program.push(jump_if(
        VALUE,
        0,
        i16::try_from(address.len()).unwrap_or(i16::MAX),
    ));
    program.extend(address);
    program.extend(answer(ACCEPT));
    program
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
    [6, 8].into_iter().flat_map(require_half).collect()
}

/// Drops the packet unless two bytes of the addresses on the stack are those of the pod. Larger loads would not be aligned.
fn require_half(offset: i16) -> [BpfInstruction; 5] {
    let [first, second] = answer(DROP);
    [
        from(LOAD_HALF, VALUE, FRAME, MAC + offset),
        from(LOAD_HALF, SECOND, SOURCE, offset),
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
