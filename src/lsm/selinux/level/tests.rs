use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn levels_of_the_kernel_and_others() {
    for good in [
        "s0",
        "s15",
        "s0:c0",
        "s0:c1,c2",
        "s0:c4,c5,c6",
        "s0:c0.c1023",
        "s0:c0.c3,c7,c9.c12",
        "s0-s0:c0.c1023",
        "s0:c1-s3:c1,c2",
    ] {
        assert_eq!(good.parse::<Level>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "s",
        "0",
        "s0,c4,c5",
        "s0:",
        "s0:c",
        "s0:c1,",
        "s0:,c1",
        "s0:c1024",
        "s0:c5.c4",
        "s0:c4.c4",
        "s00",
        "s0:c01",
        "s0-",
        "-s0",
        "s0-s0-s0",
        "S0",
        "s0:c1 ,c2",
        "s0 ",
        "s0:c1,c2\n",
        "s0:c1:c2",
        "SystemHigh",
        "s0:c1\"",
        "s99999999",
    ] {
        assert!(bad.parse::<Level>().is_err(), "{bad:?}");
    }
}

#[test]
fn parts_of_levels() {
    let level = |text: &str| text.parse::<Level>().unwrap();
    assert_eq!(level("s0:c2,c1").pair(), Pair::new(1, 2));
    for none in [
        "s0",
        "s0:c1",
        "s0:c1,c2,c3",
        "s0:c1,c1",
        "s0:c1.c2",
        "s0-s0:c1,c2",
    ] {
        assert_eq!(level(none).pair(), None, "{none}");
    }
    assert_eq!(level("s1:c1-s3:c1,c2").low(), "s1:c1");
    assert_eq!(level("s1:c1-s3:c1,c2").sensitivity(), "s1");
    assert_eq!(Level::of("s0", Pair::new(7, 3).unwrap()).to_string(), "s0:c3,c7");
}

#[test]
fn a_level_is_checked_when_it_is_read_from_a_record() {
    let json = serde_json::to_string(&"s0:c1,c2".parse::<Level>().unwrap()).unwrap();
    assert_eq!(json, "\"s0:c1,c2\"");
    assert!(serde_json::from_str::<Level>(&json).is_ok());
    assert!(serde_json::from_str::<Level>("\"s0,c1\"").is_err());
}

#[test]
fn a_pair_is_given_once_until_it_comes_back() {
    let pairs = Pairs::default();
    let start = Pair::new(5, 9).unwrap();
    let first = pairs.take_from(start).unwrap();
    assert_eq!(first.pair(), start);
    let second = pairs.take_from(start).unwrap();
    assert_ne!(second.pair(), start);
    drop(first);
    let again = pairs.take_from(start).unwrap();
    assert_eq!(again.pair(), start);
    // A second holder, as two pods with the same level are, or a pod after a restart of the daemon.
    let shared = pairs.hold(start);
    drop(again);
    assert_ne!(pairs.take_from(start).unwrap().pair(), start);
    drop(shared);
    assert_eq!(pairs.take_from(start).unwrap().pair(), start);
}

#[test]
fn all_pairs_are_given_and_no_more() {
    let pairs = Pairs::default();
    let count = usize::from(CATEGORIES) * usize::from(CATEGORIES - 1) / 2;
    let mut pair = Pair::new(0, 1).unwrap();
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    for _ in 0..count {
        assert!(seen.insert(pair), "{pair} twice");
        held.push(pairs.hold(pair));
        pair = pair.next();
    }
    assert_eq!(pair, Pair::new(0, 1).unwrap(), "round once");
    assert!(pairs.take_from(pair).is_none());
    held.pop();
    assert!(pairs.take().is_some());
}

proptest! {
    #[test]
    fn a_level_of_any_pair_is_a_level(one in 0..CATEGORIES, other in 0..CATEGORIES) {
        match Pair::new(one, other) {
            None => prop_assert_eq!(one, other),
            Some(pair) => {
                let level = Level::of("s0", pair);
                prop_assert_eq!(level.to_string().parse::<Level>().unwrap().pair(), Some(pair));
            }
        }
    }

    /// What the kernel would take as more than a level, or as an option of mount(2), is none.
    #[test]
    fn no_level_has_anything_else_in_it(text in "[sc0-9:,.\"= -]{0,12}") {
        if text.parse::<Level>().is_ok() {
            prop_assert!(text.starts_with('s'));
            prop_assert!(text.matches('-').count() <= 1 && text.matches(':').count() <= 2);
            prop_assert!(!text.contains(['"', '=', ' ']));
        }
    }
}
