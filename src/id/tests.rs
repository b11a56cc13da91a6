use std::collections::BTreeMap;

use super::{Id, LookupError, find};

fn map(ids: &[&str]) -> BTreeMap<Id, ()> {
    ids.iter()
        .map(|id| (Id::try_from(format!("{id:0<64}")).unwrap(), ()))
        .collect()
}

#[test]
fn random_ids_are_valid_and_differ() {
    let (a, b) = (Id::random(), Id::random());
    assert_ne!(a, b);
    assert_eq!(Id::try_from(a.to_string()), Ok(a));
}

#[test]
fn a_unique_prefix_finds_and_the_others_say_why_not() {
    let map = map(&["ab12", "ab34", "cd"]);
    assert_eq!(find(&map, "container", "ab1").unwrap().0.short(), "ab12000000000");
    assert!(find(&map, "container", "cd").is_ok());
    assert!(matches!(
        find(&map, "container", "ab"),
        Err(LookupError::Ambiguous { .. })
    ));
    assert!(matches!(
        find(&map, "container", "e"),
        Err(LookupError::NotFound { .. })
    ));
    assert!(matches!(
        find(&map, "container", ""),
        Err(LookupError::Empty { .. })
    ));
}

#[test]
fn a_full_id_finds_itself() {
    let map = map(&["ab12"]);
    let id = map.keys().next().unwrap().to_string();
    assert_eq!(find(&map, "pod sandbox", &id).unwrap().0.as_str(), id);
}

#[test]
fn what_is_no_id_is_refused() {
    for bad in ["", "xyz", &"A".repeat(64), &"a".repeat(63), "../../etc/passwd"] {
        assert!(Id::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}
