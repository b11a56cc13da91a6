use std::io::Write as _;

use proptest::prelude::*;

use super::*;

#[test]
fn a_moment_is_a_time_or_how_long_ago() {
    assert_eq!(moment("2026-11-30T12:00:00Z").unwrap().as_second(), 1_796_040_000);
    let before = Timestamp::now().as_second() - moment("15m").unwrap().as_second();
    assert!((899..=901).contains(&before), "{before}");
    assert!(moment("yesterday").unwrap_err().contains("neither"));
}

/// The text behind the place that `seek_to_last` finds.
fn last(text: &str, lines: u64) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut log = Log::open(file.path().to_owned()).unwrap();
    log.seek_to_last(lines).unwrap();
    let mut rest = String::new();
    log.file.read_to_string(&mut rest).unwrap();
    rest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]
    /// Also with lines that are longer than what is read at once.
    #[test]
    fn the_last_lines_are_found_from_the_end(
        lengths in prop::collection::vec(prop_oneof![0..5_usize, 0..100_000_usize], 0..6),
        is_closed: bool,
        wanted in 0..8_u64,
    ) {
        let mut text: String = lengths.iter().map(|length| "x".repeat(*length) + "\n").collect();
        if !is_closed {
            text.push_str("open");
        }
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let skipped = lines.len().saturating_sub(usize::try_from(wanted).unwrap());
        prop_assert_eq!(last(&text, wanted), lines[skipped..].concat());
    }
}

#[test]
fn a_log_that_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("0.log");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    assert!(Log::open(link).is_err());
    let error = Log::open(dir.path().to_owned()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}
