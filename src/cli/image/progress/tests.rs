use super::*;
use crate::proto::admin::LayerProgress;

const MIB: u64 = 1 << 20;

fn layer(digit: char, state: LayerState, done: u64, total: u64) -> LayerProgress {
    LayerProgress {
        digest: format!("sha256:{}", digit.to_string().repeat(64)),
        state: state.into(),
        bytes_done: done,
        bytes_total: total,
        ..Default::default()
    }
}

fn pull(layers: Vec<LayerProgress>) -> PullProgress {
    PullProgress {
        reference: "docker.io/library/busybox:latest".to_owned(),
        step: PullStep::Layers.into(),
        layers,
        ..Default::default()
    }
}

fn some() -> PullProgress {
    pull(vec![
        layer('a', LayerState::Present, 7 * MIB, 7 * MIB),
        layer('b', LayerState::Done, 20 * MIB, 20 * MIB),
        layer('c', LayerState::Fetching, 10 * MIB, 20 * MIB),
        layer('d', LayerState::Queued, 0, 20 * MIB),
        layer('e', LayerState::Joined, 5 * MIB, 20 * MIB),
    ])
}

#[test]
fn a_frame_has_a_bar_for_each_layer() {
    let mut meter = Meter::default();
    let mut before = some();
    before.layers[2].bytes_done = 8 * MIB;
    meter.take(&before, Duration::from_secs(1));
    meter.take(&some(), Duration::from_secs(2));
    let frame = bars::frame(&some(), &meter, Duration::from_secs(2), 81, 24);
    assert_eq!(
        frame,
        [
            "docker.io/library/busybox:latest: 2/5 layers, 35.0 MiB/80.0 MiB (43%), 2.0 MiB/s",
            "aaaaaaaaaaaaa  present   7.0 MiB",
            "bbbbbbbbbbbbb  done      [====================]             20.0 MiB",
            "ccccccccccccc  fetching  [==========>         ]    10.0 MiB/20.0 MiB   2.0 MiB/s",
            "ddddddddddddd  queued    [>                   ]         0 B/20.0 MiB",
            "eeeeeeeeeeeee  joined    [=====>              ]     5.0 MiB/20.0 MiB",
        ]
    );
}

#[test]
fn a_frame_fits_the_terminal() {
    let many = pull((0..200).map(|_| layer('f', LayerState::Fetching, 1, 0)).collect());
    for (columns, rows) in [(80, 24), (20, 5), (1, 1), (0, 0), (500, 400)] {
        let frame = bars::frame(&many, &Meter::default(), Duration::ZERO, columns, rows);
        assert!(
            frame.len() < rows.max(3),
            "{columns}x{rows}: {} lines",
            frame.len()
        );
        for line in &frame {
            assert!(
                line.chars().count() < columns.max(1),
                "{columns}x{rows}: {line:?}"
            );
        }
    }
}

#[test]
fn where_not_all_layers_fit_those_that_move_are_shown() {
    let frame = bars::frame(&some(), &Meter::default(), Duration::ZERO, 100, 5);
    let text = frame.join("\n");
    assert!(text.contains("ccccc") && text.contains("eeeee"), "{text}");
    assert!(text.contains("… and 3 more"), "{text}");
}

#[test]
fn a_line_says_what_bars_say() {
    let line = lines::line(&some(), &Meter::default(), Duration::from_secs(5));
    assert_eq!(
        line,
        "docker.io/library/busybox:latest: 2/5 layers, 35.0 MiB/80.0 MiB (43%), 0 B/s, 5.0 s"
    );
    let resolving = PullProgress {
        step: PullStep::Resolving.into(),
        ..pull(Vec::new())
    };
    let line = lines::line(&resolving, &Meter::default(), Duration::ZERO);
    assert_eq!(line, "docker.io/library/busybox:latest: resolving, 0.0 s");
}

#[test]
fn speed_is_that_of_the_last_seconds() {
    let mut meter = Meter::default();
    let at = |done| pull(vec![layer('a', LayerState::Fetching, done, 100 * MIB)]);
    let digest = at(0).layers[0].digest.clone();
    assert_eq!(meter.layer(&digest), 0);
    meter.take(&at(0), Duration::ZERO);
    assert_eq!(meter.all(), 0);
    meter.take(&at(60 * MIB), Duration::from_secs(10));
    for second in 11..=20 {
        meter.take(&at((50 + second) * MIB), Duration::from_secs(second));
    }
    assert_eq!(meter.layer(&digest), MIB);
    assert_eq!(meter.all(), MIB);
    // A download that begins again has no speed yet.
    meter.take(&at(0), Duration::from_secs(21));
    assert_eq!(meter.layer(&digest), 0);
}

#[test]
fn an_image_that_is_there_is_all_there() {
    let there = pull(vec![layer('a', LayerState::Present, 7, 7)]);
    assert_eq!(lines::summary(&there), "1/1 layers, 0 B/0 B (100%)");
}

#[test]
fn states_of_a_newer_daemon_are_no_trouble() {
    let mut odd = some();
    odd.step = 99;
    odd.layers[0].state = 99;
    let frame = bars::frame(&odd, &Meter::default(), Duration::ZERO, 80, 24);
    assert!(frame[0].contains("working"), "{frame:?}");
    assert!(frame[1].contains("unknown"), "{frame:?}");
}

#[test]
fn a_frame_takes_the_place_of_the_last() {
    let lines = ["one".to_owned(), "two".to_owned()];
    assert_eq!(redraw(0, &lines), "\r\x1b[Kone\n\r\x1b[Ktwo\n\r\x1b[J");
    assert_eq!(redraw(5, &lines[..1]), "\x1b[5A\r\x1b[Kone\n\r\x1b[J");
    assert_eq!(redraw(2, &[]), "\x1b[2A\r\x1b[J");
}
