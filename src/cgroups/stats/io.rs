//! What was read from and written to block devices. Formats: `Documentation/admin-guide/cgroup-v1/blkio-controller.rst`
//! and `cgroup-v2.rst`.

/// Devices of one cgroup that are reported.
const MAX_DEVICES: usize = 64;

/// The use of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceIo {
    pub major: u32,
    pub minor: u32,
    pub bytes: Vec<(Operation, u64)>,
    pub requests: Vec<(Operation, u64)>,
}

/// What v1 tells apart; v2 has read, write and discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Sync,
    Async,
    Discard,
    Total,
}

impl Operation {
    /// v1's word, which the peers' metrics have too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Sync => "Sync",
            Self::Async => "Async",
            Self::Discard => "Discard",
            Self::Total => "Total",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        use Operation::{Async, Discard, Read, Sync, Total, Write};
        [Read, Write, Sync, Async, Discard, Total]
            .into_iter()
            .find(|one| one.as_str() == word)
    }
}

/// `8:0 Read 4096` lines of two files; the last line is a sum of all devices.
pub(super) fn v1(bytes: &str, requests: &str) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    let mut add = |text: &str, list: fn(&mut DeviceIo) -> &mut Vec<(Operation, u64)>| {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(device), Some(word), Some(value)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if let (Some(number), Some(operation), Ok(value)) =
                (device_number(device), Operation::parse(word), value.parse())
                && let Some(device) = entry(&mut devices, number)
            {
                list(device).push((operation, value));
            }
        }
    };
    add(bytes, |device| &mut device.bytes);
    add(requests, |device| &mut device.requests);
    devices
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` lines; any of them may be missing, and others follow.
pub(super) fn v2(text: &str) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(number) = words.next().and_then(device_number) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (operation, counts_bytes) = match key {
                "rbytes" => (Operation::Read, true),
                "wbytes" => (Operation::Write, true),
                "dbytes" => (Operation::Discard, true),
                "rios" => (Operation::Read, false),
                "wios" => (Operation::Write, false),
                "dios" => (Operation::Discard, false),
                _ => continue,
            };
            if let (Ok(value), Some(device)) = (value.parse(), entry(&mut devices, number)) {
                let list = if counts_bytes {
                    &mut device.bytes
                } else {
                    &mut device.requests
                };
                list.push((operation, value));
            }
        }
    }
    devices
}

fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The entry of a device, a new one if need be; none if there are too many.
fn entry(devices: &mut Vec<DeviceIo>, (major, minor): (u32, u32)) -> Option<&mut DeviceIo> {
    let known = devices
        .iter()
        .position(|device| (device.major, device.minor) == (major, minor));
    let index = known.unwrap_or(devices.len());
    if index == MAX_DEVICES {
        return None;
    }
    if known.is_none() {
        devices.push(DeviceIo {
            major,
            minor,
            ..DeviceIo::default()
        });
    }
    devices.get_mut(index)
}

#[cfg(test)]
mod tests;
