use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

#[test]
fn lists_are_those_of_the_kernel() {
    for (list, numbers, canonical) in [
        ("", &[][..], ""),
        ("\n", &[], ""),
        ("0", &[0], "0"),
        ("0-1\n", &[0, 1], "0-1"),
        ("0-3,8,10-11", &[0, 1, 2, 3, 8, 10, 11], "0-3,8,10-11"),
        ("8, 1 ,,0", &[0, 1, 8], "0-1,8"),
        ("2-4,3-5,5", &[2, 3, 4, 5], "2-5"),
        ("63-64,127-128", &[63, 64, 127, 128], "63-64,127-128"),
        ("007", &[7], "7"),
        ("8191", &[8191], "8191"),
    ] {
        let set = set(list);
        assert_eq!(set.iter().collect::<Vec<_>>(), numbers, "{list}");
        assert_eq!(set.to_string(), canonical);
        assert_eq!((set.len(), set.is_empty()), (numbers.len(), numbers.is_empty()));
    }
}

#[test]
fn a_wrong_part_is_named() {
    let form = |part: &str| CpuSetError::Form {
        part: part.to_owned(),
    };
    let high = |part: &str| CpuSetError::TooHigh {
        part: part.to_owned(),
    };
    for (list, error) in [
        ("0,x", form("x")),
        ("-3", form("-3")),
        ("3-", form("3-")),
        ("1-2-3", form("1-2-3")),
        ("+3", form("+3")),
        ("0x3", form("0x3")),
        ("0 1", form("0 1")),
        ("0\n,1", form("0\n")),
        ("0-31:2/4", form("0-31:2/4")),
        ("all", form("all")),
        ("\u{663}", form("\u{663}")),
        (
            "0,5-4",
            CpuSetError::Backwards {
                part: "5-4".to_owned(),
            },
        ),
        ("0-8192", high("0-8192")),
        ("99999999999999999999999", high("99999999999999999999999")),
    ] {
        assert_eq!(list.parse::<CpuSet>(), Err(error), "{list}");
    }
}

#[test]
fn an_error_repeats_the_start_of_a_long_text() {
    let error = "x".repeat(1 << 20).parse::<CpuSet>().unwrap_err();
    assert!(error.to_string().len() < 200);
}

#[test]
fn sets_are_equal_whatever_they_had() {
    assert_eq!(set("1,500").difference(&set("400-500")), set("1"));
    assert_eq!(set("1,500").intersection(&set("1,499")), set("1"));
    assert_eq!(set("500").difference(&set("500")), CpuSet::default());
}

#[test]
fn records_have_the_list() {
    let json = serde_json::to_string(&set("8,0-3")).unwrap();
    assert_eq!(json, "\"0-3,8\"");
    assert_eq!(serde_json::from_str::<CpuSet>(&json).unwrap(), set("0-3,8"));
    assert!(serde_json::from_str::<CpuSet>("\"3-0\"").is_err());
}

#[test]
fn bytes_are_bits_from_the_lowest() {
    assert_eq!(set("0-3,8").to_le_bytes(), [0b1111, 1]);
    assert_eq!(set("64").to_le_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert!(set("").to_le_bytes().is_empty());
}

/// Dense and sparse ones, and some over the borders of words.
fn numbers() -> impl Strategy<Value = BTreeSet<usize>> {
    prop_oneof![
        prop::collection::btree_set(0..140_usize, 0..100),
        prop::collection::btree_set(0..MOST, 0..20),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read(text in "([0-9]{1,5}|[-,: \n]|\\PC){0,40}") {
        if let Ok(set) = text.parse::<CpuSet>() {
            prop_assert!(set.iter().all(|number| number < MOST));
        }
    }

    #[test]
    fn what_is_written_is_read_again(numbers in numbers()) {
        let set: CpuSet = numbers.iter().copied().collect();
        let list = set.to_string();
        prop_assert_eq!(list.parse::<CpuSet>().unwrap(), set);
        // No shorter list: a new range begins after a gap.
        let starts = numbers.iter().filter(|number| **number == 0 || !numbers.contains(&(**number - 1))).count();
        prop_assert_eq!(list.split(',').filter(|part| !part.is_empty()).count(), starts);
    }

    #[test]
    fn operations_are_those_of_sets(one in numbers(), other in numbers(), count in 0..200_usize) {
        let (left, right): (CpuSet, CpuSet) = (one.iter().copied().collect(), other.iter().copied().collect());
        let same = |set: CpuSet, model: BTreeSet<usize>| set == model.into_iter().collect();
        prop_assert!(left.iter().eq(one.iter().copied()));
        prop_assert_eq!(left.len(), one.len());
        prop_assert!(same(left.union(&right), &one | &other));
        prop_assert!(same(left.intersection(&right), &one & &other));
        prop_assert!(same(left.difference(&right), &one - &other));
        prop_assert_eq!(left.overlap(&right), (&one & &other).len());
        prop_assert_eq!(left.is_subset(&right), one.is_subset(&other));
        prop_assert!(left.intersection(&right).is_subset(&right));
        prop_assert!(same(left.first(count), one.iter().copied().take(count).collect()));
        for number in [0, 63, 64, 127, 128, 139, count] {
            prop_assert_eq!(left.contains(number), one.contains(&number));
            let mut more = left.clone();
            more.insert(number);
            prop_assert!(more.contains(number) && left.is_subset(&more));
        }
    }
}
