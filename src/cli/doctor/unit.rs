//! The unit of systemd, as systemd has loaded it.

use std::collections::BTreeMap;
use std::path::Path;

use super::finding::{Check, Finding, Verdict};
use super::leftovers::UNITS;
use crate::error::chain;
use crate::tool;

pub(super) const UNIT: &str = "pausa.service";
const PROPERTIES: &str = "LoadState,UnitFileState,ActiveState,SubState,Result,NRestarts,KillMode,Delegate,Type,NeedDaemonReload,FragmentPath";
const OUTPUT_MAX: u64 = 64 * 1024;

/// What systemd says about the unit; none where systemd does not run the node.
pub(super) fn read() -> Option<Result<BTreeMap<String, String>, String>> {
    let systemctl = is_booted().then(|| tool::find("systemctl"))??;
    let shown = tool::output(&systemctl, &["show", UNIT, "--property", PROPERTIES], OUTPUT_MAX);
    Some(match shown {
        Ok(text) => Ok(parse(&String::from_utf8_lossy(&text))),
        Err(error) => Err(chain(&error)),
    })
}

/// The units of other runtimes that are enabled; none where systemd does not run the node.
pub(super) fn others() -> Option<Vec<String>> {
    let systemctl = is_booted().then(|| tool::find("systemctl"))??;
    let enabled = UNITS.into_iter().filter(|unit| {
        let unit = format!("{unit}.service");
        // It fails for every other state.
        tool::output(&systemctl, &["is-enabled", &unit], OUTPUT_MAX)
            .is_ok_and(|text| text.starts_with(b"enabled"))
    });
    Some(enabled.map(|unit| format!("{unit}.service")).collect())
}

/// sd_booted(3).
fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

pub(super) fn decide(unit: &Result<BTreeMap<String, String>, String>, runs: bool) -> Vec<Finding> {
    use Verdict::{Info, Ok, Problem, Unknown, Warning};
    let unit = match unit {
        Err(error) => return vec![Finding::new(Check::UnitInstalled, Unknown, error)],
        Result::Ok(unit) => unit,
    };
    let value = |key: &str| unit.get(key).map_or("", String::as_str);
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    let path = value("FragmentPath");
    match value("LoadState") {
        "loaded" => add(Check::UnitInstalled, Ok, format!("{UNIT} is {path}")),
        state => {
            // A daemon may be run by something else.
            let verdict = match runs {
                true => Info,
                false => Problem,
            };
            add(
                Check::UnitInstalled,
                verdict,
                format!("systemd says of {UNIT}: {state}"),
            );
            return findings;
        }
    }
    match value("UnitFileState") {
        state @ ("enabled" | "enabled-runtime" | "static" | "alias") => {
            add(Check::UnitEnabled, Ok, state.to_owned());
        }
        state => add(Check::UnitEnabled, Warning, format!("{UNIT} is {state}")),
    }
    let active = format!("{} ({})", value("ActiveState"), value("SubState"));
    match (value("ActiveState"), runs) {
        ("active" | "reloading" | "activating", _) => add(Check::UnitActive, Ok, active),
        (_, true) => add(
            Check::UnitActive,
            Warning,
            format!("{UNIT} is {active}: the daemon that runs is not the unit's"),
        ),
        (_, false) => add(
            Check::UnitActive,
            Problem,
            format!("{UNIT} is {active}, result {}", value("Result")),
        ),
    }
    match value("NRestarts") {
        "" | "0" => add(
            Check::UnitRestarts,
            Ok,
            "systemd has not restarted it by itself".to_owned(),
        ),
        count => add(
            Check::UnitRestarts,
            Warning,
            format!("systemd has restarted it {count} times by itself"),
        ),
    }
    match value("NeedDaemonReload") {
        "yes" => add(
            Check::UnitReload,
            Warning,
            format!("{path} has changed since systemd read it"),
        ),
        _ => add(
            Check::UnitReload,
            Ok,
            "systemd has read the unit as it is".to_owned(),
        ),
    }
    for (check, key, wanted, otherwise) in [
        (Check::UnitKillMode, "KillMode", "process", Problem),
        (Check::UnitDelegate, "Delegate", "yes", Problem),
        (Check::UnitType, "Type", "notify", Warning),
    ] {
        let is = value(key);
        let fits = is == wanted || (check == Check::UnitType && is == "notify-reload");
        let verdict = match fits {
            true => Ok,
            false => otherwise,
        };
        add(check, verdict, format!("{key}={is}"));
    }
    findings
}

#[cfg(test)]
mod tests;
