use std::time::{Duration, Instant};

use super::{GRACE, KILL_TIMEOUT, Shutdown, Step};
use crate::connections::ReplyTo;

const WAITER: ReplyTo = ReplyTo {
    connection: 1,
    request: 2,
};

#[test]
fn a_request_kills_at_once_and_gives_up_in_the_end() {
    let now = Instant::now();
    let mut shutdown = Shutdown::by_request(WAITER, now);
    assert_eq!(shutdown.advance(now, true), Step::KillAll);
    assert_eq!(shutdown.advance(now, true), Step::Wait);
    assert_eq!(shutdown.deadline(), Some(now + KILL_TIMEOUT));
    assert_eq!(shutdown.advance(now + KILL_TIMEOUT, true), Step::GiveUp);
    assert!(!shutdown.is_done());
}

#[test]
fn sigterm_leaves_time_that_a_request_ends() {
    let now = Instant::now();
    let mut shutdown = Shutdown::by_sigterm(now);
    assert_eq!(shutdown.advance(now, true), Step::Wait);
    assert_eq!(shutdown.deadline(), Some(now + GRACE));
    let later = now + Duration::from_secs(1);
    shutdown.join(WAITER, later);
    assert_eq!(shutdown.advance(later, true), Step::KillAll);
    // Another request does not extend the time for killing.
    shutdown.join(WAITER, later + Duration::from_secs(1));
    assert_eq!(shutdown.deadline(), Some(later + KILL_TIMEOUT));
}

#[test]
fn a_shutdown_finishes_once_when_nothing_is_left() {
    let now = Instant::now();
    let mut shutdown = Shutdown::by_sigterm(now);
    assert_eq!(shutdown.advance(now, false), Step::Finish);
    assert!(shutdown.is_done());
    assert_eq!(shutdown.advance(now, false), Step::Wait);
    assert_eq!(shutdown.deadline(), None);
}
