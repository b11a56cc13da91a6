use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn known(at: Instant, depth: Depth) -> Known {
    Known {
        at,
        depth,
        pod: Arc::new(PodSample::default()),
        answered: [None; 3],
    }
}

const STATS: Purpose = Purpose::List(List::PodStats);
const METRICS: Purpose = Purpose::List(List::Metrics);

#[test]
fn a_list_gets_a_young_sample() {
    let start = Instant::now();
    let one = known(start, Depth::Usual);
    let asked = start + INTERVAL * 3 / 2;
    assert!(one.fits(STATS, asked, INTERVAL));
    assert!(!one.fits(STATS, asked + Duration::from_nanos(1), INTERVAL));
}

#[test]
fn who_asks_again_gets_something_new() {
    let start = Instant::now();
    let mut one = known(start, Depth::Detailed);
    one.answer(STATS, start);
    assert!(one.fits(STATS, start, INTERVAL), "waited for the same reading");
    let soon = Duration::from_millis(100);
    assert!(!one.fits(STATS, start + soon, INTERVAL));
    assert!(one.fits(METRICS, start + soon, INTERVAL), "another list");
    // Another client has had it read again meanwhile, sooner or later.
    one.at = start + soon / 4;
    assert!(!one.fits(STATS, start + soon, INTERVAL));
    one.at = start + soon / 2;
    assert!(one.fits(STATS, start + soon, INTERVAL));
    // kubelet, and the background before it.
    one.at = start + INTERVAL * 4 / 5;
    assert!(one.fits(STATS, start + INTERVAL, INTERVAL));
}

#[test]
fn metrics_need_what_stats_do_without() {
    let start = Instant::now();
    assert!(!known(start, Depth::Usual).fits(METRICS, start, INTERVAL));
    let detailed = known(start, Depth::Detailed);
    assert!(detailed.fits(METRICS, start + INTERVAL, INTERVAL));
    assert!(detailed.fits(STATS, start + INTERVAL, INTERVAL));
}

#[test]
fn who_looks_at_one_gets_what_is_read_for_it() {
    let start = Instant::now();
    let one = known(start, Depth::Detailed);
    assert!(!one.fits(Purpose::One, start + Duration::from_nanos(1), INTERVAL));
    assert!(one.fits(Purpose::One, start, INTERVAL));
}

#[test]
fn the_background_reads_before_somebody_asks_again() {
    let (sampler, start) = (Sampler::new(INTERVAL), Instant::now());
    sampler.note(Purpose::List(List::PodStats), start);
    assert_eq!(sampler.due(start), start + INTERVAL * 4 / 5);
    let read = start + INTERVAL * 4 / 5;
    sampler.note(Purpose::List(List::PodStats), start + INTERVAL);
    assert_eq!(sampler.due(read), read + INTERVAL);
    // Nobody asks.
    assert_eq!(sampler.due(start + INTERVAL * 2), start + INTERVAL * 3);
    // Somebody asks all the time.
    sampler.note(Purpose::List(List::PodStats), start + INTERVAL * 29 / 10);
    assert_eq!(sampler.due(start + INTERVAL * 2), start + INTERVAL * 3);
}

#[test]
fn the_background_reads_what_is_asked_for_and_stops_when_nothing_is() {
    let (sampler, start) = (Sampler::new(INTERVAL), Instant::now());
    assert_eq!(sampler.wanted(start), None);
    sampler.note(Purpose::One, start);
    assert_eq!(sampler.wanted(start), None);
    sampler.note(Purpose::List(List::Metrics), start);
    assert_eq!(sampler.wanted(start + INTERVAL * PATIENCE), Some(Depth::Detailed));
    sampler.note(Purpose::List(List::PodStats), start + INTERVAL);
    let later = start + INTERVAL * (PATIENCE + 1);
    assert_eq!(
        sampler.wanted(later),
        Some(Depth::Usual),
        "nobody asks for metrics any more"
    );
    assert_eq!(sampler.wanted(later + INTERVAL), None);
}

#[test]
fn an_interval_that_is_changed_holds_from_then_on() {
    let (sampler, start) = (Sampler::new(INTERVAL), Instant::now());
    sampler.note(Purpose::List(List::PodStats), start);
    sampler.set_interval(INTERVAL * 2);
    assert_eq!(sampler.due(start), start + INTERVAL * 8 / 5);
    sampler.set_interval(Duration::ZERO);
    assert_eq!(sampler.wanted(start), None, "nothing is read in the background");
    sampler.set_interval(INTERVAL);
    sampler.note(Purpose::List(List::PodStats), start);
    assert_eq!(sampler.wanted(start), Some(Depth::Usual));
}
