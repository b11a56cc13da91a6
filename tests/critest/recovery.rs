//! The daemon may die at any time: pods, containers, logs and exit codes do not notice.

use pausa::proto::v1;
use pausa::proto::v1::{ContainerState, PodSandboxState};
use rustix::process::{Signal, kill_process};
use tonic::Code;

use crate::harness::node::reference;
use crate::harness::pod::{bind, monitor_of};
use crate::harness::{Container, eventually, ok, on_own_node, refused, strings};

async fn counter<'a>(pod: &'a crate::harness::Pod<'_>) -> Container<'a> {
    let script = "trap 'exit 6' TERM; i=0; while :; do i=$((i+1)); echo $i; usleep 20000; done";
    pod.start(|config| config.command = strings(&["sh", "-c", script]))
        .await
}

/// `kill -9`: pods and containers run on, with the same status as before, and can be used and removed.
#[test]
#[ignore = "needs root"]
fn everything_runs_on_when_the_daemon_is_killed() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let running = pod.start(|_| {}).await;
        let exited = pod
            .start(|config| config.command = strings(&["sh", "-c", "exit 3"]))
            .await;
        exited.end().await;
        let created = pod.create(pod.container_config()).await;
        let before = (
            pod.status().await,
            running.status().await,
            exited.status().await,
            created.status().await,
        );
        let pid = running.pid().await;
        node.kill_and_restart_daemon().await;
        let after = (
            pod.status().await,
            running.status().await,
            exited.status().await,
            created.status().await,
        );
        assert_eq!(after, before);
        assert_eq!(running.pid().await, pid);
        assert_eq!(running.sh("echo alive").await, "alive\n");
        created.start().await;
        assert_eq!(created.sh("echo started").await, "started\n");
        running.stop(10).await;
        assert_eq!(running.status().await.exit_code, 0);
        pod.remove().await;
    });
}

/// The log goes on while nobody is there, without a gap, and after.
#[test]
#[ignore = "needs root"]
fn the_log_has_no_gap() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = counter(&pod).await;
        container.says("stdout F 5\n").await;
        node.daemon(crate::harness::daemon::Daemon::kill);
        container.says("stdout F 40\n").await;
        node.daemon(crate::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
        container.says("stdout F 60\n").await;
        container.stop(10).await;
        let ended = container.end().await;
        assert_eq!(ended.status.exit_code, 6);
        let expected: String = (1..=ended.lines.len()).map(|i| format!("{i}\n")).collect();
        assert_eq!(ended.stdout(), expected);
    });
}

/// What ended meanwhile has its true exit code and time.
#[test]
#[ignore = "needs root"]
fn an_exit_that_nobody_saw_is_known() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let go = node.dir().join("go");
        std::fs::create_dir(&go).expect("a directory");
        let container = pod.start(|config| {
            config.command = strings(&[
                "sh",
                "-c",
                "echo up; until test -e /go/now; do usleep 20000; done; echo bye; exit 9",
            ]);
            config.mounts = vec![bind(&go, "/go")];
        });
        let container = container.await;
        container.says("up").await;
        let pid = container.pid().await;
        node.daemon(crate::harness::daemon::Daemon::kill);
        std::fs::write(go.join("now"), "").expect("a file");
        let process = format!("/proc/{pid}");
        eventually("the process is gone", async || {
            (!std::path::Path::new(&process).exists()).then_some(())
        })
        .await;
        let gone = jiff::Timestamp::now().as_nanosecond();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        node.daemon(crate::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
        let ended = container.end().await;
        assert_eq!(
            (ended.status.exit_code, ended.status.reason.as_str()),
            (9, "Error")
        );
        assert!(
            i128::from(ended.status.finished_at) <= gone,
            "the time it ended, not when it was noticed"
        );
        assert_eq!(ended.stdout(), "up\nbye\n");
    });
}

/// SIGTERM is an orderly stop of the daemon, not of the pods.
#[test]
#[ignore = "needs root"]
fn sigterm_stops_only_the_daemon() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = counter(&pod).await;
        container.says("stdout F 3\n").await;
        let status = node.daemon(crate::harness::daemon::Daemon::terminate);
        assert!(status.success(), "{status}");
        node.daemon(crate::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
        assert_eq!(container.status().await.state(), ContainerState::ContainerRunning);
        container.stop(10).await;
        assert_eq!(container.end().await.status.exit_code, 6);
    });
}

