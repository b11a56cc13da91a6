use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use super::{kill_listed, relatives};
use crate::process;

fn tree() -> Child {
    // The shell stays, with a child; both print when they are there.
    Command::new("/bin/sh")
        .args(["-c", "sleep 1000 & echo; wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn descendants_are_relatives_and_others_are_not() {
    let mut child = tree();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut family = BTreeSet::from([pid]);
    let found = relatives(&process::all(), pid, &mut family);
    assert_eq!(found.len(), 1, "the sleep: {found:?}");
    assert!(!found.contains(&i32::try_from(std::process::id()).unwrap()));
    let sleep = *found.first().unwrap();
    kill_listed(&found, || found.clone());
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || process::stat(sleep).is_none_or(|stat| stat.state == 'Z');
    let start = std::time::Instant::now();
    while !gone() {
        assert!(start.elapsed().as_secs() < 30, "{sleep} is still there");
        std::thread::yield_now();
    }
}

#[test]
fn who_is_no_longer_listed_is_not_killed() {
    let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let left = kill_listed(&BTreeSet::from([pid]), BTreeSet::new);
    assert!(left.is_empty());
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}
