use super::*;
use crate::error::chain;

fn state(operation: &'static str, text: &str) -> Box<NetworkError> {
    Box::new(NetworkError::State {
        operation,
        path: "/state/10.0.0.2".into(),
        source: io::Error::other(text.to_owned()),
    })
}

#[test]
fn a_failed_undo_shows_both_failures_with_their_causes() {
    let error = NetworkError::NotUndone {
        cause: state("write", "disk full"),
        undo: state("remove", "read-only file system"),
    };
    assert_eq!(
        chain(&error),
        "cannot write /state/10.0.0.2: disk full; undoing it failed too: \
         cannot remove /state/10.0.0.2: read-only file system"
    );
}

/// The same text in both must not be taken for a repetition.
#[test]
fn a_failed_undo_shows_both_failures_when_they_have_the_same_cause() {
    let error = NetworkError::NotUndone {
        cause: state("write", "disk full"),
        undo: state("remove", "disk full"),
    };
    let text = chain(&error);
    assert_eq!(text.matches("disk full").count(), 2, "{text}");
}
