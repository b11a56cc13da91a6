use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;

use super::{Flow, Source, Stream, Work};
use crate::attachments::Tee;
use crate::log::Writer;

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
}

/// Contents of the entries of a log.
fn contents(mut log: File) -> String {
    let mut text = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| &line[38..])
        .collect::<Vec<_>>()
        .join("\n")
}

/// A turn without anybody attached.
fn pump(stream: &mut Stream, work: &mut Work, writer: Option<&mut Writer>) -> Flow {
    stream.pump(work, writer, &mut Tee::new(&mut Vec::new(), Source::Stdout))
}

#[test]
fn an_unfinished_line_waits_for_its_end_even_over_a_new_file() {
    let (read, write) = pipe();
    let (old, new) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut writer = Writer::new(OwnedFd::from(old.try_clone().unwrap()));
    let mut stream = Stream::new(read, Source::Stdout, 16384);
    let mut work = Work::default();
    rustix::io::write(&write, b"one\ntw").unwrap();
    assert_eq!(pump(&mut stream, &mut work, Some(&mut writer)), Flow::Quiet);
    writer.replace(OwnedFd::from(new.try_clone().unwrap()));
    rustix::io::write(&write, b"o\nend").unwrap();
    drop(write);
    pump(&mut stream, &mut work, Some(&mut writer));
    assert_eq!(pump(&mut stream, &mut work, Some(&mut writer)), Flow::Ended);
    stream.finish(Some(&mut writer));
    assert_eq!(contents(old), "F one");
    assert_eq!(contents(new), "F two\nP end");
}

#[test]
fn a_burst_takes_large_buffers_and_rest_gives_them_back() {
    let (read, write) = pipe();
    let log = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(OwnedFd::from(log.try_clone().unwrap()));
    let mut stream = Stream::new(read, Source::Stderr, 16384);
    let mut work = Work::default();
    let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
    let mut written = 0;
    while rustix::io::write(&write, &line).is_ok() {
        written += 1;
    }
    while pump(&mut stream, &mut work, Some(&mut writer)) == Flow::More {}
    assert!(work.in_burst());
    work.rest();
    assert!(!work.in_burst());
    assert_eq!(work.input.capacity(), 0);
    assert_eq!(contents(log).lines().count(), written);
}

#[test]
fn without_a_log_the_output_is_drained_all_the_same() {
    let (read, write) = pipe();
    let mut stream = Stream::new(read, Source::Stdout, 16384);
    let mut work = Work::default();
    rustix::io::write(&write, b"no end").unwrap();
    assert_eq!(pump(&mut stream, &mut work, None), Flow::Quiet);
    assert!(stream.unfinished.is_empty());
    drop(write);
    assert_eq!(pump(&mut stream, &mut work, None), Flow::Ended);
}
