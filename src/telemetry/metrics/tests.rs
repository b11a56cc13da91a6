use std::collections::BTreeSet;

use super::table::Row;
use super::*;

/// The rows of the table in `docs/metrics.md`: name, type, labels, unit.
fn documented() -> Vec<Row> {
    let text = include_str!("../../../docs/metrics.md");
    let names = |cell: &str| {
        let names = cell.split(", ").filter(|name| !name.is_empty());
        names.map(|name| name.trim_matches('`').to_owned()).collect()
    };
    let rows = text.lines().map(|line| line.split('|').map(str::trim).collect());
    rows.filter_map(|cells: Vec<&str>| match cells[..] {
        ["", name, kind, labels, unit, _meaning, _peers, ""] if name.starts_with('`') => Some(Row {
            name: name.trim_matches('`').to_owned(),
            kind: kind.to_owned(),
            labels: names(labels),
            unit: unit.to_owned(),
        }),
        _ => None,
    })
    .collect()
}

fn all() -> Vec<Row> {
    let (mut rows, states) = (Metrics::new().table.rows, States::default().table().rows);
    rows.extend(states);
    rows
}

/// `docs/metrics.md` has every metric, as it is served, and no other.
#[tokio::test]
async fn every_metric_is_documented() {
    let (served, documented) = (all(), documented());
    let missing: Vec<&Row> = served.iter().filter(|row| !documented.contains(row)).collect();
    let stale: Vec<&Row> = documented.iter().filter(|row| !served.contains(row)).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not in docs/metrics.md, or not so: {missing:#?}\nin it, but not served so: {stale:#?}"
    );
    assert_eq!(
        served.len(),
        documented.len(),
        "a metric is documented or served twice"
    );
}

/// A series of one metric must not have the name of another metric (OpenMetrics, "Suffixes").
#[tokio::test]
async fn names_do_not_collide() {
    let mut names = BTreeSet::new();
    for Row { name, kind, .. } in all() {
        let ends: &[&str] = match kind.as_str() {
            "histogram" => &["", "_bucket", "_count", "_sum"],
            _ => &[""],
        };
        // The family of a counter has its name without the end.
        let family = name.strip_suffix("_total").map(str::to_owned);
        for name in ends.iter().map(|end| format!("{name}{end}")).chain(family) {
            assert!(names.insert(name.clone()), "{name} is there twice");
        }
    }
}

#[test]
fn only_so_many_plugins_have_a_label() {
    let mut plugins = BTreeSet::new();
    for number in 0..PLUGINS_MAX {
        let name = format!("plugin-{number}");
        assert_eq!(known(&mut plugins, &name), name);
    }
    assert_eq!(known(&mut plugins, "one-too-many"), "other");
    assert_eq!(known(&mut plugins, "plugin-7"), "plugin-7");
    assert_eq!(plugins.len(), PLUGINS_MAX);
}
