use super::*;
use crate::proto::admin::NetworkFinding;

const MINUTE: i64 = 60_000_000_000;

fn answers() -> Answers {
    Answers {
        version: ("pausa".to_owned(), "1.0.0".to_owned()),
        conditions: Ok(vec![v1::RuntimeCondition {
            r#type: "NetworkReady".to_owned(),
            status: true,
            ..v1::RuntimeCondition::default()
        }]),
        info: BTreeMap::new(),
        operations: Ok(Vec::new()),
        networks: Ok(Vec::new()),
        pods: Vec::new(),
        containers: Vec::new(),
        open_files: Some(1 << 20),
        now: 100 * MINUTE,
    }
}

#[track_caller]
fn verdict(answers: &Answers, check: Check) -> Verdict {
    let findings = decide(answers, "1.0.0");
    let found = findings.iter().find(|one| one.check == check);
    found.unwrap_or_else(|| panic!("{findings:?}")).verdict
}

#[test]
fn a_daemon_that_is_well_has_no_findings() {
    assert!(
        decide(&answers(), "1.0.0")
            .iter()
            .all(|one| one.verdict == Verdict::Ok)
    );
}

#[test]
fn a_daemon_says_what_is_wrong_with_it() {
    let mut wrong = answers();
    wrong.version.1 = "0.9.0".to_owned();
    wrong.conditions.as_mut().unwrap()[0].status = false;
    wrong.open_files = Some(1024);
    assert_eq!(verdict(&wrong, Check::DaemonVersion), Verdict::Warning);
    assert_eq!(verdict(&wrong, Check::DaemonCri), Verdict::Problem);
    assert_eq!(verdict(&wrong, Check::DaemonOpenFiles), Verdict::Warning);
    wrong.conditions = Err("no answer".to_owned());
    wrong.operations = Err("no answer".to_owned());
    assert_eq!(verdict(&wrong, Check::DaemonCri), Verdict::Problem);
    assert_eq!(verdict(&wrong, Check::DaemonOperations), Verdict::Unknown);
}

#[test]
fn a_step_is_stuck_after_a_minute_unless_it_waits_for_an_end() {
    let operation = |step: &str, minutes: i64| Operation {
        operation: "RunPodSandbox".to_owned(),
        namespace: "default".to_owned(),
        pod: "web-0".to_owned(),
        step: Some(step.to_owned()),
        step_since: Some((100 - minutes) * MINUTE),
        ..Operation::default()
    };
    let judge = |operation| {
        let mut answers = answers();
        answers.operations = Ok(vec![operation]);
        verdict(&answers, Check::DaemonOperations)
    };
    assert_eq!(judge(operation("network", 2)), Verdict::Warning);
    assert_eq!(judge(operation("network", 0)), Verdict::Ok);
    assert_eq!(judge(operation("grace period", 20)), Verdict::Ok);
    assert_eq!(
        stuck(&operation("network", 2), 100 * MINUTE).unwrap(),
        "RunPodSandbox of default/web-0 has been in step network for 2m 0s"
    );
}

#[test]
fn wrong_networks_name_their_pods() {
    let pod = |name: &str, verdict: NetworkVerdict| CheckNetworkResponse {
        namespace: "default".to_owned(),
        pod: name.to_owned(),
        findings: vec![NetworkFinding {
            verdict: verdict.into(),
            ..NetworkFinding::default()
        }],
        ..CheckNetworkResponse::default()
    };
    let judge = |pods| {
        let mut answers = answers();
        answers.networks = Ok(pods);
        verdict(&answers, Check::NetworkPods)
    };
    assert_eq!(judge(vec![pod("a", NetworkVerdict::Warning)]), Verdict::Ok);
    assert_eq!(judge(vec![pod("a", NetworkVerdict::Unknown)]), Verdict::Unknown);
    let both = vec![
        pod("a", NetworkVerdict::Unknown),
        pod("b", NetworkVerdict::Problem),
    ];
    assert_eq!(judge(both), Verdict::Problem);
}

#[test]
fn a_socket_is_for_root_and_its_group() {
    let judge = |mode, refused: Option<io::ErrorKind>, exists: bool| {
        let socket = Socket {
            path: "/run/pausa/pausa.sock".into(),
            file: exists.then_some(SocketFile {
                is_socket: true,
                mode,
                user: 0,
                group: 0,
            }),
            refused: refused.map(io::Error::from),
            pid: Some(7),
        };
        let findings = decide_socket(&socket);
        findings.iter().map(|one| one.verdict).collect::<Vec<_>>()
    };
    assert_eq!(judge(0o660, None, true), [Verdict::Ok, Verdict::Ok]);
    assert_eq!(judge(0o666, None, true), [Verdict::Ok, Verdict::Warning]);
    assert_eq!(judge(0o000, None, true), [Verdict::Ok, Verdict::Warning]);
    assert_eq!(judge(0, Some(io::ErrorKind::NotFound), false), [Verdict::Problem]);
    let refused = Some(io::ErrorKind::ConnectionRefused);
    assert_eq!(judge(0o660, refused, true), [Verdict::Problem, Verdict::Ok]);
    let denied = Some(io::ErrorKind::PermissionDenied);
    assert_eq!(judge(0o660, denied, true), [Verdict::Unknown, Verdict::Ok]);
}
