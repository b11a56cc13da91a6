use serde_json::Value;

use super::*;

fn parsed(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.json()).unwrap()
}

#[test]
fn success_says_nothing_else() {
    assert_eq!(parsed(&Outcome::Ended(0))["status"], "Success");
    assert_eq!(Outcome::Ended(0).text(), None);
}

#[test]
fn an_exit_code_is_where_clients_look_for_it() {
    let status = parsed(&Outcome::Ended(42));
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "42");
    assert!(Outcome::Ended(42).text().unwrap().ends_with(b"42"));
}

#[test]
fn a_failure_has_its_whole_story() {
    let failed = Outcome::Failed("no \"such\" program".into());
    let status = parsed(&failed);
    assert_eq!(status["reason"], "InternalError");
    assert_eq!(status["details"]["causes"][0]["message"], "no \"such\" program");
    assert!(failed.text().unwrap().ends_with(b"no \"such\" program"));
}
