//! The wall clock and its form in a log line.
//!
//! Times are in UTC, as RFC 3339 with `Z`, which kubelet parses. With a time zone, the entries of a log would jump when the
//! node's zone changes, and every monitor would have to read the zone database.

use rustix::time::ClockId;

/// Length of [`rfc3339`]'s result.
pub(crate) const RFC3339_LEN: usize = 30;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    now.tv_sec
        .saturating_mul(SECOND)
        .saturating_add(i64::from(u32::try_from(now.tv_nsec).unwrap_or(0)))
}

/// Formats a time as `2026-08-22T17:21:51.123456789Z`, always with nine decimal places.
///
/// Years outside 0 to 9999 have no RFC 3339 form; 64 bits of nanoseconds end in 2262.
pub(crate) fn rfc3339(nanoseconds: i64) -> [u8; RFC3339_LEN] {
    let seconds = nanoseconds.div_euclid(SECOND);
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let time = seconds.rem_euclid(DAY);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], time / 3600);
    digits(&mut text[14..16], time / 60 % 60);
    digits(&mut text[17..19], time % 60);
    digits(&mut text[20..29], nanoseconds.rem_euclid(SECOND));
    text
}

/// Fills `place` with the last digits of a number.
fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number.rem_euclid(10)).unwrap_or(0);
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in years that begin in March, so that the leap day is the last of its year, and in cycles of
/// 400 years, after which the calendar repeats.
fn civil(day: i64) -> (i64, i64, i64) {
    const CYCLE: i64 = 146_097;
    // 0000-03-01 is 719468 days before the epoch.
    let shifted = day + 719_468;
    let cycle = shifted.div_euclid(CYCLE);
    let of_cycle = shifted.rem_euclid(CYCLE);
    // Minus a leap day every 4 years (1460 days), plus one every 100 (36524), minus one on the cycle's last day.
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / (CYCLE - 1)) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // Counted from March, every five months have 153 days.
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests;
