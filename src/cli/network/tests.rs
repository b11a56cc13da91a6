use super::*;

fn finding(verdict: NetworkVerdict, text: &str) -> NetworkFinding {
    NetworkFinding {
        check: "route".to_owned(),
        verdict: verdict.into(),
        object: "default route".to_owned(),
        expected: "0.0.0.0/0 via 10.88.0.1".to_owned(),
        found: text.to_owned(),
        consequence: "the pod reaches nothing".to_owned(),
        remedy: String::new(),
    }
}

fn pod(findings: Vec<NetworkFinding>) -> CheckNetworkResponse {
    CheckNetworkResponse {
        pod_id: "0a1b2c3d4e5f60718293".to_owned(),
        namespace: "default".to_owned(),
        pod: "web-0".to_owned(),
        findings,
        ..Default::default()
    }
}

fn skipped(exempt: bool) -> CheckNetworkResponse {
    CheckNetworkResponse {
        skipped: Some("the pod is being created".to_owned()),
        exempt,
        ..pod(Vec::new())
    }
}

#[test]
fn a_finding_is_a_few_lines_that_cannot_control_the_terminal() {
    let pod = pod(vec![
        finding(NetworkVerdict::Ok, "there"),
        finding(NetworkVerdict::Problem, "\x1b[2Jnothing"),
    ]);
    let expected = "\
default/web-0 (0a1b2c3d4e5f6): 1 wrong
  ok        route default route: there
  problem   route default route
            expected   0.0.0.0/0 via 10.88.0.1
            found      \\u{1b}[2Jnothing
            leads to   the pod reaches nothing
";
    assert_eq!(screen::text(&lines(&pod), false), expected);
}

#[test]
fn a_pod_that_is_well_or_not_checked_is_one_line() {
    let text = |pod: &CheckNetworkResponse| screen::text(&lines(pod), false);
    assert_eq!(text(&pod(Vec::new())), "default/web-0 (0a1b2c3d4e5f6): ok\n");
    assert_eq!(
        text(&skipped(false)),
        "default/web-0 (0a1b2c3d4e5f6): not checked: the pod is being created\n"
    );
}

#[test]
fn what_was_found_decides_the_exit_code() {
    let exit = |pods: &[(CheckNetworkResponse, bool)]| {
        let mut tally = Tally::default();
        for (pod, is_named) in pods {
            tally.add(pod, *is_named);
        }
        match tally.verdict() {
            Ok(()) => 0,
            Err(CommandError::WrongNetworks { .. }) => 1,
            Err(CommandError::NotChecked { .. }) => 2,
            Err(other) => panic!("{other:?}"),
        }
    };
    let with = |verdict| (pod(vec![finding(verdict, "")]), false);
    assert_eq!(exit(&[]), 0);
    assert_eq!(
        exit(&[
            with(NetworkVerdict::Ok),
            with(NetworkVerdict::Info),
            with(NetworkVerdict::Warning)
        ]),
        0
    );
    assert_eq!(exit(&[with(NetworkVerdict::Unknown)]), 2);
    assert_eq!(exit(&[with(NetworkVerdict::Unspecified)]), 2, "of a newer daemon");
    assert_eq!(
        exit(&[with(NetworkVerdict::Unknown), with(NetworkVerdict::Problem)]),
        1
    );
    assert_eq!(exit(&[(skipped(false), false)]), 0);
    assert_eq!(exit(&[(skipped(false), true)]), 2);
    assert_eq!(exit(&[(skipped(true), true)]), 0);
}
