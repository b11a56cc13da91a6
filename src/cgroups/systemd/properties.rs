//! What files say, as properties of a unit: systemd writes its own idea of a unit into the files again whenever it
//! thinks of it, as on `systemctl daemon-reload`, so its idea has to be ours.
//!
//! Files that systemd knows nothing of (hugetlb, `memory.oom.group`, `io.*`) are not here. Reference:
//! org.freedesktop.systemd1(5), systemd.resource-control(5).

use super::message::{Property, Value};
use crate::cgroups::cpus::CpuSet;
use crate::cgroups::settings::Setting;

/// systemd's value for no limit.
const INFINITY: u64 = u64::MAX;

/// The kernel's default period.
const PERIOD: u64 = 100_000;

const SECOND: u64 = 1_000_000;

/// A percent of a CPU: systemd keeps quotas in whole ones.
const PERCENT: u64 = SECOND / 100;

/// The properties that are the same as these settings.
pub(super) fn properties(settings: &[Setting]) -> Vec<Property> {
    settings.iter().flat_map(of).collect()
}

fn of(setting: &Setting) -> Vec<Property> {
    let value = setting.value.as_str();
    let one = |name, value: Option<Value>| value.map(|value| (name, value)).into_iter().collect();
    let number = |name| one(name, limit(value).map(Value::Number));
    let mask = |name| {
        let set = value.parse::<CpuSet>().ok();
        one(name, set.map(|set| Value::Bytes(set.to_le_bytes())))
    };
    match setting.file.as_str() {
        "cpu.weight" => number("CPUWeight"),
        "cpu.max" => quota(value),
        "cpuset.cpus" => mask("AllowedCPUs"),
        "cpuset.mems" => mask("AllowedMemoryNodes"),
        "memory.min" => number("MemoryMin"),
        "memory.low" => number("MemoryLow"),
        "memory.high" => number("MemoryHigh"),
        "memory.max" => number("MemoryMax"),
        "memory.swap.max" => number("MemorySwapMax"),
        "pids.max" => number("TasksMax"),
        _ => Vec::new(),
    }
}

fn limit(value: &str) -> Option<u64> {
    match value {
        "max" => Some(INFINITY),
        number => number.parse().ok(),
    }
}

/// Of a second, rounded up: less than was asked for would throttle.
fn quota(value: &str) -> Vec<Property> {
    let (quota, period) = value.split_once(' ').unwrap_or((value, ""));
    let period = period.parse().ok().filter(|period| *period > 0);
    let length = period.unwrap_or(PERIOD);
    let Some(quota) = limit(quota) else {
        return Vec::new();
    };
    let of_second = match quota {
        INFINITY => INFINITY,
        some => {
            let exact = u128::from(some) * u128::from(SECOND) / u128::from(length);
            let exact = u64::try_from(exact).unwrap_or(INFINITY - PERCENT);
            exact.checked_next_multiple_of(PERCENT).unwrap_or(INFINITY)
        }
    };
    vec![
        ("CPUQuotaPerSecUSec", Value::Number(of_second)),
        ("CPUQuotaPeriodUSec", Value::Number(length)),
    ]
}

#[cfg(test)]
mod tests;
