use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;

use super::{Buffers, Flow, Source, Stream};
use crate::log::{LogThreads, Writer};

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

fn writer(log: &File) -> Writer {
    let threads = LogThreads::new().unwrap();
    Writer::new(log.try_clone().unwrap().into(), Rc::new(threads))
}

/// A turn without attached clients. Waits for a log without room.
fn pump(stream: &mut Stream, buffers: &mut Buffers, mut writer: Option<&mut Writer>) -> Flow {
    let start = Instant::now();
    loop {
        match stream.pump(buffers, writer.as_deref_mut(), |_| {}) {
            Flow::Blocked => assert!(start.elapsed() < Duration::from_secs(30)),
            flow => return flow,
        }
    }
}

/// Waits until everything is written.
fn complete(mut writer: Writer, buffers: &mut Buffers) {
    let start = Instant::now();
    writer.close();
    while !writer.is_complete() {
        writer.advance(&mut buffers.spares);
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    assert!(!writer.has_dropped());
}

#[test]
fn an_unfinished_line_waits_for_its_end_even_over_a_new_file() {
    let (read, write) = pipe();
    let (old, new) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut writer = writer(&old);
    let mut stream = Stream::new(read, Source::Stdout, 16384);
    let mut buffers = Buffers::default();
    rustix::io::write(&write, b"one\ntw").unwrap();
    assert_eq!(pump(&mut stream, &mut buffers, Some(&mut writer)), Flow::Quiet);
    writer.replace(new.try_clone().unwrap().into(), &mut buffers.spares);
    rustix::io::write(&write, b"o\nend").unwrap();
    drop(write);
    pump(&mut stream, &mut buffers, Some(&mut writer));
    assert_eq!(pump(&mut stream, &mut buffers, Some(&mut writer)), Flow::Ended);
    stream.finish(&mut buffers, Some(&mut writer));
    complete(writer, &mut buffers);
    assert_eq!(contents(old), "F one");
    assert_eq!(contents(new), "F two\nP end");
}

#[test]
fn a_burst_uses_large_buffers_that_are_released() {
    let (read, write) = pipe();
    let log = tempfile::tempfile().unwrap();
    let mut writer = writer(&log);
    let mut stream = Stream::new(read, Source::Stderr, 16384);
    let mut buffers = Buffers::default();
    let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
    let mut written = 0;
    while rustix::io::write(&write, &line).is_ok() {
        written += 1;
    }
    while pump(&mut stream, &mut buffers, Some(&mut writer)) == Flow::More {}
    assert!(buffers.spares.large);
    buffers.release();
    assert!(!buffers.spares.large);
    assert_eq!(buffers.input.capacity(), 0);
    complete(writer, &mut buffers);
    assert!(!buffers.spares.large);
    assert_eq!(contents(log).lines().count(), written);
}

#[test]
fn without_a_log_the_output_is_drained_all_the_same() {
    let (read, write) = pipe();
    let mut stream = Stream::new(read, Source::Stdout, 16384);
    let mut buffers = Buffers::default();
    rustix::io::write(&write, b"no end").unwrap();
    assert_eq!(pump(&mut stream, &mut buffers, None), Flow::Quiet);
    assert!(stream.unfinished.is_empty());
    drop(write);
    assert_eq!(pump(&mut stream, &mut buffers, None), Flow::Ended);
}
