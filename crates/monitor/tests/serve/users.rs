//! Pods with a user namespace.

use std::fs::{File, metadata, read_link, read_to_string};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;

use pausa_monitor_protocol::{Event, FdRole, IdRange, Namespace, PodNamespaces, PodPlan, Reply, Request};

use crate::builtin::{filesystem, image, plan, real};
use crate::rig::{Rig, exec, open_log, pod, until};

const RANGE: IdRange = IdRange {
    first: 500_000,
    length: 65_536,
};

fn pod_with_users() -> (PodNamespaces, PodPlan) {
    let namespaces = PodNamespaces {
        network: true,
        ipc: true,
        uts: true,
        users: Some(RANGE),
        sysctls: [
            ("net.ipv4.ping_group_range", "0 65535"),
            ("kernel.shm_rmid_forced", "1"),
            ("fs.mqueue.msg_max", "11"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    };
    let plan = PodPlan {
        hostname: Some("hearth".to_owned()),
        ..pod()
    };
    (namespaces, plan)
}

/// Whether the kernel mounts its file systems in user namespaces here.
fn able() -> bool {
    let able = pausa_sys::check_mounts_inside();
    able.inspect_err(|error| eprintln!("skipped: {error} is refused"))
        .is_ok()
}

fn start(rig: &mut Rig, id: &str, script: &str, pid: Namespace) -> i32 {
    let mut plan = plan(id, script);
    plan.fds = vec![FdRole::Root, FdRole::Log];
    plan.namespaces.pid = pid;
    plan.mounts.push(filesystem("/sys", "sysfs"));
    plan.mounts.push(filesystem("/dev/mqueue", "mqueue"));
    let root = image(rig.dir.path());
    let users = pausa_sys::user_namespace(RANGE.first, RANGE.length).unwrap();
    pausa_sys::map_mount_ids(root.as_fd(), users.as_fd(), false).unwrap();
    let log = open_log(&rig.log());
    rig.daemon.start(&plan, &[root.as_fd(), log.as_fd()]).unwrap()
}

#[test]
#[ignore = "needs root"]
fn all_namespaces_belong_to_the_pods_user_namespace() {
    if !able() {
        return;
    }
    let (namespaces, plan) = pod_with_users();
    let Some(mut rig) = real(&namespaces, &plan) else {
        return;
    };
    let Reply::Hello { pid: monitor, .. } = rig.daemon.hello() else {
        panic!()
    };
    let script = "id -u; cat /proc/self/uid_map /proc/sys/net/ipv4/ping_group_range \
                  /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max; hostname; exec sleep 1000";
    let pid = start(&mut rig, "a", script, Namespace::New);
    until("six log entries", || rig.entries().len() >= 6);
    let words: Vec<String> = rig
        .entries()
        .iter()
        .flat_map(|line| {
            line.split_whitespace()
                .skip(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(
        words,
        ["0", "0", "500000", "65536", "0", "65535", "1", "11", "hearth"]
    );
    assert_eq!(metadata(format!("/proc/{pid}")).unwrap().uid(), RANGE.first);
    let users = read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_ne!(users, read_link("/proc/self/ns/user").unwrap());
    for kind in ["net", "ipc", "uts", "pid", "mnt"] {
        let namespace = File::open(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let owner = File::from(pausa_sys::owner_of(namespace.as_fd()).unwrap());
        let owner = format!("user:[{}]", owner.metadata().unwrap().ino());
        assert_eq!(users.to_str(), Some(owner.as_str()), "{kind}");
    }
    // The monitor has the pod's network but none of its limits.
    let of_monitor = |kind: &str| read_link(format!("/proc/{monitor}/ns/{kind}")).unwrap();
    assert_eq!(
        of_monitor("net"),
        read_link(format!("/proc/{pid}/ns/net")).unwrap()
    );
    assert_eq!(of_monitor("user"), read_link("/proc/self/ns/user").unwrap());

    let (read, write) = rustix::pipe::pipe().unwrap();
    let request = Request::Exec(Box::new(exec("e", "a", "cat /proc/self/uid_map > /dev/stdout")));
    rig.daemon.ask_with(request, &[write.as_fd()]).unwrap();
    drop(write);
    let seen = std::io::read_to_string(File::from(read)).unwrap();
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["0", "500000", "65536"]
    );
    assert!(matches!(rig.daemon.event(), Event::ExecExited { .. }));
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn pause_is_inside_and_containers_share_its_processes() {
    if !able() {
        return;
    }
    let (namespaces, mut plan) = pod_with_users();
    plan.shared_pid = true;
    let Some(mut rig) = real(&namespaces, &plan) else {
        return;
    };
    let Reply::Hello {
        pause: Some(pause), ..
    } = rig.daemon.hello()
    else {
        panic!()
    };
    let status = read_to_string(format!("/proc/{pause}/status")).unwrap();
    assert!(status.contains("Uid:\t565535\t565535"), "{status}");
    start(&mut rig, "a", "exec sleep 1000", Namespace::Pod);
    start(
        &mut rig,
        "b",
        "cat /proc/1/comm /proc/2/comm; ps | grep -c slee[p]",
        Namespace::Pod,
    );
    assert_eq!(rig.daemon.exit("b").code, 0);
    let seen = rig.entries();
    assert!(seen.contains(&"stdout F pause".to_owned()), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("stdout F 1"), "{seen:?}");
    rig.shut_down();
    assert!(metadata(format!("/proc/{pause}")).is_err());
}

#[test]
#[ignore = "needs root"]
fn a_sysctl_that_fails_inside_is_named() {
    let mut rig = Rig::bare(env!("CARGO_BIN_EXE_pausa-monitor"));
    rig.daemon.hello();
    let (mut namespaces, plan) = pod_with_users();
    namespaces.sysctls = vec![("net.no_such".to_owned(), "1".to_owned())];
    let failure = rig.set_up(&namespaces, &plan).unwrap_err();
    assert!(failure.step.contains("net.no_such"), "{failure}");
    assert_eq!(failure.errno, 2);
    assert_eq!(rig.daemon.ask(Request::Shutdown), Ok(Reply::Done));
    assert!(rig.process.wait().unwrap().success());
}
