use super::*;
use crate::proto::admin::{LayerProgress, LayerState, PullStep, PullsResponse};

const SECOND: i64 = 1_000_000_000;

fn one() -> PullProgress {
    let layer = |state: LayerState, done| LayerProgress {
        digest: "sha256:aa".to_owned(),
        diff_id: "sha256:bb".to_owned(),
        state: state.into(),
        since: 1_767_322_800 * SECOND,
        bytes_done: done,
        bytes_total: 2048,
    };
    PullProgress {
        reference: "docker.io/library/busybox:latest".to_owned(),
        step: PullStep::Layers.into(),
        started: 1_767_322_800 * SECOND,
        step_since: 1_767_322_801 * SECOND,
        waiting: 2,
        layers: vec![layer(LayerState::Done, 2048), layer(LayerState::Fetching, 1024)],
    }
}

#[test]
fn a_row_says_how_far_a_pull_is_and_who_waits() {
    let text = table(&[one()], 1_767_322_912 * SECOND);
    let cells = text.lines().nth(1).unwrap().split("   ").map(str::trim);
    let row: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        row,
        [
            "docker.io/library/busybox:latest",
            "layers",
            "1/2",
            "3.0 KiB",
            "4.0 KiB",
            "1m 52s",
            "2"
        ]
    );
    assert_eq!(table(&[], 0).lines().count(), 1);
}

#[test]
fn what_is_kept_says_how_much_and_how_long() {
    let part = |complete| KeptLayer {
        diff_id: "sha256:bb".to_owned(),
        complete,
        bytes: 1024,
        bytes_total: 2048,
        remaining_seconds: 112,
    };
    let text = kept_table(&[part(true), part(false)]);
    let rows: Vec<&str> = text.lines().collect();
    assert!(
        rows[1].contains("1.0 KiB") && rows[1].contains("complete") && rows[1].ends_with("1m 52s"),
        "{text}"
    );
    assert!(rows[2].contains("2.0 KiB"), "{text}");
    let json = serde_json::to_value(part(false)).unwrap();
    assert_eq!(
        (&json["bytesTotal"], &json["remainingSeconds"]),
        (&2048.into(), &112.into())
    );
}

#[test]
fn programs_get_numbers_and_words() {
    let listed = PullsResponse {
        pulls: vec![one()],
        kept: Vec::new(),
    };
    let layer = |state, bytes| {
        serde_json::json!({
            "digest": "sha256:aa", "diffId": "sha256:bb", "state": state, "since": "2026-01-02T03:00:00Z",
            "bytesDone": bytes, "bytesTotal": 2048,
        })
    };
    assert_eq!(
        serde_json::to_value(listed).unwrap(),
        serde_json::json!({
            "pulls": [{
                "reference": "docker.io/library/busybox:latest", "step": "layers", "started": "2026-01-02T03:00:00Z",
                "stepSince": "2026-01-02T03:00:01Z", "waiting": 2,
                "layers": [layer("done", 2048), layer("fetching", 1024)],
            }],
            "kept": [],
        })
    );
}
