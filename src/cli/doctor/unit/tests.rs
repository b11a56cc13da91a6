use super::*;

fn judge(text: &str, runs: bool) -> Vec<(Check, Verdict)> {
    let findings = decide(&Ok(parse(text)), runs);
    findings.iter().map(|one| (one.check, one.verdict)).collect()
}

const GOOD: &str = "Type=notify\nNRestarts=0\nKillMode=process\nDelegate=yes\nLoadState=loaded\nActiveState=active\n\
                    SubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\nFragmentPath=/usr/lib/systemd/system/pausa.service\n";

#[test]
fn the_units_own_settings_are_right() {
    assert!(
        judge(GOOD, true)
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Ok)
    );
    // The unit that is delivered says the same.
    let unit = include_str!("../../../../packaging/pausa.service");
    for line in ["Type=notify", "KillMode=process", "Delegate=yes"] {
        assert!(unit.lines().any(|own| own == line), "{line}");
    }
}

#[test]
fn settings_that_matter_are_missed() {
    for (from, to, check, expected) in [
        (
            "KillMode=process",
            "KillMode=control-group",
            Check::UnitKillMode,
            Verdict::Problem,
        ),
        (
            "Delegate=yes",
            "Delegate=no",
            Check::UnitDelegate,
            Verdict::Problem,
        ),
        ("Type=notify", "Type=simple", Check::UnitType, Verdict::Warning),
        (
            "NRestarts=0",
            "NRestarts=7",
            Check::UnitRestarts,
            Verdict::Warning,
        ),
        ("=enabled", "=disabled", Check::UnitEnabled, Verdict::Warning),
        (
            "NeedDaemonReload=no",
            "NeedDaemonReload=yes",
            Check::UnitReload,
            Verdict::Warning,
        ),
        (
            "ActiveState=active",
            "ActiveState=failed",
            Check::UnitActive,
            Verdict::Problem,
        ),
        (
            "LoadState=loaded",
            "LoadState=not-found",
            Check::UnitInstalled,
            Verdict::Problem,
        ),
    ] {
        let found = judge(&GOOD.replace(from, to), false);
        assert!(found.contains(&(check, expected)), "{to}: {found:?}");
    }
    let other = judge(&GOOD.replace("LoadState=loaded", "LoadState=not-found"), true);
    assert_eq!(other, [(Check::UnitInstalled, Verdict::Info)]);
}
