//! Screens, without a daemon.

use super::*;
use crate::cli::screen;
use crate::cli::top::sample::{Container, Pod};
use crate::proto::admin::{LayerProgress, LayerState};

const SECOND: i64 = 1_000_000_000;
/// When the sample is of.
const NOW: i64 = 100_000 * SECOND;
const MIB: u64 = 1 << 20;

fn row(usage: Usage, age: i64, attempt: u32) -> Row {
    Row {
        attempt,
        state: "running",
        created_at: NOW - age * SECOND,
        usage,
    }
}

fn pressure(some: f64) -> Option<Pressure> {
    Some(Pressure {
        some: Some(some),
        full: Some(0.0),
    })
}

fn container(name: &str, row: Row) -> Container {
    Container {
        id: String::new(),
        name: name.to_owned(),
        row,
    }
}

fn pod(name: &str, mut row: Row, containers: Vec<Container>) -> Pod {
    row.state = "ready";
    Pod {
        id: String::new(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: String::new(),
        row,
        containers,
    }
}

fn operation(name: &str, container: Option<&str>, step: Option<(&str, i64)>, age: i64) -> Operation {
    let (step, in_step) = step.unzip();
    Operation {
        operation: name.to_owned(),
        namespace: "default".to_owned(),
        pod: "web-0".to_owned(),
        container: container.map(str::to_owned),
        started: NOW - age * SECOND,
        step: step.map(str::to_owned),
        step_since: in_step.map(|age| NOW - age * SECOND),
        ..Default::default()
    }
}

fn pull() -> PullProgress {
    let layer = |state: LayerState, done, total| LayerProgress {
        state: state.into(),
        bytes_done: done,
        bytes_total: total,
        ..Default::default()
    };
    PullProgress {
        reference: "docker.io/library/busybox:latest".to_owned(),
        step: PullStep::Layers.into(),
        started: NOW - 4 * SECOND,
        step_since: NOW - 3 * SECOND,
        layers: vec![
            layer(LayerState::Done, 10 * MIB, 10 * MIB),
            layer(LayerState::Fetching, 4 * MIB, 10 * MIB),
        ],
        ..Default::default()
    }
}

/// A node with two pods; on cgroup v2 it has pressures.
fn document(pressures: bool) -> Document {
    let of = |some: f64| pressure(some).filter(|_| pressures);
    let busy = Usage {
        cpu_nano_cores: Some(1_504_999_999),
        working_set_bytes: Some(60 * MIB),
        memory_limit_bytes: Some(64 * MIB),
        read_bytes_per_second: Some(0),
        write_bytes_per_second: Some(3 * MIB / 2),
        pids: Some(12),
        cpu_pressure: of(93.4),
        memory_pressure: of(0.0),
        io_pressure: of(1.25),
        ..Usage::default()
    };
    let idle = Usage {
        cpu_nano_cores: Some(0),
        working_set_bytes: Some(300 << 10),
        pids: Some(1),
        ..Usage::default()
    };
    let whole = Usage {
        receive_bytes_per_second: Some(123),
        send_bytes_per_second: Some(45 << 10),
        memory_limit_bytes: None,
        ..busy.clone()
    };
    let fresh = row(Usage::default(), 1, 0);
    Document {
        time: NOW,
        pods: vec![
            pod(
                "web-0",
                row(whole, 90_061, 0),
                vec![
                    container("main", row(busy, 3725, 3)),
                    container("sidecar", row(idle, 90_060, 0)),
                ],
            ),
            pod(
                "db-with-a-name-as-long-as-those-of-deployments-6c9f7",
                fresh,
                vec![],
            ),
        ],
        operations: vec![
            operation("StopContainer", Some("main"), Some(("grace period", 2)), 2),
            operation("RunPodSandbox", None, Some(("network", 12)), 13),
            operation("CreateContainer", Some("x"), None, 0),
        ],
        pulls: vec![pull()],
    }
}

fn show(document: &Document, all: bool, limits: Limits) -> String {
    screen::text(&lines(document, all, limits), false)
}

#[test]
fn a_node_without_and_with_pressures() {
    insta::assert_snapshot!("cgroup_v1", show(&document(false), false, Limits::NONE));
    insta::assert_snapshot!("cgroup_v2", show(&document(true), true, Limits::NONE));
}

#[test]
fn colours_show_what_needs_a_look() {
    insta::assert_snapshot!(screen::text(&lines(&document(false), false, Limits::NONE), true));
}

#[test]
fn columns_and_names_fit_into_the_terminal() {
    for columns in [140, 100, 80] {
        let text = show(&document(true), false, Limits::of(8, columns));
        let width = text.lines().map(|line| line.chars().count()).max();
        assert!(width.is_some_and(|width| width <= columns), "{columns}: {text}");
        insta::assert_snapshot!(format!("{columns}_columns"), text);
    }
    // What is left of the narrowest one; the screen cuts it.
    let text = show(&document(true), false, Limits::of(8, 10));
    let heading = text.lines().find(|line| line.starts_with("NAME"));
    let names: Vec<_> = heading.into_iter().flat_map(str::split_whitespace).collect();
    assert_eq!(names, ["NAME", "CPU"]);
}

#[test]
fn an_idle_node_is_one_line() {
    let nothing = Document {
        time: NOW,
        pods: Vec::new(),
        operations: Vec::new(),
        pulls: Vec::new(),
    };
    assert_eq!(
        show(&nothing, false, Limits::NONE),
        "0 pods, 0 containers, 0.00 CPUs and 0 B of memory in use\n"
    );
}

#[test]
fn hostile_text_cannot_drive_the_terminal() {
    let mut document = document(true);
    let hostile = || "\x1b[2J\r\n\u{9b}1m".to_owned();
    document.pods[0].name = hostile();
    document.pods[0].containers[0].name = hostile();
    document.operations[0].pod = hostile();
    document.operations[0].step = Some(hostile());
    document.operations[1].operation = hostile();
    document.pulls[0].reference = hostile();
    for line in lines(&document, true, Limits::NONE) {
        assert!(!line.text.contains(char::is_control), "{line:?}");
    }
}
