use super::*;

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failed {
    text: &'static str,
    source: Option<Box<Self>>,
}

/// The chain of errors with these texts, the outermost first.
fn chain_of(texts: &[&'static str]) -> String {
    let error = texts.iter().rev().fold(None, |source, &text| {
        let error = Failed { text, source };
        Some(Box::new(error))
    });
    chain(&*error.unwrap())
}

#[test]
fn causes_follow_the_error() {
    assert_eq!(
        chain_of(&["start the pod", "open /run/x", "no such file"]),
        "start the pod: open /run/x: no such file"
    );
}

#[test]
fn a_cause_that_the_error_has_printed_is_not_repeated() {
    assert_eq!(
        chain_of(&["start the pod", "open /run/x: no such file", "no such file"]),
        "start the pod: open /run/x: no such file"
    );
}

#[test]
fn a_cause_with_the_words_of_another_error_is_kept() {
    assert_eq!(
        chain_of(&["timed out", "timed out"]),
        "timed out: timed out",
        "of its parent"
    );
    assert_eq!(
        chain_of(&["detach: timed out; then the pod", "timed out"]),
        "detach: timed out; then the pod: timed out",
        "amid its parent"
    );
    assert_eq!(
        chain_of(&["timed out", "connect", "timed out"]),
        "timed out: connect: timed out",
        "of an earlier one"
    );
}
