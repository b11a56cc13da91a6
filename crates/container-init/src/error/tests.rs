use proptest::prelude::*;

use super::*;

#[test]
fn a_failure_says_the_errno_once() {
    let step = Step::WorkingDirectory(b"/srv"[..].into());
    let failure = Failure::from(Error::Call {
        step,
        source: Errno::NOENT,
    });
    assert_eq!(failure.kind, FailureKind::Start);
    assert_eq!(failure.errno, 2);
    assert_eq!(
        failure.to_string(),
        "enter the working directory /srv: chdir(2): No such file or directory (os error 2)"
    );
}

#[test]
fn our_own_faults_are_not_the_containers() {
    let internal = Failure::from(Error::Call {
        step: Step::Channel,
        source: Errno::PERM,
    });
    assert_eq!(internal.kind, FailureKind::Internal);
    let protocol = Failure::from(Error::MissingDescriptor("the root"));
    assert_eq!((protocol.kind, protocol.errno), (FailureKind::Protocol, 0));
}

proptest! {
    /// Whatever an image calls its files, a log line stays one line of bounded length.
    #[test]
    fn shown_bytes_are_printable_and_short(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let shown = Shown::from(&bytes).to_string();
        prop_assert!(!shown.chars().any(char::is_control));
        prop_assert!(shown.len() <= SHOWN_MAX * 8);
    }
}
