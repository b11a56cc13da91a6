//! What a pod may send: IPv4 and ARP under its own addresses, nothing else.
//!
//! On a bridge each port can speak for all others: an ARP message for a neighbour's or the gateway's address takes over
//! their traffic, a forged source address passes for a neighbour, and a router advertisement gives the node a new default
//! route (CVE-2020-10749). CAP_NET_RAW, which containers have by default, suffices. So a program on the host's end of each
//! veth pair drops what does not come from the pod's own hardware and IPv4 address. It needs no firewall program, no
//! flushed ruleset turns it off, and the kernel deletes it with the pair.
//!
//! Everything else is dropped: IPv6, which this network does not have, and frames with VLAN tags, in which receivers would
//! find what the program has not seen (CVE-2021-27853).
//!
//! Reference: `struct __sk_buff` in `linux/bpf.h`, tc-bpf(8), RFC 826.

use std::net::Ipv4Addr;

use pausa_sys::BpfInstruction;

/// What tc(8) and bpftool(8) show; at most 15 characters.
pub(super) const NAME: &str = "pausa_source";

/// Registers: the result of a call or of the program, values, the arguments of a call, the context, the stack's end.
const ANSWER: u8 = 0;
const VALUE: u8 = 1;
const SECOND: u8 = 2;
const ARGUMENTS: [u8; 4] = [1, 2, 3, 4];
const CONTEXT: u8 = 6;
const FRAME: u8 = 10;

const LOAD: u8 = 0x61; // target = *(u32 *)(source + offset)
const LOAD_HALF: u8 = 0x69; // target = *(u16 *)(source + offset)
const MOVE: u8 = 0xb4; // target = immediate
const COPY_LONG: u8 = 0xbf; // target = source, 64 bits
const ADD_LONG: u8 = 0x07; // target += immediate, 64 bits
const SHIFT_LEFT: u8 = 0x64;
const OR: u8 = 0x4c;
const SKIP_IF: u8 = 0x16; // target == immediate
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// `bpf_skb_load_bytes(context, offset, to, length)`: 0, or negative if the packet is shorter.
const LOAD_BYTES: i32 = 26;
/// `vlan_present` in `struct __sk_buff`.
const VLAN_PRESENT: i16 = 20;

/// Go on with other programs, which accept the packet if there are none (`TC_ACT_UNSPEC`).
const ACCEPT: i32 = -1;
/// `TC_ACT_SHOT`
const DROP: i32 = 2;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

/// Where a hardware address and the bytes after it are put on the stack, from the frame's end.
const MAC: i16 = -10;
const AFTER_MAC: i16 = MAC + 6;

/// The program for the host's end of a pod's veth pair.
pub(super) fn compile(mac: [u8; 6], address: Ipv4Addr) -> Vec<BpfInstruction> {
    let [first, second] = halves(address.octets());
    let address = (first << 16 | second).cast_signed();
    let mut program = vec![
        from(COPY_LONG, CONTEXT, VALUE, 0),
        from(LOAD, VALUE, CONTEXT, VLAN_PRESENT),
    ];
    program.extend(require(VALUE, 0));
    // The sender's hardware address and the type of the Ethernet header.
    program.extend(bytes(6, MAC, 8));
    program.extend(require_mac(mac));
    program.push(from(LOAD_HALF, VALUE, FRAME, AFTER_MAC));

    let mut ipv4 = require(VALUE, network_order(IPV4)).to_vec();
    ipv4.extend(bytes(26, AFTER_MAC, 4));
    ipv4.extend(load_address());
    ipv4.extend(require(VALUE, address));
    ipv4.extend(answer(ACCEPT));
    let skip = i16::try_from(ipv4.len()).unwrap_or(i16::MAX);
    program.push(jump_if(VALUE, network_order(ARP), skip));
    program.extend(ipv4);

    // Sender's hardware and protocol address.
    program.extend(bytes(22, MAC, 10));
    program.extend(require_mac(mac));
    program.extend(load_address());
    // A probe for an address that is not in use yet (RFC 5227) has none; nobody learns from it.
    program.extend([jump_if(VALUE, 0, 3)]);
    program.extend(require(VALUE, address));
    program.extend(answer(ACCEPT));
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

fn require_mac([a, b, c, d, e, f]: [u8; 6]) -> Vec<BpfInstruction> {
    let part = |offset, bytes| {
        let load = from(LOAD_HALF, VALUE, FRAME, MAC + offset);
        [
            &[load],
            require(VALUE, i32::from(u16::from_ne_bytes(bytes))).as_slice(),
        ]
        .concat()
    };
    [part(0, [a, b]), part(2, [c, d]), part(4, [e, f])].concat()
}

/// Loads the protocol address that follows the hardware address on the stack, by halves: it is not aligned.
fn load_address() -> [BpfInstruction; 4] {
    [
        from(LOAD_HALF, VALUE, FRAME, AFTER_MAC),
        from(LOAD_HALF, SECOND, FRAME, AFTER_MAC + 2),
        with(SHIFT_LEFT, VALUE, 16),
        from(OR, VALUE, SECOND, 0),
    ]
}

/// The halves of an address as [`load_address`] reads them.
fn halves([a, b, c, d]: [u8; 4]) -> [u32; 2] {
    [[a, b], [c, d]].map(|half| u32::from(u16::from_ne_bytes(half)))
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
