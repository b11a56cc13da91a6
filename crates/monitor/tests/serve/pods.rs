use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;

use pausa_monitor_protocol::{Event, FailureKind, PodNamespaces, PodPlan, Reply, Request, SOCKET_NAME};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, test_kill_process};

use crate::rig::{Rig, pod, until};

fn namespace(pid: &str, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}"))
        .unwrap()
        .display()
        .to_string()
}

/// A pod with a shared PID namespace and its pause process; none without root.
fn with_shared_pids() -> Option<(Rig, Pid)> {
    let mut rig = Rig::new(&PodPlan {
        shared_pid: true,
        ..pod()
    });
    let pause = pause(&mut rig).expect("a pause process");
    Some((rig, pause))
}

/// The pause process that a pod has.
fn pause(rig: &mut Rig) -> Option<Pid> {
    let Reply::Hello { pause, .. } = rig.daemon.hello() else {
        panic!("Hello is answered by Hello")
    };
    Pid::from_raw(pause?)
}

#[test]
fn a_pod_is_set_up_once() {
    let mut rig = Rig::new(&pod());
    let again = rig.set_up(&PodNamespaces::default(), &pod()).unwrap_err();
    assert_eq!(again.kind, FailureKind::State);
    let again = rig.daemon.ask(Request::Setup(pod())).unwrap_err();
    assert_eq!(again.kind, FailureKind::State);
    let mode = fs::metadata(rig.dir.path().join(SOCKET_NAME))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_pod_gets_the_namespaces_it_asks_for() {
    let namespaces = PodNamespaces {
        network: true,
        ipc: true,
        uts: true,
        sysctls: vec![
            ("net.ipv4.ip_unprivileged_port_start".to_owned(), "77".to_owned()),
            ("kernel/shm_rmid_forced".to_owned(), "1".to_owned()),
        ],
        users: None,
    };
    let plan = PodPlan {
        hostname: Some("kärnhaus".to_owned()),
        ..pod()
    };
    let mut rig = Rig::bare(env!("CARGO_BIN_EXE_plain-monitor"));
    rig.daemon.hello();
    rig.set_up(&namespaces, &plan).unwrap();
    let pid = rig.process.id().to_string();
    for name in ["net", "ipc", "uts"] {
        assert_ne!(namespace(&pid, name), namespace("self", name), "{name}");
    }
    for name in ["pid", "mnt", "user", "cgroup"] {
        assert_eq!(namespace(&pid, name), namespace("self", name), "{name}");
    }
    rig.start(
        "a",
        "cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_unprivileged_port_start \
         /proc/sys/kernel/shm_rmid_forced; cat /sys/class/net/lo/flags /proc/net/if_inet6 | grep -c lo",
    );
    rig.daemon.exit("a");
    assert_eq!(
        rig.entries(),
        ["stdout F kärnhaus", "stdout F 77", "stdout F 1", "stdout F 1"]
    );
    rig.shut_down();
}

#[test]
fn a_sysctl_that_cannot_be_set_is_named_and_the_pod_is_not_made() {
    let mut rig = Rig::bare(env!("CARGO_BIN_EXE_plain-monitor"));
    rig.daemon.hello();
    let namespaces = PodNamespaces {
        sysctls: vec![("net.no_such".to_owned(), "1".to_owned())],
        ..PodNamespaces::default()
    };
    let failure = rig.set_up(&namespaces, &pod()).unwrap_err();
    assert!(failure.step.contains("net.no_such"), "{failure}");
    assert_eq!(rig.daemon.ask(Request::Shutdown), Ok(Reply::Done));
    assert!(rig.process.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn the_pause_process_has_nothing_and_its_end_is_told() {
    let Some((mut rig, pause_pid)) = with_shared_pids() else {
        return;
    };
    let proc = format!("/proc/{}", pause_pid.as_raw_nonzero());
    assert_eq!(fs::read_to_string(format!("{proc}/comm")).unwrap(), "pause\n");
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Uid:"), "65535\t65535\t65535\t65535");
    assert!(field("NSpid:").ends_with("\t1"));
    // It is ready when setup is done, but closes its descriptors a moment after saying so.
    until("its descriptors are closed", || {
        fs::read_dir(format!("{proc}/fd")).unwrap().count() == 0
    });
    let root: Vec<_> = fs::read_dir(format!("{proc}/root/"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(root, ["proc"]);
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(fs::read(format!("{proc}/environ")).unwrap_or_default(), b"");
    let maps = fs::read_to_string(format!("{proc}/maps")).unwrap();
    assert!(!maps.contains("[heap]") && !maps.contains("[stack]"), "{maps}");
    assert!(File::create(format!("{proc}/root/x")).is_err());
    kill_process(pause_pid, Signal::TERM).unwrap();
    assert_eq!(rig.daemon.event(), Event::PauseExited);
    assert_eq!(pause(&mut rig), None);
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn the_pause_process_dies_with_its_monitor() {
    let Some((mut rig, pause)) = with_shared_pids() else {
        return;
    };
    let pidfd = pidfd_open(pause, PidfdFlags::empty()).unwrap();
    rig.process.kill().unwrap();
    rig.process.wait().unwrap();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    assert_eq!(poll(&mut fds, None), Ok(1));
}

#[test]
#[ignore = "needs root"]
fn shutdown_takes_the_pause_process_along() {
    let Some((rig, pause)) = with_shared_pids() else {
        return;
    };
    rig.shut_down();
    assert!(test_kill_process(pause).is_err());
}
