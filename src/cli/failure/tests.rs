use super::*;

fn of(status: &Status) -> CommandError {
    CommandError::from_status("/run/x.sock".into(), "`image pulls`", status)
}

#[test]
fn a_method_the_daemon_lacks_is_told_as_age() {
    // What tonic's router answers.
    let error = of(&Status::unimplemented(""));
    assert!(matches!(error, CommandError::TooOld { .. }), "{error}");
    assert_eq!(error.exit_code(), EXIT_UNAVAILABLE);
    assert!(error.to_string().contains("`image pulls`"), "{error}");
    assert!(error.to_string().contains("/run/x.sock"), "{error}");
}

#[test]
fn what_the_daemon_says_is_passed_on() {
    let error = of(&Status::unimplemented("the layer is encrypted"));
    assert_eq!(error.to_string(), "the layer is encrypted");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn what_is_not_in_the_store_has_its_own_code() {
    let error = of(&Status::not_found("no image \"x\" in the store"));
    assert_eq!(error.exit_code(), 1);
    let error = error.for_stored_image();
    assert_eq!(error.exit_code(), EXIT_NOT_FOUND);
    assert_eq!(error.to_string(), "no image \"x\" in the store");
}

#[test]
fn a_connection_that_breaks_is_not_the_daemons_word() {
    let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let error = of(&Status::from_error(Box::new(io)));
    assert!(matches!(error, CommandError::Gone { .. }), "{error}");
    assert_eq!(error.exit_code(), EXIT_UNAVAILABLE);
}

#[test]
fn every_kind_has_its_exit_code() {
    let none = CommandError::NoImage {
        names: vec!["a".into(), "b".into()],
    };
    assert_eq!(none.exit_code(), EXIT_NOT_FOUND);
    assert!(none.to_string().contains("a, b"));
    assert_eq!(CommandError::Usage(String::new()).exit_code(), EXIT_USAGE);
    assert_eq!(CommandError::Damaged { images: 1 }.exit_code(), EXIT_DAMAGED);
    let ended = CommandError::NoMoreEvents {
        socket: "/run/x.sock".into(),
        reason: "it is stopping".to_owned(),
    };
    assert_eq!(ended.exit_code(), EXIT_UNAVAILABLE);
    let some = CommandError::Some { failed: 1, all: 2 };
    assert_eq!(some.exit_code(), 1);
}
