//! Pressure stall information: how much time tasks lost waiting for a resource.
//!
//! Only cgroup v2 has it, and only with `CONFIG_PSI` and without `psi=0`. Format:
//! `Documentation/accounting/psi.rst`.

use crate::cgroups::group::Cgroup;

/// Pressure on a cgroup. A part is missing if the kernel does not report it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pressures {
    pub cpu: Option<Pressure>,
    pub memory: Option<Pressure>,
    /// Block devices.
    pub io: Option<Pressure>,
}

/// Pressure on one resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pressure {
    /// While at least one task waited.
    pub some: Option<Stalls>,
    /// While all tasks waited. Missing for CPU before Linux 5.13.
    pub full: Option<Stalls>,
}

/// Time lost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stalls {
    /// Percent over the last 10 seconds.
    pub avg10: f64,
    /// Percent over the last 60 seconds.
    pub avg60: f64,
    /// Percent over the last 300 seconds.
    pub avg300: f64,
    /// Total in nanoseconds.
    pub total_ns: u64,
}

pub(in crate::cgroups) fn read(cgroup: &Cgroup) -> Pressures {
    if !cgroup.is_v2() {
        return Pressures::default();
    }
    let read = |controller: &str, file: &str| match cgroup.controller(controller) {
        // With psi=0 the files exist and cannot be read, which is not an error.
        Some(dir) => dir.record(file).ok().flatten().as_deref().and_then(parse),
        None => None,
    };
    Pressures {
        cpu: read("cpu", "cpu.pressure"),
        memory: read("memory", "memory.pressure"),
        io: read("io", "io.pressure"),
    }
}

/// The lines of a pressure file; none if it has none of them.
pub(super) fn parse(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))
            .map(stalls)
    };
    let pressure = Pressure {
        some: line("some"),
        full: line("full"),
    };
    (pressure != Pressure::default()).then_some(pressure)
}

fn stalls(fields: &str) -> Stalls {
    const NS_PER_US: u64 = 1000;
    let mut stalls = Stalls::default();
    for (key, value) in fields.split(' ').filter_map(|field| field.split_once('=')) {
        let percent = || value.parse().ok().filter(|number: &f64| number.is_finite());
        match key {
            "avg10" => stalls.avg10 = percent().unwrap_or_default(),
            "avg60" => stalls.avg60 = percent().unwrap_or_default(),
            "avg300" => stalls.avg300 = percent().unwrap_or_default(),
            "total" => stalls.total_ns = value.parse::<u64>().unwrap_or(0).saturating_mul(NS_PER_US),
            _ => {}
        }
    }
    stalls
}
