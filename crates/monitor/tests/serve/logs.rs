use std::fs::File;
use std::os::fd::AsFd;

use pausa_monitor_protocol::{Event, Request};
use rustix::io::Errno;

use crate::rig::{Rig, container, entries, open_log, pod};

#[test]
fn the_last_line_without_an_end_is_partial() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "printf 'one\\r\\ntwo'");
    rig.daemon.exit("a");
    assert_eq!(rig.entries(), ["stdout F one", "stdout P two"]);
    rig.shut_down();
}

#[test]
fn a_long_line_is_split_at_the_limit_and_a_full_one_is_not() {
    let mut rig = Rig::new(&pod());
    rig.start(
        "a",
        "head -c 16384 /dev/zero | tr '\\0' a; echo; head -c 16385 /dev/zero | tr '\\0' b; echo",
    );
    rig.daemon.exit("a");
    let expected = [
        format!("stdout F {}", "a".repeat(16384)),
        format!("stdout P {}", "b".repeat(16384)),
        "stdout F b".to_owned(),
    ];
    assert!(rig.entries() == expected);
    rig.shut_down();
}

#[test]
fn a_million_lines_arrive_whole_and_in_order() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "seq 1000000");
    rig.daemon.exit("a");
    let text = std::fs::read_to_string(rig.log()).unwrap();
    let mut expected = 0;
    for line in text.lines() {
        expected += 1;
        assert_eq!(line[40..].parse(), Ok(expected));
    }
    assert_eq!(expected, 1_000_000);
    rig.shut_down();
}

#[test]
fn rotation_loses_and_doubles_nothing() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "seq 300000");
    let mut files = vec![rig.log()];
    for number in 1..20 {
        let path = rig.dir.path().join(format!("{number}.log"));
        let file = open_log(&path);
        match rig.daemon.ask_with(
            Request::ReopenLog {
                container: "a".into(),
            },
            &[file.as_fd()],
        ) {
            Ok(_) => files.push(path),
            Err(_) => break,
        }
        // What was answered is true: the old file does not grow any more.
        let old = &files[files.len() - 2];
        let length = std::fs::metadata(old).unwrap().len();
        let text = std::fs::read(old).unwrap();
        assert_eq!(text.len() as u64, length);
        assert!(text.is_empty() || text.ends_with(b"\n"));
    }
    rig.daemon.exit("a");
    let all: Vec<String> = files.iter().flat_map(|path| entries(path)).collect();
    assert_eq!(all.len(), 300_000);
    assert!(
        all.iter()
            .enumerate()
            .all(|(place, entry)| *entry == format!("stdout F {}", place + 1))
    );
    rig.shut_down();
}

#[test]
fn a_full_disk_is_told_and_stops_nothing() {
    let mut rig = Rig::new(&pod());
    let full = File::options().append(true).open("/dev/full").unwrap();
    let plan = container("a", "seq 100000; exit 5");
    rig.daemon.start(&plan, &[full.as_fd()]).unwrap();
    let mut dropped = 0;
    let exit = loop {
        match rig.daemon.event() {
            Event::LogDropped { bytes, errno, .. } => {
                assert_eq!(errno, Errno::NOSPC.raw_os_error());
                dropped += bytes;
            }
            Event::Exited { exit, .. } => break exit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(exit.code, 5);
    // seq's own bytes without line ends, and head and end of each entry.
    assert_eq!(dropped, 588_895 - 100_000 + 100_000 * 41);
    rig.shut_down();
}

#[test]
fn output_without_a_log_is_drained() {
    let mut rig = Rig::new(&pod());
    let mut plan = container("a", "seq 200000");
    (plan.log, plan.fds) = (None, Vec::new());
    rig.daemon.start(&plan, &[]).unwrap();
    assert_eq!(rig.daemon.exit("a").code, 0);
    rig.shut_down();
}

#[test]
fn a_noisy_container_does_not_starve_its_neighbour_nor_the_daemon() {
    let mut rig = Rig::new(&pod());
    let null = File::options().append(true).open("/dev/null").unwrap();
    rig.daemon
        .start(&container("noisy", "yes; true"), &[null.as_fd()])
        .unwrap();
    for number in 0..20 {
        rig.start(&format!("quiet{number}"), "echo here");
        rig.daemon.exit(&format!("quiet{number}"));
    }
    assert_eq!(rig.entries(), ["stdout F here"; 20]);
    rig.shut_down();
}
