//! Processes, their memory (PSS, proc_pid_smaps(5)) and their CPU time.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// All processes of the machine.
pub(crate) fn processes() -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The process that listens on a socket (SO_PEERCRED, unix(7)).
pub(crate) fn daemon(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

/// The sum of the processes' PSS in KiB.
pub(crate) fn pss(pids: &[i32]) -> f64 {
    let one = |pid: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    pids.iter().filter_map(one).sum()
}

/// User and system time of the processes so far, in seconds (proc_pid_stat(5)).
pub(crate) fn cpu_seconds(pids: impl IntoIterator<Item = i32>) -> f64 {
    let ticks = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The fields after the name, which may contain any character.
        let rest = text.rsplit_once(')')?.1;
        let mut fields = rest.split_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some(user + system)
    };
    let hertz = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100));
    pids.into_iter().filter_map(ticks).sum::<f64>() / hertz
}
