//! The few forms in which the kernel writes numbers.

use super::IoStats;

/// `max` and v1's near-endless number are no limit.
pub(super) fn limit(text: &str) -> Option<u64> {
    // v1 says "no limit" by i64::MAX rounded down to pages.
    text.parse().ok().filter(|limit| *limit < 1 << 62)
}

/// The value of a `key value` line.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(number)
        .unwrap_or(0)
}

/// A number, blanks around it ignored.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `major:minor rbytes=1 wbytes=2 rios=3 wios=4 …`
pub(super) fn io_v2(text: &str) -> IoStats {
    let mut total = IoStats::default();
    for (key, value) in text.split_whitespace().filter_map(|field| field.split_once('=')) {
        let place = match key {
            "rbytes" => &mut total.read_bytes,
            "wbytes" => &mut total.written_bytes,
            "rios" => &mut total.reads,
            "wios" => &mut total.writes,
            _ => continue,
        };
        *place = place.saturating_add(value.parse().unwrap_or(0));
    }
    total
}

/// `major:minor Read 1` lines; the sums of reads and of writes.
pub(super) fn io_v1(text: &str) -> (u64, u64) {
    let sum = |name: &str| {
        text.lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                (fields.next()? == name).then(|| fields.next().and_then(number))?
            })
            .fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}
