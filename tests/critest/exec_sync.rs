//! ExecSync: what probes and `crictl exec -s` run.

use std::time::Duration;

use pausa::proto::v1;
use rustix::process::{Signal, kill_process};
use tonic::Code;

use crate::harness::pod::monitor_of;
use crate::harness::{Node, eventually, leaks, on_node, on_own_node, on_pausa, refused, strings};

/// Whether a command with these words runs in a container of the node.
fn runs(node: &Node, words: &str) -> bool {
    let pids = leaks::processes(node.slot());
    pids.into_iter().any(|pid| leaks::command(pid).contains(words))
}

/// CRI `ExecSyncResponse`: both streams apart, and the exit code; a code other than 0 is no error.
#[test]
#[ignore = "needs root"]
fn output_and_exit_code() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let done = container
            .exec(&["sh", "-c", "printf out; printf err >&2; exit 42"])
            .await;
        assert_eq!(
            (done.stdout.as_slice(), done.stderr.as_slice(), done.exit_code),
            (&b"out"[..], &b"err"[..], 42)
        );
        let done = container.exec(&["true"]).await;
        assert_eq!((done.stdout.len(), done.stderr.len(), done.exit_code), (0, 0, 0));
        let killed = container.exec(&["sh", "-c", "kill -9 $$"]).await;
        assert_eq!(killed.exit_code, 137);
    });
}

/// Exec has the container's environment, directory and standard input that is at its end.
#[test]
#[ignore = "needs root"]
fn exec_is_like_the_container() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| {
            config.working_dir = "/var".to_owned();
            config.envs = vec![v1::KeyValue {
                key: "OWN".to_owned(),
                value: b"value".to_vec(),
            }];
        });
        let container = container.await;
        assert_eq!(
            container.sh("pwd; echo $OWN; cat | wc -c").await,
            "/var\nvalue\n0\n"
        );
        let words = container.exec(&["echo", "a b", "", "c'd"]).await;
        assert_eq!(words.stdout, b"a b  c'd\n", "words are not split or joined");
    });
}

/// CRI ExecSync timeout: kubelet knows a probe's timeout by the code DeadlineExceeded; the container goes on.
#[test]
#[ignore = "needs root"]
fn a_timeout_is_deadline_exceeded() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        refused(
            Code::DeadlineExceeded,
            container.try_exec(&["sleep", "3766"], 1).await,
        );
        let processes = container.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
        assert!(!processes.contains("sleep 3766 "), "{processes}");
    });
}

/// The whole tree is gone when the answer is there, whatever it does with its signals and its output.
#[test]
#[ignore = "needs root"]
fn a_timeout_leaves_no_child_behind() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let command = [
            "sh",
            "-c",
            "trap '' TERM; sleep 3777 & setsid sleep 3788 & sleep 3799; true",
        ];
        refused(Code::DeadlineExceeded, container.try_exec(&command, 1).await);
        let processes = container.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
        assert!(!processes.contains("sleep 37"), "{processes}");
    });
}

/// 16 MiB a stream, as the peers; but kubelet's client takes no message above 16 MiB, and ours does not either: more
/// output than that is cut, not an error, and the command is not stopped by it.
#[test]
#[ignore = "needs root"]
fn huge_output_is_cut() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let script = "head -c 40000000 /dev/zero; echo err >&2; exit 3";
        let done = container.exec(&["sh", "-c", script]).await;
        assert_eq!((done.exit_code, done.stderr.as_slice()), (3, &b"err\n"[..]));
        assert!(done.stdout.len() > 16_700_000, "{}", done.stdout.len());
        let script = "head -c 40000000 /dev/zero; head -c 40000000 /dev/zero >&2";
        let done = container.exec(&["sh", "-c", script]).await;
        assert_eq!(done.stdout.len(), done.stderr.len(), "both get as much");
        assert!(done.stdout.len() > 8_300_000, "{}", done.stdout.len());
    });
}