/// Images, and pods that were stopped, are still what they were.
#[test]
#[ignore = "needs root"]
fn images_and_stopped_pods_are_kept() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        pod.stop().await;
        let image = node.image(&reference("base")).await;
        let before = pod.status().await;
        node.kill_and_restart_daemon().await;
        assert_eq!(node.image(&reference("base")).await, image);
        assert_eq!(pod.status().await, before);
        assert_eq!(before.state(), PodSandboxState::SandboxNotready);
        let other = node.pod().await;
        assert_eq!(other.sh("echo works").await, "works\n", "the kept image runs");
    });
}

/// The address of a pod from before is not given to a pod from after.
#[test]
#[ignore = "needs root"]
fn addresses_stay_taken() {
    on_own_node(async |node| {
        let first = node.pod().await;
        let ip = first.ip().await;
        node.kill_and_restart_daemon().await;
        let second = node.pod().await;
        assert_eq!(first.ip().await, ip);
        assert_ne!(second.ip().await, ip);
    });
}

/// Killed in the middle of anything: afterwards each pod is either there, whole and removable, or leaves no trace.
#[test]
#[ignore = "needs root"]
fn killed_in_the_middle_of_starting_pods() {
    on_own_node(async |node| {
        node.pull("base").await;
        for millis in [2_u64, 5, 10, 20, 40] {
            let configs: Vec<_> = (0..4).map(|_| node.pod_config()).collect();
            let calls = futures_util::future::join_all(configs.iter().map(|config| node.try_pod(config)));
            let killing = async {
                tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                node.daemon(crate::harness::daemon::Daemon::kill);
            };
            tokio::join!(calls, killing);
            node.daemon(crate::harness::daemon::Daemon::restart);
            node.until_it_answers().await;
            for config in configs {
                // The pod is there, or it was caught half-way: then it is not ready, and kubelet's next attempt is new.
                match node.try_pod(&config).await {
                    Err(status) if status.code() == tonic::Code::FailedPrecondition => {}
                    answer => drop(ok("RunPodSandbox again", answer)),
                }
            }
            let left = ok(
                "List",
                node.runtime()
                    .list_pod_sandbox(v1::ListPodSandboxRequest::default())
                    .await,
            )
            .items;
            for pod in left {
                node.remember(&pod.id);
                let request = v1::RemovePodSandboxRequest {
                    pod_sandbox_id: pod.id,
                };
                ok(
                    "RemovePodSandbox",
                    node.runtime().remove_pod_sandbox(request).await,
                );
            }
        }
    });
}

/// Killed while removing: the removal can be asked for again and ends.
#[test]
#[ignore = "needs root"]
fn killed_in_the_middle_of_removing_pods() {
    on_own_node(async |node| {
        for millis in [1_u64, 4, 16] {
            let pod = node.pod().await;
            pod.start(|_| {}).await;
            let request = v1::RemovePodSandboxRequest {
                pod_sandbox_id: pod.id.clone(),
            };
            let mut runtime = node.runtime();
            let killing = async {
                tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                node.daemon(crate::harness::daemon::Daemon::kill);
            };
            let (answer, ()) = tokio::join!(runtime.remove_pod_sandbox(request), killing);
            drop(answer);
            node.daemon(crate::harness::daemon::Daemon::restart);
            node.until_it_answers().await;
            pod.remove().await;
        }
    });
}

/// The kernel is the truth: a container killed behind the daemon's back is EXITED.
#[test]
#[ignore = "needs root"]
fn a_container_killed_from_outside_has_exited() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let pid = rustix::process::Pid::from_raw(container.pid().await).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        let ended = container.end().await.status;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    });
}

/// A monitor that dies during ExecSync: the answer says that, and not that the container was removed (which kubelet would
/// take for an absent container).
#[test]
#[ignore = "needs root"]
fn an_exec_whose_monitor_dies_is_unavailable() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let monitor = monitor_of(node, &pod);
        let exec = container.try_exec(&["sh", "-c", "touch /began; sleep 1000"], 0);
        let kill = async {
            eventually("the command runs", async || {
                let look = container.exec(&["test", "-e", "/began"]).await;
                (look.exit_code == 0).then_some(())
            })
            .await;
            kill_process(monitor, Signal::KILL).expect("a monitor");
        };
        let (answer, ()) = tokio::join!(exec, kill);
        let text = refused(Code::Unavailable, answer);
        assert!(text.contains("monitor"), "{text}");
        pod.remove().await;
    });
}
