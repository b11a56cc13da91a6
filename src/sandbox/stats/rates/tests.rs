use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn after(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

#[test]
fn a_rate_is_the_mean_since_the_last_call() {
    let (rates, id, start) = (Rates::default(), Id::random(), Instant::now());
    assert_eq!(rates.rate(&id, start, 0), None);
    // Half a core for two seconds, then nothing.
    assert_eq!(rates.rate(&id, after(start, 2000), 1000 * MS), Some(500 * MS));
    assert_eq!(rates.rate(&id, after(start, 3000), 1000 * MS), Some(0));
}

#[test]
fn calls_that_come_fast_get_the_last_rate_and_do_not_shorten_the_interval() {
    let (rates, id, start) = (Rates::default(), Id::random(), Instant::now());
    rates.rate(&id, start, 0);
    assert_eq!(rates.rate(&id, after(start, 300), 900 * MS), None);
    assert_eq!(rates.rate(&id, after(start, 1000), 1000 * MS), Some(1000 * MS));
    assert_eq!(rates.rate(&id, after(start, 1100), 1100 * MS), Some(1000 * MS));
    assert_eq!(rates.rate(&id, after(start, 2000), 1500 * MS), Some(500 * MS));
}

#[test]
fn a_counter_that_went_back_starts_over() {
    let (rates, id, start) = (Rates::default(), Id::random(), Instant::now());
    rates.rate(&id, start, 1000 * MS);
    assert_eq!(rates.rate(&id, after(start, 10), 0), None);
    assert_eq!(rates.rate(&id, after(start, 1010), 100 * MS), Some(100 * MS));
}

#[test]
fn long_silence_is_forgotten() {
    let (rates, id, start) = (Rates::default(), Id::random(), Instant::now());
    rates.rate(&id, start, 0);
    assert_eq!(rates.rate(&id, after(start, 121_000), 1000 * MS), None);
    assert_eq!(rates.rate(&id, after(start, 122_000), 1000 * MS), Some(0));
    // Another one that is new drops those nobody asks for.
    rates.rate(&Id::random(), after(start, 300_000), 0);
    assert_eq!(rates.known.lock().len(), 1);
}

proptest! {
    #[test]
    fn no_readings_break_it(readings in prop::collection::vec((0_u64..200_000, any::<u64>()), 1..20)) {
        let (rates, id, start) = (Rates::default(), Id::random(), Instant::now());
        for (milliseconds, usage) in readings {
            rates.rate(&id, after(start, milliseconds), usage);
        }
        prop_assert_eq!(rates.known.lock().len(), 1);
    }
}
