//! How busy CPUs are, from what proc_stat(5) says.

use super::*;

#[test]
fn load_is_the_share_of_time_that_is_not_idle() {
    let before = times("cpu  9 9 9 9\ncpu0 10 0 10 70 10 0 0 0 5 5\ncpu1 0 0 0 0 0 0 0 0\nintr 1 2\n");
    assert_eq!(before[&0], Times { busy: 20, idle: 80 });
    assert_eq!(before.len(), 2, "without the line of all together");
    let now = times("cpu0 60 0 10 100 30 0 0 0 55 5\ncpu1 0 0 0 0 0 0 0 0\ncpu7 1 1 1 1 1 1 1 1\n");
    assert_eq!(load(&before, &now), BTreeMap::from([(0, 50)]));
    // Time without work may run backwards.
    let backwards = times("cpu0 60 0 10 30 10 0 0 0\n");
    assert_eq!(load(&before, &backwards), BTreeMap::from([(0, 100)]));
    assert!(times("nothing\ncpux 1\n").is_empty());
}
