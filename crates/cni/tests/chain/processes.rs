//! Plugins and their children as processes: none outlives its time, and none keeps us.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pausa_cni::{Error, Timeouts};
use serde_json::json;

use crate::node::{ADDRESS, Node, chain, network, request};

fn is_alive(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn a_late_or_cancelled_plugin_dies_with_its_children() {
    let node = Node::new();
    let pid = node.dir.path().join("pid");
    node.plugin("first", "sleep 1000 & echo $! > pid.new; mv pid.new pid; wait");
    let limited = node.runtime.clone().with_timeouts(Timeouts {
        add: Duration::from_millis(700),
        ..Timeouts::default()
    });
    assert!(matches!(
        limited.add(&chain("1.0.0"), &request()).await,
        Err(Error::Timeout { .. })
    ));
    wait_until("death of the child after the timeout", || !is_alive(&pid)).await;

    fs::remove_file(&pid).unwrap();
    let runtime = node.runtime.clone();
    let task = tokio::spawn(async move { runtime.add(&chain("1.0.0"), &request()).await });
    wait_until("start of the plugin", || pid.exists()).await;
    task.abort();
    wait_until("death of the child after the cancellation", || !is_alive(&pid)).await;
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipe_does_not_keep_us() {
    let node = Node::new();
    node.plugin(
        "first",
        &format!("if [ $CNI_COMMAND = ADD ]; then sleep 1000 & echo $! > pid; fi; {ADDRESS}"),
    );
    let list = network(&json!({"cniVersion": "1.0.0", "name": "net", "type": "first"}));
    node.runtime.add(&list, &request()).await.unwrap();
    let pid: i32 = fs::read_to_string(node.dir.path().join("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
