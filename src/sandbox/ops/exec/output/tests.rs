use super::{ANSWER_MAX, Output, STREAM_MAX, fit};

fn output(length: usize) -> Output {
    let mut output = Output::default();
    output.take(&vec![b'x'; length]);
    output
}

/// Lengths of both streams after they were fit into a message, and what was dropped.
fn fitted(stdout: usize, stderr: usize) -> (usize, usize, usize) {
    let (mut stdout, mut stderr) = (output(stdout), output(stderr));
    let dropped = fit(&mut stdout, &mut stderr);
    (stdout.bytes.len(), stderr.bytes.len(), dropped)
}

#[test]
fn what_fits_is_left_alone() {
    assert_eq!(fitted(0, 0), (0, 0, 0));
    assert_eq!(fitted(ANSWER_MAX - 5, 5), (ANSWER_MAX - 5, 5, 0));
}

#[test]
fn one_long_stream_gets_what_the_other_leaves() {
    assert_eq!(
        fitted(STREAM_MAX + 7, 5),
        (ANSWER_MAX - 5, 5, STREAM_MAX + 7 + 5 - ANSWER_MAX)
    );
    assert_eq!(
        fitted(5, STREAM_MAX),
        (5, ANSWER_MAX - 5, STREAM_MAX + 5 - ANSWER_MAX)
    );
}

#[test]
fn two_long_streams_share() {
    let (stdout, stderr, dropped) = fitted(STREAM_MAX, STREAM_MAX - 1);
    assert_eq!((stdout, stderr), (ANSWER_MAX / 2, ANSWER_MAX / 2));
    assert_eq!(stdout + stderr + dropped, 2 * STREAM_MAX - 1);
}
