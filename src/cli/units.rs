//! Numbers for people: sizes and speeds in binary units (IEC 80000-13), durations in at most two parts, short ids.

use std::time::Duration;

/// Digits of a short id, as in crictl.
const ID_DIGITS: usize = 13;

/// `17 B`, `1.5 KiB`, `20.0 MiB`, `312 MiB`: at most four digits, and at most 1023 of a unit.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded. Ten times a u64 fits into a u128.
    let mut unit = 0;
    let mut divisor = 1024_u128;
    let tenths = |divisor: u128| (u128::from(bytes) * 10 + divisor / 2) / divisor;
    while tenths(divisor) >= 10_235 && unit + 1 < UNITS.len() {
        unit += 1;
        divisor *= 1024;
    }
    let value = tenths(divisor);
    if value < 1000 {
        format!("{}.{} {}", value / 10, value % 10, UNITS[unit])
    } else {
        format!("{} {}", (value + 5) / 10, UNITS[unit])
    }
}

/// `0.4 s`, `12.3 s`, `2m 5s`, `3h 20m`, `4d 1h`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64().min(59.9)),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The first digits of an id or digest, or all of it if `full`.
pub(super) fn id(id: &str, full: bool) -> String {
    if full {
        return id.to_owned();
    }
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.chars().take(ID_DIGITS).collect()
}

#[cfg(test)]
mod tests;
