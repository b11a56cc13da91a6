use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use pausa_monitor_protocol::{
    CapabilitySets, ContainerPlan, Event, FailureKind, IoPlan, Namespace, NamespacePlan, PodNamespaces,
    PodPlan, ProcessPlan, ProcessState, Propagation, Reply, Request,
};

use super::{Events, Monitor, MonitorBinary, MonitorError, connect, exited};

fn pod() -> PodPlan {
    PodPlan {
        pod: "pod".to_owned(),
        hostname: None,
        shared_pid: false,
        oom_score_adj: 0,
    }
}

/// A monitor that has just been started.
struct Started {
    monitor: Monitor,
    events: Events,
    pidfd: OwnedFd,
}

async fn started() -> (Started, tempfile::TempDir) {
    let (monitor, events, pidfd) = MonitorBinary::prepare().unwrap().start("pod").await.unwrap();
    let started = Started {
        monitor,
        events,
        pidfd,
    };
    let dir = tempfile::tempdir().unwrap();
    let base_mounts = pausa_sys::base_mounts().unwrap();
    let unshared = started.monitor.unshare(PodNamespaces::default(), Vec::new());
    unshared.await.unwrap();
    started
        .monitor
        .set_up(pod(), dir.path(), &base_mounts, Vec::new())
        .await
        .unwrap();
    (started, dir)
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_monitor_is_started_from_memory_and_leaves_when_told() {
    let (mut started, _dir) = started().await;
    let pid = started.monitor.pid();
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(
        program.to_string_lossy().starts_with("/memfd:pausa-monitor"),
        "{program:?}"
    );
    assert_eq!(
        std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(),
        "pausa-monitor\n"
    );
    let reply = started
        .monitor
        .request(Request::Shutdown, Vec::new())
        .await
        .unwrap();
    assert_eq!(reply, Reply::Done);
    assert_eq!(exited(started.pidfd).await.unwrap(), Some(0));
    assert_eq!(started.events.recv().await, None);
    let gone = started
        .monitor
        .request(Request::Shutdown, Vec::new())
        .await
        .unwrap_err();
    assert!(
        matches!(gone, MonitorError::Gone { .. } | MonitorError::Socket { .. }),
        "{gone:?}"
    );
}

#[tokio::test]
async fn many_requests_are_under_way_at_once_and_each_gets_its_own_answer() {
    let (started, _dir) = started().await;
    let shared = Arc::new(started.monitor);
    let asked = (0..200).map(|number| {
        let monitor = Arc::clone(&shared);
        tokio::spawn(async move {
            let container = format!("c{number}");
            monitor.request(Request::Forget { container }, Vec::new()).await
        })
    });
    for (number, answer) in futures_util::future::join_all(asked)
        .await
        .into_iter()
        .enumerate()
    {
        let MonitorError::Refused(failure) = answer.unwrap().unwrap_err() else {
            panic!()
        };
        assert_eq!(failure.kind, FailureKind::NotFound);
        assert!(failure.step.contains(&format!("c{number} ")), "{failure}");
    }
    shared.request(Request::Shutdown, Vec::new()).await.unwrap();
    exited(started.pidfd).await.unwrap();
}

#[tokio::test]
async fn a_monitor_that_is_killed_fails_what_is_under_way() {
    let (mut started, dir) = started().await;
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(started.events.recv().await, None);
    let gone = started
        .monitor
        .request(Request::Shutdown, Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(gone, MonitorError::Gone { .. }), "{gone:?}");
    assert_eq!(
        exited(started.pidfd).await.unwrap(),
        None,
        "killed, so it has no status"
    );
    let nobody = connect(dir.path().to_owned()).await.unwrap_err();
    assert!(matches!(nobody, MonitorError::Connect { .. }), "{nobody:?}");
}

#[tokio::test]
#[ignore = "needs root"]
async fn the_next_daemon_finds_the_pod_and_its_container() {
    let (started, dir) = started().await;
    let Started {
        monitor,
        events,
        pidfd,
    } = started;
    let Reply::Started { pid, .. } = monitor
        .request(container("sleep 1000"), vec![root()])
        .await
        .unwrap()
    else {
        panic!()
    };
    drop((monitor, events));
    let (monitor, mut events) = connect(dir.path().to_owned()).await.unwrap();
    let [report] = monitor.containers() else {
        panic!("{:?}", monitor.containers())
    };
    assert_eq!((report.pid, report.state), (pid, ProcessState::Running));
    monitor
        .request(
            Request::KillAll {
                container: "a".into(),
            },
            Vec::new(),
        )
        .await
        .unwrap();
    let Some(Event::Exited { exit, .. }) = events.recv().await else {
        panic!()
    };
    assert_eq!(exit.code, 137);
    monitor.request(Request::Shutdown, Vec::new()).await.unwrap();
    exited(pidfd).await.unwrap();
}

/// The host's own root file system, without what is mounted on it.
fn root() -> OwnedFd {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, "/", flags).unwrap()
}

fn container(script: &str) -> Request {
    Request::Start(Box::new(ContainerPlan {
        id: "a".to_owned(),
        fds: vec![pausa_monitor_protocol::FdRole::Root],
        namespaces: NamespacePlan {
            pid: Namespace::New,
            ipc: Namespace::Pod,
            network: Namespace::Pod,
            uts: Namespace::Pod,
            cgroup: Namespace::Host,
        },
        root_propagation: Propagation::Private,
        root_readonly: true,
        mounts: Vec::new(),
        devices: Vec::new(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        io: IoPlan::default(),
        log: None,
        process: ProcessPlan {
            args: ["/bin/sh", "-c", script]
                .map(|word| word.as_bytes().to_vec())
                .to_vec(),
            env: vec![b"PATH=/usr/bin:/bin".to_vec()],
            cwd: b"/".to_vec(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            umask: 0o022,
            capabilities: CapabilitySets::default(),
            no_new_privs: true,
            seccomp: None,
            rlimits: Vec::new(),
            oom_score_adj: None,
            apparmor: None,
            selinux: None,
            terminal: false,
            terminal_size: None,
        },
    }))
}

mod versions;

#[test]
fn the_embedded_program_is_static_and_at_a_fixed_address() {
    let path = env!("PAUSA_MONITOR");
    let mut head = [0; 64];
    std::io::Read::read_exact(&mut File::open(path).unwrap(), &mut head).unwrap();
    assert_eq!(&head[..4], b"\x7fELF");
    assert_eq!(u16::from_ne_bytes([head[16], head[17]]), 2, "ET_EXEC");
}
