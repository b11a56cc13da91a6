use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pausa_monitor_protocol::{Event, ExitStatus, Reply, Request};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::kills::Cgroup;
use crate::rig::{Rig, container, entries, exec, open_log, pod, until};

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

/// A log that stalls: a pipe that nobody reads. Returns its reading end.
fn start_stalled(rig: &mut Rig, id: &str, script: &str) -> OwnedFd {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    rig.daemon
        .start(&container(id, script), &[write.as_fd()])
        .unwrap();
    drop(write);
    until("the log has no room left", || {
        let size = rustix::pipe::fcntl_getpipe_size(&read).unwrap() as u64;
        // A page may be left over of each write.
        rustix::io::ioctl_fionread(&read).unwrap() > size / 2
    });
    read
}

/// The exit of a container, and the log bytes that were dropped because of a stall. Other events are not expected.
fn exit_and_dropped(rig: &mut Rig, id: &str) -> (ExitStatus, u64) {
    let mut dropped = 0;
    loop {
        match rig.daemon.event() {
            Event::LogDropped {
                container,
                bytes,
                errno,
            } => {
                assert_eq!((container.as_str(), errno), (id, Errno::TIMEDOUT.raw_os_error()));
                dropped += bytes;
            }
            Event::Exited { container, exit } if container == id => return (exit, dropped),
            other => panic!("{other:?} instead of the exit of {id}"),
        }
    }
}

fn kill(rig: &mut Rig, id: &str) {
    let container = id.to_owned();
    assert_eq!(rig.daemon.ask(Request::KillAll { container }), Ok(Reply::Done));
}

#[test]
#[ignore = "needs root"]
fn a_stalled_log_stalls_no_neighbour_and_not_the_exit() {
    let mut rig = Rig::new(&pod());
    let stalled = start_stalled(&mut rig, "a", "exec yes");
    // A neighbour runs, logs and exits, and one is executed into.
    rig.start("b", "seq 1000; exit 4");
    assert_eq!(rig.daemon.exit("b").code, 4);
    assert!(
        rig.entries()
            .into_iter()
            .eq((1..=1000).map(|n| format!("stdout F {n}")))
    );
    rig.start("c", "echo here; exec sleep 60");
    for (id, into) in [("e1", "c"), ("e2", "a")] {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let plan = exec(id, into, "echo executed");
        rig.daemon
            .ask_with(Request::Exec(Box::new(plan)), &[write.as_fd()])
            .unwrap();
        drop(write);
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).unwrap();
        assert_eq!(output, "executed\n");
        assert!(
            matches!(rig.daemon.event(), Event::ExecExited { exec, exit } if exec == id && exit.code == 0)
        );
    }
    kill(&mut rig, "c");
    assert_eq!(rig.daemon.exit("c").signal, 9);
    // The container itself can be killed, and what its log has not taken is told.
    kill(&mut rig, "a");
    let (exit, dropped) = exit_and_dropped(&mut rig, "a");
    assert_eq!(exit.signal, 9);
    assert!(dropped > 0);
    assert!(rig.dir.path().join("exits/a.json").exists());
    // Before the monitor leaves, a thread whose write ends after all has ended as well.
    assert_eq!(tasks(&rig), 2);
    let reader = std::thread::spawn(move || File::from(stalled).read_to_end(&mut Vec::new()));
    until("the thread has ended", || tasks(&rig) == 1);
    assert!(reader.join().unwrap().unwrap() > 0);
    rig.shut_down();
}

/// The number of the monitor's threads.
fn tasks(rig: &Rig) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", rig.process.id())).unwrap();
    tasks.count()
}

