use std::collections::BTreeMap;

use pausa_monitor_protocol::ExitStatus;

use super::record::Reason;
use super::{ContainerRecord, ExitInfo, ImageIdentity, RunState, list_item, status};
use crate::id::Id;
use crate::proto::v1;

fn record(run: RunState) -> ContainerRecord {
    ContainerRecord {
        version: ContainerRecord::VERSION,
        id: Id::random(),
        pod: Id::random(),
        config: v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: "web".into(),
                attempt: 2,
            }),
            image: Some(v1::ImageSpec {
                image: "busybox".into(),
                ..Default::default()
            }),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            envs: vec![v1::KeyValue {
                key: "BIN".into(),
                value: vec![0xff, 0],
            }],
            ..Default::default()
        },
        image: ImageIdentity {
            id: "sha256:1".into(),
            reference: "docker.io/library/busybox@sha256:2".into(),
            name: "docker.io/library/busybox:latest".into(),
        },
        created_at: 1,
        run,
        log_path: None,
        cgroup: "/x".into(),
        volumes: [].into(),
        user: v1::LinuxContainerUser::default(),
        stop_signal: v1::Signal::Sigterm.into(),
        resources: v1::LinuxContainerResources::default(),
        pinning: None,
        pids_limit: None,
        cpu_burst: None,
        block_io: None,
        rdt_class: None,
        namespaces: BTreeMap::default(),
    }
}

fn exit(code: i32, oom_killed: bool) -> ExitStatus {
    ExitStatus {
        code,
        signal: 0,
        oom_killed,
        at: 30,
    }
}

#[test]
fn times_and_code_follow_the_state() {
    let created = status(&record(RunState::Created));
    assert_eq!(
        (created.started_at, created.finished_at, created.reason.as_str()),
        (0, 0, "")
    );
    let running = status(&record(RunState::Running {
        pid: 5,
        started_at: 20,
    }));
    assert_eq!(
        (running.started_at, running.finished_at, running.state),
        (20, 0, 1)
    );
    let exited = status(&record(RunState::Exited(ExitInfo::of(20, &exit(3, false)))));
    assert_eq!(
        (exited.started_at, exited.finished_at, exited.exit_code),
        (20, 30, 3)
    );
    assert_eq!(exited.reason, "Error");
}

#[test]
fn every_end_has_its_reason() {
    let reason = |code, oom| ExitInfo::of(1, &exit(code, oom)).reason;
    assert_eq!(reason(0, false), Reason::Completed);
    assert_eq!(reason(1, false), Reason::Error);
    assert_eq!(reason(137, false), Reason::Error);
    assert_eq!(reason(137, true), Reason::OomKilled);
    let failed = ExitInfo::start_error(7, "no such file".into());
    assert_eq!(
        (failed.code, failed.reason, failed.started_at),
        (128, Reason::StartError, 7)
    );
    let lost = ExitInfo::lost(7, 9, "monitor gone");
    assert_eq!(
        (lost.code, lost.reason.as_str(), lost.finished_at),
        (255, "Unknown", 9)
    );
}

#[test]
fn image_fields_agree_between_list_and_status() {
    let record = record(RunState::Created);
    let (item, status) = (list_item(&record), status(&record));
    assert_eq!(item.image_id, status.image_id);
    assert_eq!(item.image_ref, status.image_ref);
    assert_eq!(item.image.unwrap().image, "busybox");
    assert_eq!(status.image.unwrap().image, "docker.io/library/busybox:latest");
    assert_eq!(item.annotations, record.config.annotations);
}

#[test]
fn a_record_survives_its_json_even_with_bytes_that_are_no_text() {
    let record = record(RunState::Exited(ExitInfo::of(20, &exit(0, false))));
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<ContainerRecord>(&json).unwrap(), record);
}
