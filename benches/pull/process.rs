//! CPU time of a daemon and its children, and its peak memory.

/// User and system time in seconds, including children that have ended, because some runtimes unpack with
/// other programs (proc_pid_stat(5)). 0 for a process that has ended.
pub(crate) fn cpu_seconds(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // utime, stime, cutime and cstime, counted from the end of the name, which may contain anything.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(4);
    let hertz = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100));
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / hertz
}

/// Resets the peak of resident memory (proc_pid_clear_refs(5)). Returns whether that worked.
pub(crate) fn reset_peak(pid: i32) -> bool {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
}

/// The peak of resident memory in KiB (VmHWM, proc_pid_status(5)).
pub(crate) fn peak(pid: i32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
