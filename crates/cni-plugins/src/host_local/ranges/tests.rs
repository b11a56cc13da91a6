use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn sets(configured: &Value) -> Result<Vec<RangeSet>, String> {
    range_sets(Vec::<Vec<RangeConfig>>::deserialize(configured).unwrap())
}

/// The one range set there is, for one range.
fn one(range: &Value) -> Result<RangeSet, String> {
    sets(&json!([[range]])).map(|mut sets| sets.remove(0))
}

#[test]
fn defaults_leave_out_what_is_special() {
    let text = |range: Value| one(&range).unwrap().to_string();
    assert_eq!(text(json!({"subnet": "10.1.2.0/24"})), "10.1.2.1-10.1.2.254");
    assert_eq!(text(json!({"subnet": "10.1.2.4/30"})), "10.1.2.5-10.1.2.6");
    assert_eq!(
        text(json!({"subnet": "fd00::/64"})),
        "fd00::1-fd00::ffff:ffff:ffff:ffff"
    );
    assert_eq!(
        text(json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.0", "rangeEnd": "10.1.2.255"})),
        "10.1.2.0-10.1.2.255"
    );
    let set = one(&json!({"subnet": "10.1.2.0/30"})).unwrap();
    assert_eq!(
        set.candidates(None)
            .map(|address| address.to_string())
            .collect::<Vec<_>>(),
        ["10.1.2.2"]
    );
    let set = one(&json!({"subnet": "0.0.0.0/0"})).unwrap();
    let last: IpAddr = "255.255.255.254".parse().unwrap();
    assert_eq!(set.candidates(Some(last)).next().unwrap().to_string(), "0.0.0.2");
}

#[test]
fn what_is_wrong_is_said() {
    for (configured, expected) in [
        (json!([]), "there is no range"),
        (json!([[]]), "range set 0: it is empty"),
        (json!([[{}]]), "range set 0: a range has no subnet"),
        (
            json!([[{"subnet": "10.1.2.0/31"}]]),
            "range set 0: 10.1.2.0/31 is too small",
        ),
        (
            json!([[{"subnet": "fd00::/127"}]]),
            "range set 0: fd00::/127 is too small",
        ),
        (
            json!([[{"subnet": "10.1.2.1/24"}]]),
            "range set 0: 10.1.2.1/24 has host bits, the network is 10.1.2.0/24",
        ),
        (
            json!([[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"}]]),
            "range set 0: rangeStart 10.1.3.1 is not in 10.1.2.0/24",
        ),
        (
            json!([[{"subnet": "10.1.2.0/24", "rangeEnd": "fd00::1"}]]),
            "range set 0: rangeEnd fd00::1 is not in 10.1.2.0/24",
        ),
        (
            json!([[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.8"}]]),
            "range set 0: 10.1.2.9-10.1.2.8 has no address",
        ),
        (
            json!([[{"subnet": "10.1.2.0/24"}, {"subnet": "fd00::/64"}]]),
            "range set 0: ranges of both families are mixed",
        ),
        (
            json!([[{"subnet": "10.1.0.0/16"}, {"subnet": "10.1.2.0/24"}]]),
            "range set 0: 10.1.0.1-10.1.255.254 and 10.1.2.1-10.1.2.254 overlap",
        ),
        (
            json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}], [{"subnet": "10.0.0.0/8"}]]),
            "range set 0 overlaps with 2",
        ),
    ] {
        assert_eq!(sets(&configured).unwrap_err(), expected);
    }
    let apart = json!([
        [{"subnet": "10.1.2.0/24", "rangeEnd": "10.1.2.9"}],
        [{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10"}]
    ]);
    assert_eq!(sets(&apart).unwrap().len(), 2, "parts of one subnet");
}

proptest! {
    #[test]
    fn every_address_is_tried_once_beginning_after_the_last(
        sizes in prop::collection::vec((0_u8..20, 0_u8..12, 0_u8..24), 1..5),
        last in (0_u8..6, 0_u8..30),
    ) {
        let ranges: Vec<Value> = sizes.iter().enumerate().map(|(at, (first, length, gateway))| json!({
            "subnet": format!("10.0.{at}.0/24"), "gateway": format!("10.0.{at}.{gateway}"),
            "rangeStart": format!("10.0.{at}.{first}"), "rangeEnd": format!("10.0.{at}.{}", first + length),
        })).collect();
        let set = sets(&json!([ranges])).unwrap().remove(0);
        let all: BTreeSet<IpAddr> = sizes.iter().enumerate().flat_map(|(at, (first, length, gateway))| {
            (*first..=first + length).filter(move |host| host != gateway)
                .map(move |host| format!("10.0.{at}.{host}").parse().unwrap())
        }).collect();
        let last: IpAddr = format!("10.0.{}.{}", last.0, last.1).parse().unwrap();
        let tried: Vec<IpAddr> = set.candidates(Some(last)).collect();
        prop_assert_eq!(tried.len(), all.len());
        prop_assert_eq!(&tried.iter().copied().collect::<BTreeSet<_>>(), &all);
        let in_order = all.iter().copied();
        let expected: Vec<IpAddr> = if set.contains(last) {
            in_order.clone().filter(|address| *address > last).chain(in_order.filter(|address| *address <= last)).collect()
        } else {
            in_order.collect()
        };
        prop_assert_eq!(tried, expected);
        for address in all {
            prop_assert!(set.contains(address) && !set.is_gateway(address));
            prop_assert_eq!(set.configuration(address).unwrap().address.addr(), address);
        }
    }
}
