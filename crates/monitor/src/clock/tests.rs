use proptest::prelude::*;

use super::{civil, now, rfc3339};

fn text(nanoseconds: i64) -> String {
    String::from_utf8(rfc3339(nanoseconds).to_vec()).unwrap()
}

#[test]
fn known_instants_have_their_known_text() {
    assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
    assert_eq!(text(1_787_419_311_123_456_789), "2026-08-22T17:21:51.123456789Z");
    assert_eq!(text(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
    assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
    assert_eq!(text(i64::MAX), "2262-04-11T23:47:16.854775807Z");
}

#[test]
fn the_clock_is_after_the_day_this_was_written() {
    assert!(now() > 1_700_000_000_000_000_000);
}

/// Walks the calendar a day at a time, by the rule everybody knows.
#[test]
fn every_day_of_eight_centuries_follows_the_one_before() {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut month, mut day) = (1600, 1, 1);
    for number in -135_140..157_000 {
        assert_eq!(civil(number), (year, month, day), "day {number}");
        let last = match month {
            2 if leap(year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > last {
            (day, month) = (1, month + 1);
        }
        if month > 12 {
            (month, year) = (1, year + 1);
        }
    }
}

proptest! {
    #[test]
    fn text_sorts_as_time_does(a in 0..i64::MAX, b in 0..i64::MAX) {
        prop_assert_eq!(a.cmp(&b), rfc3339(a).cmp(&rfc3339(b)));
    }
}
