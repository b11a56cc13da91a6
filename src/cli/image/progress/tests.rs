use indicatif::{InMemoryTerm, ProgressDrawTarget};

use super::*;

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

fn display(columns: u16, rows: u16) -> (Display, InMemoryTerm) {
    let terminal = InMemoryTerm::new(rows, columns);
    // At the rate of a real terminal.
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 20);
    (Display::on(MultiProgress::with_draw_target(target)), terminal)
}

fn frame(progress: &PullProgress, columns: u16, rows: u16) -> Vec<String> {
    let (mut display, terminal) = display(columns, rows);
    display.update(progress, rows.into());
    let text = terminal.contents();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_frame_has_a_bar_for_each_layer() {
    let frame = frame(&some(), 80, 24);
    let summary = "docker.io/library/busybox:latest: 2/5 layers, 35.0 MiB/80.0 MiB (43%), ";
    assert!(frame[0].starts_with(summary), "{frame:?}");
    assert!(frame[3].ends_with("B/s"), "{frame:?}");
    // The speed depends on the clock.
    let bars: Vec<_> = frame[1..]
        .iter()
        .map(|line| line.chars().take(68).collect::<String>().trim_end().to_owned())
        .collect();
    assert_eq!(
        bars,
        [
            "aaaaaaaaaaaaa  present   7.0 MiB",
            "bbbbbbbbbbbbb  done      [====================]             20.0 MiB",
            "ccccccccccccc  fetching  [==========>         ]    10.0 MiB/20.0 MiB",
            "ddddddddddddd  queued    [                    ]         0 B/20.0 MiB",
            "eeeeeeeeeeeee  joined    [=====>              ]     5.0 MiB/20.0 MiB",
        ]
    );
}

#[test]
fn a_frame_fits_the_terminal() {
    let many = pull((0..50).map(|_| layer('f', LayerState::Fetching, 1, 0)).collect());
    for (columns, rows) in [(80, 24), (20, 5), (1, 1), (100, 100)] {
        let (mut display, terminal) = display(columns, rows);
        for _ in 0..3 {
            display.update(&many, rows.into());
        }
        let text = terminal.contents();
        let lines = text.lines().count();
        assert!(lines <= rows.into(), "{columns}x{rows}: {lines} lines");
        // A frame that were too high would leave lines behind that nothing removes any more.
        display.clear();
        assert_eq!(terminal.contents(), "", "{columns}x{rows}");
    }
}

#[test]
fn where_not_all_layers_fit_those_that_move_are_shown() {
    let text = frame(&some(), 100, 5).join("\n");
    assert!(text.contains("ccccc") && text.contains("eeeee"), "{text}");
    assert!(!text.contains("aaaaa") && text.contains("… and 3 more"), "{text}");
}

#[test]
fn a_frame_takes_the_place_of_the_last() {
    let (mut display, terminal) = display(100, 6);
    display.update(&pull(Vec::new()), 6);
    assert_eq!(terminal.contents().lines().count(), 1);
    // Other layers move, so that others are shown.
    let mut progress = some();
    display.update(&progress, 6);
    progress.layers[2].state = LayerState::Done.into();
    progress.layers[3].state = LayerState::Fetching.into();
    display.update(&progress, 6);
    let text = terminal.contents();
    assert_eq!(text.matches("busybox").count(), 1, "{text}");
    assert!(text.contains("ddddd") && text.contains("eeeee"), "{text}");
    assert_eq!(text.matches("more").count(), 1, "{text}");
}

#[test]
fn a_line_says_what_bars_say() {
    let line = summary(&some(), 2 * MIB, Duration::from_secs(5));
    assert_eq!(
        line,
        "docker.io/library/busybox:latest: 2/5 layers, 35.0 MiB/80.0 MiB (43%), 2.0 MiB/s, 5.0 s"
    );
    let resolving = PullProgress {
        step: PullStep::Resolving.into(),
        ..pull(Vec::new())
    };
    let line = summary(&resolving, 0, Duration::ZERO);
    assert_eq!(line, "docker.io/library/busybox:latest: resolving, 0.0 s");
}

#[test]
fn bytes_that_were_there_before_have_no_part_in_the_speed() {
    let (mut display, _) = display(80, 24);
    let text = display.update(&some(), 24);
    assert!(text.contains(" 0 B/s"), "{text}");
}

#[test]
fn an_image_that_is_there_is_all_there() {
    let there = pull(vec![layer('a', LayerState::Present, 7, 7)]);
    let line = summary(&there, 0, Duration::ZERO);
    assert!(line.contains(": 1/1 layers, 0 B/0 B (100%)"), "{line}");
}

#[test]
fn states_of_a_newer_daemon_are_no_trouble() {
    let mut odd = some();
    odd.step = 99;
    odd.layers[0].state = 99;
    let frame = frame(&odd, 80, 24);
    assert!(frame[0].contains("working"), "{frame:?}");
    assert!(frame[1].contains("unknown"), "{frame:?}");
}

#[test]
fn hostile_names_cannot_drive_the_terminal() {
    let mut odd = pull(vec![layer('\x1b', LayerState::Queued, 0, 1)]);
    odd.reference = "a\x1b[2Jb".to_owned();
    let text = frame(&odd, 80, 24).join("\n");
    assert!(text.contains("a\\u{1b}[2Jb: "), "{text}");
}
