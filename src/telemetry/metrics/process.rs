//! What every Prometheus client tells of its process, under the names that all of them use.
//!
//! Links: proc_pid_stat(5), proc_stat(5), <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fs;
use std::io;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::table::Table;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    cpu_seconds: f64,
    /// Seconds since the epoch.
    started: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    threads: u64,
    open_fds: usize,
    max_fds: u64,
}

impl Process {
    /// Blocks, but for /proc only.
    pub(super) fn read() -> io::Result<Self> {
        let (own, node) = (
            fs::read_to_string("/proc/self/stat")?,
            fs::read_to_string("/proc/stat")?,
        );
        let parsed = parse(&own, &node).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            // Without the one that reads the directory.
            open_fds: fs::read_dir("/proc/self/fd")?.count().saturating_sub(1),
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            ..parsed
        })
    }

    pub(super) fn add_to(&self, table: &mut Table) {
        table.count_seconds(
            "process_cpu_seconds",
            "CPU time of the daemon, in user mode and in the kernel",
            self.cpu_seconds,
        );
        table.state_seconds(
            "process_start_time_seconds",
            "When the daemon was started, in seconds since 1970",
            self.started,
        );
        table.state(
            "process_virtual_memory_bytes",
            "Address space of the daemon",
            self.virtual_bytes,
        );
        table.state(
            "process_resident_memory_bytes",
            "Memory of the daemon",
            self.resident_bytes,
        );
        table.state("process_threads", "Threads of the daemon", self.threads);
        table.state(
            "process_open_fds",
            "Open file descriptors of the daemon",
            self.open_fds,
        );
        table.state(
            "process_max_fds",
            "How many file descriptors the daemon may have open",
            self.max_fds,
        );
    }
}

/// What the stat files of a process and of the node say.
fn parse(own: &str, node: &str) -> Option<Process> {
    // The name of the program, which is in brackets, may contain anything.
    let (_, rest) = own.rsplit_once(") ")?;
    // `state` is the third field.
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    let booted = node.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted: u64 = booted.trim().parse().ok()?;
    Some(Process {
        cpu_seconds: seconds(field(14)? + field(15)?),
        threads: field(20)?,
        started: booted as f64 + seconds(field(22)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.saturating_mul(u64::try_from(page_size()).ok()?),
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let fields = "S 1 9 9 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 7 0 1000 4096 3 18446744073709551615";
        let parsed = parse(&format!("42 (a) b) {fields}"), "cpu 1 2\nbtime 1700000000\n").unwrap();
        let ticks = clock_ticks_per_second() as f64;
        let expected = Process {
            cpu_seconds: 200.0 / ticks,
            started: 1_700_000_000.0 + 1000.0 / ticks,
            virtual_bytes: 4096,
            resident_bytes: 3 * page_size() as u64,
            threads: 7,
            ..Process::default()
        };
        assert_eq!(parsed, expected);
        assert_eq!(parse("42 (a", "btime 1"), None);
        assert_eq!(parse(&format!("42 (a) {fields}"), "cpu 1 2\n"), None);
    }

    #[test]
    fn this_process_is_told_as_it_is() {
        let process = Process::read().unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        // The boot time is in whole seconds.
        assert!(
            process.started <= now + 1.0 && process.started > 0.0,
            "{process:?}"
        );
        assert!(process.resident_bytes > 0 && process.threads > 0, "{process:?}");
        let file = fs::File::open("/proc/self/stat").unwrap();
        assert!(
            process.open_fds >= 3 && (process.open_fds as u64) < process.max_fds,
            "{process:?}"
        );
        drop(file);
    }
}
