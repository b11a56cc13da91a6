use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

/// The rates after readings of (milliseconds since the start, CPU time in milliseconds).
fn rates(readings: &[(u64, u64)]) -> Vec<Option<u64>> {
    let start = Instant::now();
    let mut last = None;
    let mut rates = Vec::new();
    for (at, usage) in readings {
        let reading = next(last, start + Duration::from_millis(*at), *usage * MS);
        rates.push(reading.rate);
        last = Some(reading);
    }
    rates
}

#[test]
fn a_rate_is_the_mean_since_the_last_sample() {
    // Half a core for two seconds, then nothing.
    let all = rates(&[(0, 0), (2000, 1000), (3000, 1000)]);
    assert_eq!(all, [None, Some(500 * MS), Some(0)]);
}

#[test]
fn samples_that_come_fast_keep_the_last_rate_and_do_not_shorten_the_interval() {
    let all = rates(&[(0, 0), (300, 900), (1000, 1000), (1100, 1100), (2000, 1500)]);
    assert_eq!(
        all,
        [None, None, Some(1000 * MS), Some(1000 * MS), Some(500 * MS)]
    );
}

#[test]
fn a_counter_that_went_back_starts_over() {
    let all = rates(&[(0, 1000), (10, 0), (1010, 100)]);
    assert_eq!(all, [None, None, Some(100 * MS)]);
}

#[test]
fn long_silence_is_forgotten() {
    let all = rates(&[(0, 0), (121_000, 1000), (122_000, 1000)]);
    assert_eq!(all, [None, None, Some(0)]);
}

proptest! {
    #[test]
    fn no_readings_break_it(readings in prop::collection::vec((0_u64..200_000, 0_u64..u64::MAX / MS), 1..20)) {
        prop_assert_eq!(rates(&readings)[0], None);
    }
}
