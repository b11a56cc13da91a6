//! The map of a node, without a node.

use super::*;
use crate::proto::admin::CpuHolder;

fn cpu([cpu, core, cache, numa_node, socket]: [u32; 5]) -> Cpu {
    Cpu {
        cpu,
        socket,
        numa_node,
        cache,
        core,
        reserved: cpu == 0,
    }
}

fn holder(pod: &str, cpus: &str, mode: CpuMode) -> CpuHolder {
    CpuHolder {
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
        cpus: cpus.to_owned(),
        mode: mode.into(),
        ..CpuHolder::default()
    }
}

/// Two sockets with two cores of two threads each.
fn document(holders: Vec<CpuHolder>) -> Document {
    let cpus = [
        [0, 0, 0, 0, 0],
        [4, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [5, 1, 0, 0, 0],
        [2, 2, 1, 1, 1],
        [6, 2, 1, 1, 1],
        [3, 3, 1, 1, 1],
        [7, 3, 1, 1, 1],
    ];
    Document {
        map: CpusResponse {
            cpus: cpus.map(cpu).to_vec(),
            pinning: "static".to_owned(),
            on_shortage: "share".to_owned(),
            pool: "0,3-5,7".to_owned(),
            holders,
        },
        load: (0..8).map(|cpu| (cpu, u64::from(cpu) * 10)).collect(),
    }
}

#[test]
fn neighbours_with_one_owner_are_one_line() {
    let holders = vec![
        holder("db", "2,6", CpuMode::Pinned),
        holder("app\x1b[31m", "1", CpuMode::Given),
        holder("web", "1", CpuMode::Given),
    ];
    let expected = "\
SOCKET   NODE   CACHE   CORES   CPUS   LOAD   MODE       OWNER
     0      0       0   0       0       0 %   reserved
     0      0       0   0       4      40 %   pool
     0      0       0   1       1      10 %   given      default/app\\u{1b}[31m/main and 1 more
     0      0       0   1       5      50 %   pool
     1      1       1   2       2,6    40 %   pinned     default/db/main
     1      1       1   3       3,7    50 %   pool

Shared pool: 0,3-5,7. Pinning: static, share when CPUs run short.
";
    let text = render(&document(holders), false);
    let trimmed: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, expected.lines().collect::<Vec<_>>());
}

#[test]
fn what_is_pinned_shows_first_and_an_unknown_load_as_a_dash() {
    let holders = vec![
        holder("a", "1,5", CpuMode::Given),
        holder("b", "1,5", CpuMode::Pinned),
    ];
    let mut document = document(holders);
    document.load.clear();
    let text = render(&document, false);
    let line = text.lines().find(|line| line.contains("1,5")).unwrap();
    assert!(
        line.contains("-   pinned") && line.contains("default/b/main and 1 more"),
        "{line:?}"
    );
}

#[test]
fn lines_are_coloured_by_their_mode() {
    let text = render(&document(vec![holder("db", "2,6", CpuMode::Pinned)]), true);
    let pinned = text.lines().find(|line| line.contains("db")).unwrap();
    assert!(
        pinned.starts_with("\x1b[32m") && pinned.ends_with("\x1b[0m"),
        "{pinned:?}"
    );
    let pool = text.lines().find(|line| line.ends_with("pool")).unwrap();
    assert!(!pool.contains('\x1b'), "{pool:?}");
}

#[test]
fn load_is_the_share_of_time_that_is_not_idle() {
    let before = times("cpu  9 9 9 9\ncpu0 10 0 10 70 10 0 0 0 5 5\ncpu1 0 0 0 0 0 0 0 0\nintr 1 2\n");
    assert_eq!(before[&0], Times { busy: 20, idle: 80 });
    let now = times("cpu0 60 0 10 100 30 0 0 0 55 5\ncpu1 0 0 0 0 0 0 0 0\ncpu7 1 1 1 1 1 1 1 1\n");
    assert_eq!(load(&before, &now), BTreeMap::from([(0, 50)]));
    // Time without work may run backwards.
    let backwards = times("cpu0 60 0 10 30 10 0 0 0\n");
    assert_eq!(load(&before, &backwards), BTreeMap::from([(0, 100)]));
    assert!(times("nothing\ncpux 1\n").is_empty());
}
