//! A pod's monitor that lives and does not answer, and other ways in which daemon and monitor lose each other.

use std::os::fd::OwnedFd;
use std::path::Path;

use pausa::proto::v1::{ContainerState, PodSandboxState};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};
use tonic::Code;

use crate::harness::daemon::Daemon;
use crate::harness::pod::monitor_of;
use crate::harness::{Container, Node, Pod, eventually, on_own_node, refused, strings};

/// A monitor that was stopped. It goes on when this is dropped, so that a failed test can be cleaned up.
pub(crate) struct Stopped(Pid);

impl Stopped {
    pub(crate) fn monitor_of(node: &Node, pod: &Pod<'_>) -> Self {
        let pid = monitor_of(node, pod);
        kill_process(pid, Signal::STOP).expect("SIGSTOP");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap_or_default();
    }
}

async fn is_ready(pod: &Pod<'_>) -> bool {
    pod.status().await.state() == PodSandboxState::SandboxReady
}

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.starts_with(['Z', 'X']))
        && !stat.is_empty()
}

async fn sleeper<'a>(pod: &'a Pod<'_>) -> Container<'a> {
    pod.start(|config| config.command = strings(&["sleep", "3600"]))
        .await
}

/// A monitor may be silent for minutes, and a daemon is restarted just then. That costs no pod.
#[test]
#[ignore = "needs root"]
fn a_new_daemon_waits_for_a_silent_monitor() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = sleeper(&pod).await;
        let pid = container.pid().await;
        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        assert!(is_ready(&pod).await);
        assert_eq!(container.status().await.state(), ContainerState::ContainerRunning);
        let message = refused(Code::Unavailable, container.try_exec(&["true"], 5).await);
        assert!(message.contains("does not answer"), "{message}");
        drop(stopped);
        eventually("an exec works again", async || {
            container.try_exec(&["true"], 5).await.ok()
        })
        .await;
        assert!(is_ready(&pod).await);
        assert_eq!(container.pid().await, pid);
        pod.remove().await;
    });
}

/// What ended while the monitor was silent to the new daemon is known when it answers.
#[test]
#[ignore = "needs root"]
fn an_exit_is_known_when_the_monitor_answers_again() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", "trap 'exit 7' TERM; sleep 3600 & wait"]))
            .await;
        let pid = container.pid().await;
        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        kill_process(Pid::from_raw(pid).expect("a process id"), Signal::TERM).expect("SIGTERM");
        drop(stopped);
        let ended = container.end().await;
        assert_eq!(ended.status.exit_code, 7);
        pod.remove().await;
    });
}

/// CRI `StopContainer`, `StopPodSandbox`, `RemovePodSandbox`: they end what runs, whatever the monitor does.
#[test]
#[ignore = "needs root"]
fn a_container_is_killed_without_its_monitor() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = sleeper(&pod).await;
        let pid = container.pid().await;
        let stopped = Stopped::monitor_of(node, &pod);
        container.stop(1).await;
        assert!(!lives(pid));
        let status = container.status().await;
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!(status.exit_code, 137);
        let log = node.daemon_log();
        assert!(log.contains("killed a container without its monitor"), "{log}");
        drop(stopped);
        eventually("the monitor serves other containers", async || {
            let other = pod.create(pod.container_config()).await;
            other.try_start().await.ok()
        })
        .await;
        pod.remove().await;
    });
}

/// A pod whose monitor never answers again can be removed, and nothing of it is left.
#[test]
#[ignore = "needs root"]
fn a_pod_with_a_silent_monitor_can_be_removed() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = sleeper(&pod).await;
        let pid = container.pid().await;
        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        pod.stop().await;
        assert!(!lives(pid));
        pod.remove().await;
        assert!(!lives(stopped.0.as_raw_nonzero().get()));
    });
}

