//! The processes of a container, from `/proc`: how many descriptors they have open, and how many of these are sockets.
//!
//! A container decides how many processes and descriptors it has, so looking at them ends at [`Bounds`]. A count that is not
//! complete is none: one that stops growing would look like a leak that has ended. Since Linux 6.2 the kernel says how many
//! descriptors a process has, and only sockets have to be found one by one.
//!
//! Must never: open what a descriptor stands for, or ask its file system, which may hang. The text of the link is enough.
//!
//! Formats: proc_pid_fd(5), proc_pid_limits(5).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, RawDir, fstat, openat, readlinkat_raw};
use rustix::io::Errno;

/// Bytes of `limits` that are read; it has about 1300.
const MAX_LIMITS: usize = 4096;

/// The processes of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sandbox) struct Processes {
    pub(in crate::sandbox) count: u64,
    /// Open descriptors of all of them, and sockets among these.
    pub(in crate::sandbox) descriptors: Option<u64>,
    pub(in crate::sandbox) sockets: Option<u64>,
    /// How many descriptors the first process may open.
    pub(in crate::sandbox) max_descriptors: Option<u64>,
}

/// How much is looked at of one container.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    processes: usize,
    /// Of all processes together.
    descriptors: u64,
    time: Duration,
}

const BOUNDS: Bounds = Bounds {
    processes: 1024,
    descriptors: 4096,
    time: Duration::from_millis(50),
};

/// What processes have open; a number that is not complete is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opened {
    descriptors: Option<u64>,
    sockets: Option<u64>,
}

/// Counts what these processes have open. `first` is the one whose limits are the container's.
pub(super) fn read(pids: &[i32], first: i32) -> Processes {
    let opened = count(pids, BOUNDS);
    Processes {
        count: u64::try_from(pids.len()).unwrap_or(u64::MAX),
        descriptors: opened.descriptors,
        sockets: opened.sockets,
        max_descriptors: limits(first).ok().and_then(|limits| max_descriptors(&limits)),
    }
}

fn count(pids: &[i32], bounds: Bounds) -> Opened {
    let nothing = Opened {
        descriptors: None,
        sockets: None,
    };
    if pids.len() > bounds.processes {
        return nothing;
    }
    let end = Instant::now() + bounds.time;
    let mut left = bounds.descriptors;
    let mut sum = Opened {
        descriptors: Some(0),
        sockets: Some(0),
    };
    for pid in pids {
        if Instant::now() > end {
            return nothing;
        }
        // One that cannot be looked at has ended.
        let Ok(more) = process(*pid).and_then(|process| opened_by(&process, &mut left)) else {
            continue;
        };
        let add = |sum: Option<u64>, more: Option<u64>| Some(sum?.saturating_add(more?));
        sum = Opened {
            descriptors: add(sum.descriptors, more.descriptors),
            sockets: add(sum.sockets, more.sockets),
        };
    }
    sum
}

/// What one process has open. Looks at `left` descriptors at most, and takes those from it.
fn opened_by(process: &OwnedFd, left: &mut u64) -> Result<Opened, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(process, "fd", flags, Mode::empty())?;
    // 0 before Linux 6.2.
    let told = u64::try_from(fstat(&directory)?.st_size)
        .ok()
        .filter(|told| *told > 0);
    let incomplete = Opened {
        descriptors: told,
        sockets: None,
    };
    if told.is_some_and(|told| told > *left) {
        return Ok(incomplete);
    }
    let (mut descriptors, mut sockets) = (0, 0);
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(directory.as_fd(), buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        if *left == 0 {
            return Ok(incomplete);
        }
        *left -= 1;
        descriptors += 1;
        let mut target = [0_u8; 8];
        // Fails for one that was closed meanwhile.
        let length = readlinkat_raw(&directory, name, &mut target).unwrap_or(0);
        sockets += u64::from(&target[..length] == b"socket:[");
    }
    Ok(Opened {
        descriptors: Some(descriptors),
        sockets: Some(sockets),
    })
}

fn process(pid: i32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())
}

fn limits(pid: i32) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(process(pid)?, "limits", flags, Mode::empty())?;
    let mut text = vec![0; MAX_LIMITS];
    let length = rustix::io::read(&file, &mut text)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The soft limit of open files; none if there is none.
fn max_descriptors(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files "))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
