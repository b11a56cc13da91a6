use tokio::sync::Semaphore;

use super::{ANSWER_MAX, Output, SMALL, STREAM_MAX, fit};

static ENOUGH: Semaphore = Semaphore::const_new(3 * STREAM_MAX);

fn output(length: usize) -> Output {
    let mut output = Output::new(&ENOUGH);
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

#[test]
fn all_streams_share_their_room() {
    static ROOM: Semaphore = Semaphore::const_new(1000);
    let mut first = Output::new(&ROOM);
    first.take(&vec![b'x'; SMALL]);
    assert_eq!(
        ROOM.available_permits(),
        1000,
        "a small output is kept in any case"
    );
    first.take(&[b'x'; 900]);
    let mut second = Output::new(&ROOM);
    second.take(&vec![b'y'; SMALL]);
    second.take(&[b'y'; 101]);
    second.take(b"after a gap");
    assert_eq!((first.bytes.len(), first.dropped), (SMALL + 900, 0));
    assert_eq!((second.bytes.len(), second.dropped), (SMALL, 112));
    drop(first);
    assert_eq!(ROOM.available_permits(), 1000);
}
