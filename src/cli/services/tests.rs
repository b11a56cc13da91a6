use toml::{Table, Value};

use super::*;
use crate::config::{documented, known_keys};

/// Keys that are not among the settings of a module: a reload looks at them itself. And a key with only one value.
const ELSEWHERE: [&str; 6] = [
    "apparmor.default_profile",
    "cdi_spec_dirs",
    "drain_timeout_seconds",
    "handlers.NAME.kind",
    "log.level",
    "seccomp.default_profile",
];

/// What [`configure`] hands to modules.
fn handed(table: Table) -> String {
    let config: Config = table.try_into().unwrap();
    format!(
        "{:?}",
        (
            settings(&config),
            images_config(&config).unwrap(),
            streaming(&config).unwrap(),
            network_config(&config)
        )
    )
}

/// Another value that can be read.
fn other(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("handlers.NAME.default_env", _) => vec!["A=b"].into(),
        ("handlers.NAME.default_ulimits", _) => vec!["core=0"].into(),
        (_, Value::String(size)) if size == "1Mi" => "2Mi".into(),
        (_, Value::Boolean(set)) => (!set).into(),
        (_, Value::Integer(number)) => (number + 1).into(),
        (_, Value::String(text)) => format!("/other{text}").into(),
        (_, Value::Array(_)) => vec!["/other"].into(),
        (_, other) => panic!("{key}: {other}"),
    }
}

/// A key that does not say that it needs a restart reaches a module.
#[test]
fn every_live_key_is_handed_on() {
    let before = handed(known_keys());
    for (key, needs_restart) in documented() {
        if needs_restart || ELSEWHERE.contains(&key.as_str()) {
            continue;
        }
        let mut table = known_keys();
        let path = key.replace("NAME", "*");
        let (last, tables) = path
            .rsplit_once('.')
            .map_or((&*path, None), |(tables, last)| (last, Some(tables)));
        let tables = tables.into_iter().flat_map(|tables| tables.split('.'));
        let inner = tables.fold(&mut table, |table, name| match table.get_mut(name) {
            Some(Value::Table(inner)) => inner,
            _ => panic!("{key}"),
        });
        let changed = other(&key, &inner[last]);
        inner.insert(last.to_owned(), changed);
        assert_ne!(handed(table), before, "{key}");
    }
}
