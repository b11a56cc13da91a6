use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{FileWriter, Written, threads};

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn start(file: impl Into<OwnedFd>, done: &OwnedFd) -> FileWriter {
    FileWriter::start(file.into(), done.as_fd()).unwrap()
}

fn is_signalled(done: &OwnedFd, wait: Duration) -> bool {
    let mut fds = [PollFd::new(done, PollFlags::IN)];
    let timeout = Timespec::try_from(wait).unwrap();
    poll(&mut fds, Some(&timeout)).unwrap() == 1
}

fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
}

/// The outcome of the oldest write.
fn take(writer: &mut FileWriter) -> Written {
    let mut taken = None;
    until(|| {
        taken = writer.take();
        taken.is_some()
    });
    taken.unwrap()
}

#[test]
fn one_write_after_the_other_arrives() {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    let done = event();
    let before = threads();
    let mut writer = start(path.reopen().unwrap(), &done);
    assert_eq!(threads(), before + 1);
    for number in 0..1000 {
        let mut bytes = format!("{number}\n").into_bytes();
        while let Err(refused) = writer.write(bytes) {
            bytes = refused;
            let written = take(&mut writer);
            assert_eq!((written.written, written.refused), (written.bytes.len(), None));
        }
    }
    while !writer.is_idle() {
        take(&mut writer);
    }
    assert!(!is_signalled(&done, Duration::ZERO));
    drop(writer);
    until(|| threads() == before);
    let mut text = String::new();
    path.read_to_string(&mut text).unwrap();
    assert!(text.lines().map(str::parse).eq((0..1000).map(Ok)));
}

#[test]
fn a_refusal_is_signalled_and_cancels_what_was_begun() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let done = event();
    let mut writer = start(write, &done);
    let length = 1 << 20;
    writer.write(vec![b'x'; length]).unwrap();
    writer.write(b"cancelled".to_vec()).unwrap();
    assert_eq!(writer.write(b"too many".to_vec()), Err(b"too many".to_vec()));
    assert_eq!(writer.bytes_under_way(), length + 9);
    drop(read);
    assert!(is_signalled(&done, Duration::from_secs(30)));
    let written = take(&mut writer);
    assert_eq!(written.refused, Some(Errno::PIPE));
    assert!(written.written < length);
    let written = take(&mut writer);
    assert_eq!((written.written, written.refused), (0, Some(Errno::CANCELED)));
    assert_eq!(written.bytes, b"cancelled");
    // The next one is tried again.
    writer.write(b"refused".to_vec()).unwrap();
    assert_eq!(take(&mut writer).refused, Some(Errno::PIPE));
}

#[test]
fn a_stalled_write_stalls_nothing_else_and_its_end_is_signalled() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let done = event();
    let length = 1 << 20;
    let mut writer = start(write, &done);
    assert!(!writer.signal_end());
    writer.write(vec![b'x'; length]).unwrap();
    assert!(writer.take().is_none());
    assert!(writer.signal_end());
    assert!(!is_signalled(&done, Duration::from_millis(10)));
    // The end of the file comes when the writer is dropped: nobody else has the file.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        File::from(read).read_to_end(&mut bytes).map(|_| bytes)
    });
    assert!(is_signalled(&done, Duration::from_secs(30)));
    assert!(!writer.signal_end());
    let written = take(&mut writer);
    assert_eq!((written.written, written.refused), (length, None));
    drop(writer);
    assert_eq!(reader.join().unwrap().unwrap().len(), length);
}

#[test]
fn no_other_descriptor_is_kept_open() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let file = tempfile::tempfile().unwrap();
    let _writer = start(file, &event());
    drop(write);
    let mut bytes = Vec::new();
    assert_eq!(File::from(read).read_to_end(&mut bytes).unwrap(), 0);
}

#[test]
fn a_stalled_thread_is_left_to_itself() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let length = 1 << 20;
    let mut writer = start(write, &event());
    writer.write(vec![b'x'; length]).unwrap();
    drop(writer);
    let mut bytes = vec![0; length];
    File::from(read).read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == b'x'));
}
