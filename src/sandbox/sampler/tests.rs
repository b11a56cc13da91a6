use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn sample(at: Instant, depth: Depth) -> Sample {
    Sample {
        at,
        depth,
        given: AtomicU8::new(0),
        pod: Arc::new(PodSample::default()),
    }
}

#[test]
fn a_list_gets_a_sample_once_and_while_it_is_young() {
    let start = Instant::now();
    let one = sample(start, Depth::Usual);
    let stats = Purpose::List(List::ContainerStats);
    let asked = start + INTERVAL;
    assert!(one.fits(stats, asked, INTERVAL));
    assert!(!one.fits(stats, asked + Duration::from_nanos(1), INTERVAL), "old");
    one.give(stats);
    assert!(!one.fits(stats, asked, INTERVAL), "given before");
    assert!(
        one.fits(Purpose::List(List::PodStats), asked, INTERVAL),
        "another list"
    );
    assert!(one.fits(stats, start, INTERVAL), "read since it was asked for");
}

#[test]
fn metrics_need_what_stats_do_without() {
    let start = Instant::now();
    let metrics = Purpose::List(List::Metrics);
    assert!(!sample(start, Depth::Usual).fits(metrics, start, INTERVAL));
    let detailed = sample(start, Depth::Detailed);
    assert!(detailed.fits(metrics, start + INTERVAL, INTERVAL));
    assert!(detailed.fits(Purpose::List(List::PodStats), start + INTERVAL, INTERVAL));
}

#[test]
fn who_looks_at_one_gets_what_is_read_for_it() {
    let start = Instant::now();
    let one = sample(start, Depth::Detailed);
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
