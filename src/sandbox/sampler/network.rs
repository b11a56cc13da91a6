//! Traffic of a pod, from `/proc/PID/net/dev` of its monitor: that lives in the pod's network namespace, and reading
//! a file is cheaper than entering the namespace.
//!
//! The pod decides what its interfaces are called and how many there are: what is read and kept is bounded.
//! Format: proc_net(5).

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, openat, stat, statat};
use rustix::io::Errno;

use crate::sandbox::record::PodRecord;

/// Interfaces that are reported; a line is about 130 bytes.
const MAX_INTERFACES: usize = 256;
/// Bytes that are read at once.
const PAGE: usize = 4096;
/// Most bytes that are read of one file.
const MAX_TEXT: usize = 64 << 10;

/// What an interface has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sandbox) struct Interface {
    pub(in crate::sandbox) name: String,
    pub(in crate::sandbox) received: Traffic,
    pub(in crate::sandbox) sent: Traffic,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sandbox) struct Traffic {
    pub(in crate::sandbox) bytes: u64,
    pub(in crate::sandbox) packets: u64,
    pub(in crate::sandbox) errors: u64,
    pub(in crate::sandbox) dropped: u64,
}

/// The interfaces of a pod with a network of its own, without loopback; none of one that has ended.
pub(super) fn interfaces(pod: &PodRecord) -> Vec<Interface> {
    let text = pod.netns.as_deref().map(|netns| read(&monitor(pod, netns)?));
    text.and_then(Result::ok)
        .map_or_else(Vec::new, |text| parse(&text))
}

/// The monitor's directory in /proc. It stands for that process alone, and that the process is in the pod's
/// namespace is looked up: the number in the record may have come to mean another one.
fn monitor(pod: &PodRecord, netns: &std::path::Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = format!("/proc/{}", pod.monitor_pid);
    let process = rustix::fs::open(path, flags, Mode::empty())?;
    let its = statat(&process, "ns/net", AtFlags::empty())?;
    let pods = stat(netns)?;
    if (its.st_dev, its.st_ino) == (pods.st_dev, pods.st_ino) {
        Ok(process)
    } else {
        Err(Errno::SRCH)
    }
}

fn read(process: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let file = openat(
        process,
        "net/dev",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // The kernel fills a page at a time.
    let mut text = Vec::with_capacity(PAGE);
    while text.len() < MAX_TEXT {
        text.reserve(PAGE);
        if rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text))? == 0 {
            break;
        }
    }
    text.truncate(MAX_TEXT);
    Ok(text)
}

/// The interfaces but loopback, in the kernel's order. Lines that are none are left out, as is a last one cut short.
fn parse(text: &[u8]) -> Vec<Interface> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"))
        .filter_map(interface)
        .filter(|interface| interface.name != "lo")
        .take(MAX_INTERFACES)
        .collect()
}

/// `name: bytes packets errs drop fifo frame compressed multicast bytes packets errs …`. Names have no colon.
fn interface(line: &[u8]) -> Option<Interface> {
    let line = String::from_utf8_lossy(line);
    let (name, counters) = line.split_once(':')?;
    let mut numbers = [0_u64; 12];
    let mut fields = counters.split_ascii_whitespace();
    for number in &mut numbers {
        *number = fields.next()?.parse().ok()?;
    }
    let traffic = |[bytes, packets, errors, dropped]: [u64; 4]| Traffic {
        bytes,
        packets,
        errors,
        dropped,
    };
    let [received @ .., _, _, _, _, a, b, c, d] = numbers;
    Some(Interface {
        name: name.trim().to_owned(),
        received: traffic(received),
        sent: traffic([a, b, c, d]),
    })
}

#[cfg(test)]
mod tests;
