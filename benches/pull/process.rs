//! What a daemon has used: CPU time with its children's, and the most memory it had at once.

/// User and system time in seconds, with that of children that have ended: some runtimes unpack with other programs
/// (proc_pid_stat(5)). 0 of a process that is gone.
pub(crate) fn cpu_seconds(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields after the name, which may hold anything: utime, stime, cutime, cstime.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(4);
    let hertz = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100));
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / hertz
}

/// Makes the peak of resident memory the present size (proc_pid_clear_refs(5)); whether that worked.
pub(crate) fn forget_peak(pid: i32) -> bool {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
}

/// The peak of resident memory in KiB (VmHWM, proc_pid_status(5)).
pub(crate) fn peak(pid: i32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
