//! Traffic of a pod, from `/proc/PID/net/dev` of its monitor: that lives in the pod's network namespace, and reading
//! a file is cheaper than entering the namespace.
//!
//! The pod decides what its interfaces are called and how many there are: what is read and kept is bounded.
//! Format: proc_net(5).

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, openat, stat, statat};
use rustix::io::Errno;

use crate::proto::v1;
use crate::sandbox::record::PodRecord;

/// Interfaces that are reported; a line is about 130 bytes.
const MAX_INTERFACES: usize = 256;
/// Most bytes that are read of one file.
const MAX_TEXT: usize = 64 << 10;
/// The interface that CNI makes first.
const DEFAULT: &str = "eth0";

/// The traffic of a pod with a network of its own; none if it has no interface, or has ended.
pub(super) fn usage(pod: &PodRecord) -> Option<v1::NetworkUsage> {
    let netns = pod.netns.as_deref()?;
    let process = monitor(pod, netns).ok()?;
    let text = read(&process).ok()?;
    divide(parse(&text), crate::state::now())
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
    let mut text = vec![0; MAX_TEXT];
    let mut filled = 0;
    while filled < text.len() {
        match rustix::io::read(&file, &mut text[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    text.truncate(filled);
    Ok(text)
}

/// The interfaces but loopback, in the kernel's order. Lines that are none are left out, as is a last one cut short.
fn parse(text: &[u8]) -> Vec<v1::NetworkInterfaceUsage> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"))
        .filter_map(interface)
        .filter(|interface| interface.name != "lo")
        .take(MAX_INTERFACES)
        .collect()
}

/// `name: bytes packets errs drop fifo frame compressed multicast bytes packets errs …`. Names have no colon.
fn interface(line: &[u8]) -> Option<v1::NetworkInterfaceUsage> {
    let line = String::from_utf8_lossy(line);
    let (name, counters) = line.split_once(':')?;
    let mut numbers = [0_u64; 11];
    let mut fields = counters.split_ascii_whitespace();
    for number in &mut numbers {
        *number = fields.next()?.parse().ok()?;
    }
    let [rx_bytes, _, rx_errors, _, _, _, _, _, tx_bytes, _, tx_errors] = numbers;
    let value = |value| Some(v1::UInt64Value { value });
    Some(v1::NetworkInterfaceUsage {
        name: name.trim().to_owned(),
        rx_bytes: value(rx_bytes),
        rx_errors: value(rx_errors),
        tx_bytes: value(tx_bytes),
        tx_errors: value(tx_errors),
    })
}

/// eth0, or else the first, is the default one; CRI wants it apart from the others.
fn divide(mut all: Vec<v1::NetworkInterfaceUsage>, timestamp: i64) -> Option<v1::NetworkUsage> {
    if all.is_empty() {
        return None;
    }
    let default = all.iter().position(|one| one.name == DEFAULT).unwrap_or(0);
    Some(v1::NetworkUsage {
        timestamp,
        default_interface: Some(all.remove(default)),
        interfaces: all,
    })
}

#[cfg(test)]
mod tests;