/// The state directory is below `/run` and may get lost while the machine runs. What runs must not go on beside the pods that
/// replace it.
#[test]
#[ignore = "needs root"]
fn nothing_runs_on_when_the_state_directory_is_lost() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = sleeper(&pod).await;
        // Records are copied to the persistent tree a moment later.
        let kept = node.dir().join("r/pods").join(&pod.id);
        let kept_container = kept.join("containers").join(&container.id).join("container.json");
        eventually("the records are copied", async || {
            let text = std::fs::read_to_string(&kept_container).unwrap_or_default();
            (kept.join("pod.json").exists() && text.contains("started_at")).then_some(())
        })
        .await;
        lose_state(node, &pod, &container).await;
        assert_eq!(container.status().await.state(), ContainerState::ContainerExited);
        assert!(!is_ready(&pod).await);
        pod.remove().await;
    });
}

/// The same before the records were copied: then nothing is known of the pod any more.
#[test]
#[ignore = "needs root"]
fn nothing_runs_on_when_all_records_are_lost() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = sleeper(&pod).await;
        lose_state(node, &pod, &container).await;
    });
}

/// Restarts the daemon without its state directory, and waits until what ran is gone.
async fn lose_state(node: &Node, pod: &Pod<'_>, container: &Container<'_>) {
    let (pid, monitor) = (container.pid().await, monitor_of(node, pod));
    node.daemon(Daemon::kill);
    let state = node.dir().join("s");
    let lost = node.dir().join("lost");
    std::fs::rename(&state, &lost).expect("rename the state directory");
    node.daemon(Daemon::restart);
    node.until_it_answers().await;
    eventually("all processes are killed", async || {
        (!lives(pid) && !lives(monitor.as_raw_nonzero().get())).then_some(())
    })
    .await;
    unmount_below(&lost);
    std::fs::remove_dir_all(lost).expect("remove what was lost");
}

fn unmount_below(directory: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(directory)) {
        rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
}

fn connect_to_monitor(node: &Node, pod: &Pod<'_>) -> OwnedFd {
    let path = node.dir().join("s/pods").join(&pod.id).join("monitor.sock");
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let socket = socket.expect("a socket");
    let address = SocketAddrUnix::new(path).expect("an address");
    rustix::net::connect(&socket, &address).expect("connect");
    socket
}

/// A monitor that has run out of descriptors cuts a connection. The daemon connects again.
#[test]
#[ignore = "needs root"]
fn a_cut_connection_costs_no_pod() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = sleeper(&pod).await;
        let monitor = monitor_of(node, &pod);
        let directory = format!("/proc/{}/fd", monitor.as_raw_nonzero());
        let numbers = std::fs::read_dir(directory).expect("its descriptors");
        let numbers: Vec<u64> = numbers
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let free = (0..).find(|number| !numbers.contains(number)).expect("a number");
        let all = rustix::process::getrlimit(Resource::Nofile);
        let few = Rlimit {
            current: Some(free),
            ..all
        };
        rustix::process::prlimit(Some(monitor), Resource::Nofile, few).expect("prlimit");
        let ours = connect_to_monitor(node, &pod);
        eventually("the daemon has noticed", async || {
            node.daemon_log()
                .contains("connected to the pod's monitor again")
                .then_some(())
        })
        .await;
        drop(ours);
        rustix::process::prlimit(Some(monitor), Resource::Nofile, all).expect("prlimit");
        eventually("an exec works", async || {
            container.try_exec(&["true"], 5).await.ok()
        })
        .await;
        assert!(is_ready(&pod).await);
        pod.remove().await;
    });
}

/// proc_pid_oom_score_adj(5): a container that fills a tmpfs must not cost the pod its monitor.
#[test]
#[ignore = "needs root"]
fn the_oom_killer_spares_the_monitor() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let score = |pid: i32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
            text.trim().parse::<i32>().expect("a number")
        };
        let container = sleeper(&pod).await;
        assert!(
            score(container.pid().await) >= 0,
            "a container inherits nothing of it"
        );
        let monitor = monitor_of(node, &pod).as_raw_nonzero().get();
        if std::fs::write("/proc/self/oom_score_adj", "-1000").is_err() {
            eprintln!("skipped: the score cannot be lowered here (CAP_SYS_RESOURCE)");
            return;
        }
        assert_eq!(score(monitor), -1000);
        pod.remove().await;
    });
}
