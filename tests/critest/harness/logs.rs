//! Reads CRI log files as strictly as kubelet does (`pkg/kubelet/kuberuntime/logs`).

use std::path::Path;

/// One entry of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) stream: String,
    /// `F` for a full line, `P` for a piece of one.
    pub(crate) tag: String,
    pub(crate) content: Vec<u8>,
}

/// All entries of a file; a malformed one fails the test.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("the log {} is readable: {e}", path.display()));
    let mut lines: Vec<_> = bytes.split(|b| *b == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]), "the last entry ends with a newline");
    lines.into_iter().map(parse).collect()
}

/// What was written to one stream.
pub(crate) fn content(lines: &[Line], stream: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for line in lines.iter().filter(|line| line.stream == stream) {
        all.extend_from_slice(&line.content);
        if line.tag == "F" {
            all.push(b'\n');
        }
    }
    all
}

fn parse(line: &[u8]) -> Line {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let mut word = || String::from_utf8(parts.next().unwrap_or_default().to_owned()).unwrap_or_default();
    let (time, stream, tag) = (word(), word(), word());
    let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    time.parse::<jiff::Timestamp>()
        .unwrap_or_else(|e| panic!("RFC 3339 time in {shown:?}: {e}"));
    let fraction = time
        .split_once('.')
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).count());
    assert!(
        fraction.is_some_and(|digits| digits <= 9),
        "a fraction of a second in {shown:?}"
    );
    assert!(
        ["stdout", "stderr"].contains(&stream.as_str()),
        "a stream in {shown:?}"
    );
    assert!(["F", "P"].contains(&tag.as_str()), "a tag in {shown:?}");
    Line {
        stream,
        tag,
        content: parts.next().expect("content, even if empty").to_owned(),
    }
}

/// The first entry of a file that is still written to, if it is whole yet.
pub(crate) fn read_some(path: &Path) -> Option<Line> {
    let bytes = std::fs::read(path).ok()?;
    let end = bytes.iter().position(|b| *b == b'\n')?;
    Some(parse(&bytes[..end]))
}