/// Only a running container can be exec'd into.
#[test]
#[ignore = "needs root"]
fn not_running_is_an_error() {
    on_node(async |node| {
        let pod = node.pod().await;
        let created = pod.create(pod.container_config()).await;
        let exited = pod.start(|config| config.command = strings(&["true"])).await;
        exited.end().await;
        for container in [&created, &exited] {
            let status = container.try_exec(&["true"], 5).await.expect_err("not running");
            assert!(
                !node.is_pausa() || status.code() == Code::FailedPrecondition,
                "{status:?}"
            );
        }
    });
}

/// A command that does not exist is an error that names it.
#[test]
#[ignore = "needs root"]
fn a_command_that_does_not_exist() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let answer = container.try_exec(&["/no/such/program"], 5).await;
        let text = match answer {
            Err(status) => status.message().to_owned(),
            Ok(done) => {
                let done = done.into_inner();
                assert!([126, 127].contains(&done.exit_code), "{done:?}");
                String::from_utf8_lossy(&done.stderr).into_owned()
            }
        };
        assert!(text.contains("/no/such/program"), "{text}");
    });
}

/// A child that keeps the output open does not keep the probe from its answer.
#[test]
#[ignore = "needs root"]
fn a_child_that_stays_does_not_hold_the_answer() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let done = container.exec(&["sh", "-c", "sleep 3799 & echo done"]).await;
        assert_eq!((done.stdout.as_slice(), done.exit_code), (&b"done\n"[..], 0));
    });
}

/// Many probes at once, all with their own answers.
#[test]
#[ignore = "needs root"]
fn many_at_once_do_not_mix() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let calls = (0..40).map(async |i: i32| {
            let script = format!("echo {i}; exit {i}");
            container.exec(&["sh", "-c", &script]).await
        });
        let answers = futures_util::future::join_all(calls).await;
        for (i, done) in (0..).zip(answers) {
            assert_eq!(
                (String::from_utf8_lossy(&done.stdout).trim_end(), done.exit_code),
                (i.to_string().as_str(), i)
            );
        }
    });
}

/// The container's end ends what was exec'd into it.
#[test]
#[ignore = "needs root"]
fn exec_ends_with_the_container() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let call = container.try_exec(&["sleep", "3711"], 600);
        let (answer, ()) = tokio::join!(call, async {
            eventually("the command runs", async || {
                let seen = container.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
                seen.contains("sleep 3711").then_some(())
            })
            .await;
            container.stop(0).await;
        });
        if let Ok(done) = answer {
            assert_ne!(done.into_inner().exit_code, 0);
        }
    });
}

/// A client that goes away does not leave the command behind for ever: its timeout still holds.
#[test]
#[ignore = "needs root"]
fn the_timeout_holds_without_the_client() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let request = v1::ExecSyncRequest {
            container_id: container.id.clone(),
            cmd: strings(&["sleep", "3722"]),
            timeout: 2,
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_millis(500));
        assert!(
            node.runtime().exec_sync(request).await.is_err(),
            "the client gives up first"
        );
        eventually("the command is gone", async || {
            (!runs(node, "sleep 3722")).then_some(())
        })
        .await;
    });
}

/// A monitor that does not answer cannot kill the command either: the answer says that it may still run. It is killed once
/// the monitor goes on.
#[test]
#[ignore = "needs root"]
fn a_timeout_without_an_answer_of_the_monitor_is_no_kill() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let monitor = monitor_of(node, &pod);
        let (answer, ()) = tokio::join!(container.try_exec(&["sleep", "3733"], 5), async {
            eventually("the command runs", async || {
                runs(node, "sleep 3733").then_some(())
            })
            .await;
            kill_process(monitor, Signal::STOP).expect("a monitor");
        });
        let still = runs(node, "sleep 3733");
        kill_process(monitor, Signal::CONT).expect("a monitor");
        assert!(still, "{answer:?}");
        let text = refused(Code::DeadlineExceeded, answer);
        assert!(text.contains("it may still run"), "{text}");
        eventually("the command is gone", async || {
            (!runs(node, "sleep 3733")).then_some(())
        })
        .await;
        assert_eq!(container.sh("echo alive").await, "alive\n");
    });
}
