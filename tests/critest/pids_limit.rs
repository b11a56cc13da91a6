//! A pod that has reached its limit of pids (kubelet's `podPidsLimit`, KEP-757): it is still probed, looked into and stopped.

use std::path::{Path, PathBuf};

use pausa::proto::v1;

use crate::harness::cgroup::file;
use crate::harness::pod::{security, share_pids};
use crate::harness::stream::{Transport, Want};
use crate::harness::{Container, Pod, eventually, on_pausa, strings};
use crate::user_namespaces;

/// The cgroup of the container's pod that counts pids.
async fn pod_cgroup(container: &Container<'_>) -> PathBuf {
    let file = file(container.pid().await, "pids", "pids.max", "pids.max");
    let pod = file.ancestors().nth(2).expect("a pod's cgroup");
    pod.to_owned()
}

fn number(cgroup: &Path, file: &str) -> u64 {
    let text = std::fs::read_to_string(cgroup.join(file)).expect("a file of the pod's cgroup");
    text.trim().parse().expect("a number")
}

/// A container with ten more processes, in a pod that may have no more than that.
async fn full<'a>(pod: &'a Pod<'_>) -> (Container<'a>, PathBuf) {
    let script =
        "trap 'exit 0' TERM; i=0; while [ $i -lt 10 ]; do sleep 3600 & i=$((i+1)); done; echo full; wait";
    let container = pod
        .start(|config| config.command = strings(&["sh", "-c", script]))
        .await;
    container.says("full").await;
    let cgroup = pod_cgroup(&container).await;
    let count = number(&cgroup, "pids.current");
    std::fs::write(cgroup.join("pids.max"), count.to_string()).expect("a limit");
    (container, cgroup)
}

/// Where the processes of an exec are made, of this pod; none when no exec is being started.
async fn no_birth_is_left(pod: &Pod<'_>) {
    let name = format!("exec-{}", &pod.id[..13]);
    eventually("the cgroups outside of the pod are gone", async || {
        let parents =
            ["pids/pausa", "pausa", "pausa.slice"].map(|path| Path::new("/sys/fs/cgroup").join(path));
        let entries = parents
            .iter()
            .filter_map(|parent| std::fs::read_dir(parent).ok())
            .flatten()
            .flatten();
        let mut births = entries.filter(|entry| entry.file_name().to_string_lossy().contains(&name));
        // systemd's driver leaves the directory that holds them until the pod is removed.
        births
            .all(|births| {
                std::fs::read_dir(births.path())
                    .is_ok_and(|mut below| !below.any(|one| one.is_ok_and(|one| one.path().is_dir())))
            })
            .then_some(())
    })
    .await;
}

/// An exec is made outside of the pod and moved into it, which the kernel permits beyond the limit. Before its first
/// instruction it is where it belongs: it sees itself at the root of the container's cgroup, and is held to the limit.
#[test]
#[ignore = "needs root"]
fn exec_works_in_a_pod_that_is_full() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let (container, cgroup) = full(&pod).await;
        let count = number(&cgroup, "pids.current");
        let done = container.exec(&["cat", "/proc/self/cgroup"]).await;
        let cgroups = String::from_utf8_lossy(&done.stdout).into_owned();
        let inside = cgroups
            .lines()
            .any(|line| line.ends_with(":pids:/") || line == "0::/");
        assert!(inside, "{cgroups}");
        let done = container.exec(&["sh", "-c", "sleep 3600 & echo forked"]).await;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.exit_code != 0 && said.contains("fork"), "{done:?}");
        let probes = (0..8).map(|_| container.exec(&["true"]));
        let codes = futures_util::future::join_all(probes).await;
        assert!(codes.iter().all(|done| done.exit_code == 0), "{codes:?}");
        eventually("the count is as before", async || {
            (number(&cgroup, "pids.current") == count).then_some(())
        })
        .await;
        no_birth_is_left(&pod).await;
        container.stop(5).await;
        assert_eq!(container.status().await.exit_code, 0);
    });
}

/// As above, with the streams of `kubectl exec`, with and without a terminal.
#[test]
#[ignore = "needs root"]
fn streams_work_in_a_pod_that_is_full() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let (container, cgroup) = full(&pod).await;
        let count = number(&cgroup, "pids.current");
        for transport in Transport::BOTH {
            let script = "read line; echo \"got $line\"; exit 7";
            let mut remote = container
                .exec_stream(transport, &["sh", "-c", script], Want::ALL)
                .await;
            eventually("the shell waits for its line", async || {
                (number(&cgroup, "pids.current") == count + 1).then_some(())
            })
            .await;
            remote.send(b"typed\n").await;
            let done = remote.finish().await;
            assert_eq!(
                (&*done.stdout(), done.code()),
                ("got typed\n", 7),
                "{transport:?}"
            );
            let done = container
                .exec_stream(transport, &["tty"], Want::TERMINAL)
                .await
                .finish()
                .await;
            assert_eq!(done.stdout(), "/dev/pts/0\r\n", "{transport:?}");
        }
        no_birth_is_left(&pod).await;
    });
}

/// Pods with a user namespace, and pods whose containers share a PID namespace, which an exec enters by another way.
#[test]
#[ignore = "needs root"]
fn exec_works_in_every_kind_of_pod_that_is_full() {
    on_pausa(async |node| {
        let mut changes: Vec<fn(&mut v1::PodSandboxConfig)> = vec![share_pids];
        if user_namespaces::can(node).await {
            changes.push(user_namespaces::set_default);
        }
        for change in changes {
            let pod = node.pod_with(change).await;
            let (container, _) = full(&pod).await;
            assert_eq!(container.exec(&["true"]).await.exit_code, 0);
            container.stop(5).await;
        }
    });
}

/// A container that makes processes as fast as it can, and may trace those that enter it, gets none beyond its limit by
/// the execs that are made outside of it.
#[test]
#[ignore = "needs root"]
fn a_fork_bomb_does_not_spread_by_execs() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        // An interactive shell goes on after a fork that failed; any other ends, so nothing else forks once it has begun.
        let bomb = "{ until [ -e /go ]; do :; done; exec yes 'sleep 0 &'; } | sh -i >/dev/null 2>&1 &";
        let script = format!("for i in 1 2 3; do {bomb} done; echo up; wait");
        let container = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", &script]);
                security(config).capabilities = Some(v1::Capability {
                    add_capabilities: strings(&["SYS_PTRACE"]),
                    ..Default::default()
                });
            })
            .await;
        container.says("up").await;
        let cgroup = pod_cgroup(&container).await;
        std::fs::write(cgroup.join("pids.max"), "24").expect("a limit");
        container.sh("touch /go").await;
        eventually("it is at its limit", async || {
            (number(&cgroup, "pids.current") >= 24).then_some(())
        })
        .await;
        for _ in 0..30 {
            assert_eq!(container.exec(&["true"]).await.exit_code, 0);
        }
        eventually("no more than may be", async || {
            (number(&cgroup, "pids.current") <= 24).then_some(())
        })
        .await;
        no_birth_is_left(&pod).await;
        container.stop(0).await;
    });
}