#[test]
fn a_container_does_not_wait_for_a_stalled_log_for_ever_and_the_log_goes_on_after_the_stall() {
    let mut rig = Rig::new(&pod());
    let dir = rig.dir.path().display().to_string();
    let script = "mkfifo fifo; seq 200000; exec 3>done; exec cat fifo";
    let stalled = start_stalled(&mut rig, "a", &format!("cd {dir} && {script}"));
    // More than pipe and buffers hold: the rest is dropped.
    until("the container goes on", || rig.dir.path().join("done").exists());
    let mut dropped = match rig.daemon.event() {
        Event::LogDropped { bytes, errno, .. } => {
            assert_eq!(errno, Errno::TIMEDOUT.raw_os_error());
            bytes
        }
        other => panic!("{other:?} instead of dropped bytes"),
    };
    let text = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&text);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(File::from(stalled)).lines() {
            let mut text = seen.lock().unwrap();
            text.push_str(&line.unwrap());
            text.push('\n');
        }
    });
    let mut input = File::options()
        .write(true)
        .open(rig.dir.path().join("fifo"))
        .unwrap();
    let mut written = 0;
    until("the log goes on", || {
        written += input.write(b"again\n").unwrap();
        std::thread::sleep(Duration::from_millis(10));
        text.lock().unwrap().ends_with("again\n")
    });
    drop(input);
    let (exit, more) = exit_and_dropped(&mut rig, "a");
    dropped += more;
    assert_eq!(exit.code, 0);
    reader.join().unwrap();
    let text = text.lock().unwrap();
    let contents = text.lines().map(|line| &line[40..]);
    let numbers = contents.filter_map(|content| content.parse::<u32>().ok());
    assert!(numbers.is_sorted_by(|one, next| one < next));
    let all: usize = (1..=200_000).map(|n: u32| 41 + n.to_string().len()).sum();
    assert_eq!(text.len() as u64 + dropped, (all + written / 6 * 46) as u64);
    rig.shut_down();
}

#[test]
fn a_log_is_reopened_while_the_old_file_stalls() {
    let mut rig = Rig::new(&pod());
    let dir = rig.dir.path().display().to_string();
    let script = "mkfifo fifo; yes | head -c 1000000; read line <fifo; echo end";
    let stalled = start_stalled(&mut rig, "a", &format!("cd {dir} && {script}"));
    let new = open_log(&rig.log());
    let request = Request::ReopenLog {
        container: "a".to_owned(),
    };
    assert_eq!(rig.daemon.ask_with(request, &[new.as_fd()]), Ok(Reply::Done));
    std::fs::write(rig.dir.path().join("fifo"), "\n").unwrap();
    let (exit, dropped) = exit_and_dropped(&mut rig, "a");
    assert_eq!(exit.code, 0);
    assert!(dropped > 0);
    let entries = rig.entries();
    let (last, before) = entries.split_last().unwrap();
    assert_eq!(last, "stdout F end");
    assert!(before.iter().all(|entry| entry == "stdout F y"));
    drop(stalled);
    rig.shut_down();
}

#[test]
fn a_quiet_container_has_no_thread_and_one_that_has_exited_leaves_none() {
    let mut rig = Rig::new(&pod());
    rig.start("quiet", "exec sleep 60");
    assert_eq!(tasks(&rig), 1);
    rig.start("a", "echo here; exec sleep 60");
    until("the log is written", || rig.entries() == ["stdout F here"]);
    assert_eq!(tasks(&rig), 2);
    kill(&mut rig, "a");
    rig.daemon.exit("a");
    until("the thread has ended", || tasks(&rig) == 1);
    kill(&mut rig, "quiet");
    rig.daemon.exit("quiet");
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn where_no_thread_can_be_started_the_monitor_writes_itself() {
    let Some(cgroup) = Cgroup::new("limit") else {
        return;
    };
    let limit = cgroup.0.join("pids.max");
    if !limit.exists() {
        return eprintln!("skipped: needs the pids controller");
    }
    let mut rig = Rig::new(&pod());
    let dir = rig.dir.path().display().to_string();
    rig.start("a", &format!("cd {dir}; mkfifo fifo; touch made; exec cat fifo"));
    until("there is a fifo", || rig.dir.path().join("made").exists());
    let fifo = rig.dir.path().join("fifo");
    let mut input = File::options().write(true).open(fifo).unwrap();
    std::fs::write(cgroup.0.join("cgroup.procs"), rig.process.id().to_string()).unwrap();
    std::fs::write(&limit, "1").unwrap();
    input.write_all(b"one\n").unwrap();
    until("one line is logged", || rig.entries() == ["stdout F one"]);
    assert_eq!(tasks(&rig), 1);
    std::fs::write(&limit, "max").unwrap();
    input.write_all(b"two\n").unwrap();
    until("another line is logged", || {
        rig.entries() == ["stdout F one", "stdout F two"]
    });
    assert_eq!(tasks(&rig), 2);
    drop(input);
    assert_eq!(rig.daemon.exit("a").code, 0);
    rig.shut_down();
}
