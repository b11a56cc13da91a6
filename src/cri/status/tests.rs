use super::*;

#[test]
fn the_kind_decides_the_code() {
    let status = from_failure(Failure::new(ErrorKind::NotFound, "no container has the id \"x\""));
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "no container has the id \"x\"");
}

#[test]
fn an_unreachable_registry_reaches_kubelet_as_a_reason() {
    let gone = Failure::new(ErrorKind::Unavailable, "cannot connect to r.example:443");
    let status = from_pull_failure(gone.clone());
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(
        status.message(),
        "RegistryUnavailable: cannot connect to r.example:443"
    );
    // Elsewhere it is what it is.
    assert_eq!(from_failure(gone).code(), Code::Unavailable);
}

#[test]
fn a_reason_that_is_there_is_not_written_twice() {
    let failure = Failure::new(ErrorKind::Unavailable, "SignatureValidationFailed: no key fits");
    let status = from_pull_failure(failure);
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(status.message(), "SignatureValidationFailed: no key fits");
}

#[test]
fn other_pull_failures_keep_their_code() {
    for (kind, code) in [
        (ErrorKind::Unauthenticated, Code::Unauthenticated),
        (ErrorKind::NotFound, Code::NotFound),
        (ErrorKind::ResourceExhausted, Code::ResourceExhausted),
        (ErrorKind::DataLoss, Code::DataLoss),
        (ErrorKind::InvalidArgument, Code::InvalidArgument),
    ] {
        let status = from_pull_failure(Failure::new(kind, "r.example has its reasons"));
        assert_eq!(status.code(), code);
        assert_eq!(status.message(), "r.example has its reasons");
    }
}
