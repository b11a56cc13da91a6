use super::*;

fn lines(texts: &[&str]) -> Vec<Line> {
    let line = |text: &&str| Line {
        text: (*text).to_owned(),
        style: if text.starts_with('!') { "32" } else { "" },
    };
    texts.iter().map(line).collect()
}

const fn size(rows: usize, columns: usize) -> Option<Size> {
    Some(Size { rows, columns })
}

/// The rows of a frame as a terminal shows them.
fn rows(frame: &str) -> Vec<&str> {
    let frame = frame.strip_prefix("\x1b[H").unwrap();
    let frame = frame.strip_suffix("\x1b[J").unwrap();
    let rows = frame.split('\n');
    rows.map(|row| row.strip_suffix("\x1b[K").unwrap()).collect()
}

#[test]
fn a_frame_fits_into_the_terminal() {
    let all = lines(&["one", "two", "three", "four"]);
    for (size, expected) in [
        (None, &["one", "two", "three", "four"][..]),
        (size(4, 80), &["one", "two", "three", "four"]),
        (size(3, 80), &["one", "two", "… 2 more lines"]),
        (size(1, 80), &["… 4 more lines"]),
        (size(4, 4), &["one", "two", "thr…", "four"]),
        (size(4, 1), &["…", "…", "…", "…"]),
        (size(2, 5), &["one", "… 3 …"]),
    ] {
        assert_eq!(rows(&frame(&all, size, false)), expected, "{size:?}");
    }
    assert_eq!(rows(&frame(&all[..2], size(1, 80), false)), ["… 2 more lines"]);
}

#[test]
fn colours_are_not_cut() {
    let all = lines(&["!long", "short"]);
    assert_eq!(text(&all, true), "\x1b[32m!long\x1b[0m\nshort\n");
    assert_eq!(text(&all, false), "!long\nshort\n");
    assert_eq!(
        rows(&frame(&all, size(5, 3), true)),
        ["\x1b[32m!l…\x1b[0m", "sh…"]
    );
}
