//! `pausa reset`: what a stopped daemon has left ends, and nothing of it stays but images.

use std::path::Path;
use std::process::{Command, Output};

use pausa::proto::v1;

use crate::harness::{Node, on_own_node};

/// `pausa reset` in place of the node's daemon.
fn reset(node: &Node, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_pausa"))
        .arg("reset")
        .args(node.daemon(|daemon| daemon.flags()))
        .args(arguments)
        .output();
    output.expect("pausa runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn tables(bridge: &str) -> usize {
    let listed = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .expect("nft runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed
        .lines()
        .filter(|line| line.ends_with(&format!(" pausa_{bridge}")))
        .count()
}

/// docs/operations.md, "Cleaning up".
#[test]
#[ignore = "needs root"]
fn everything_ends_but_images_stay() {
    on_own_node(async |node| {
        let bridge = node.slot().bridge();
        let image = node.pull("base").await;
        let pod = node
            .pod_with(|config| {
                config.port_mappings.push(v1::PortMapping {
                    container_port: 80,
                    host_port: i32::from(node.slot().host_port()),
                    ..Default::default()
                });
            })
            .await;
        let container = pod.start(|_| {}).await;
        let exited = pod.start(|_| {}).await;
        exited.stop(0).await;
        let stopped = node.pod().await;
        stopped.stop().await;
        let unreadable = node.pod().await;
        let lost = unreadable.start(|_| {}).await;
        let pids = [container.pid().await, lost.pid().await];
        let link = format!("/sys/class/net/{bridge}");
        assert!(pids.into_iter().all(is_there) && Path::new(&link).exists());
        assert_eq!(tables(&bridge), 1);

        let refused = reset(node, &["--force"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(
            stderr(&refused).contains("another daemon is listening"),
            "{refused:?}"
        );
        assert!(node.daemon(|daemon| daemon.terminate()).success());
        let refused = reset(node, &[]);
        assert_eq!(refused.status.code(), Some(64), "{refused:?}");
        assert!(stderr(&refused).contains("drain it first"), "{refused:?}");
        assert!(pids.into_iter().all(is_there), "a daemon that stops ends nothing");

        let record = node.dir().join("s/pods").join(&unreadable.id).join("pod.json");
        std::fs::write(record, "{").expect("the record is written");
        let done = reset(node, &["--force"]);
        assert!(done.status.success(), "{done:?}");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.starts_with("removed 2 pods\n"), "{done:?}");

        assert!(!pids.into_iter().any(is_there), "{pids:?}");
        for place in ["s/pods", "r/pods"] {
            let left = std::fs::read_dir(node.dir().join(place)).into_iter().flatten();
            assert_eq!(left.count(), 0, "{place}");
        }
        assert!(!Path::new(&link).exists());
        assert_eq!(tables(&bridge), 0);
        let again = reset(node, &["--force"]);
        assert!(again.status.success(), "{again:?}");

        node.daemon(|daemon| daemon.restart());
        node.until_it_answers().await;
        assert!(node.image(&image).await.is_some(), "images stay");
        node.pod().await.sh("true").await;
    });
}
