use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::*;

fn pipe() -> (Descriptor, Descriptor) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (Descriptor::new(read).unwrap(), Descriptor::new(write).unwrap())
}

#[tokio::test]
async fn bytes_go_through_whole_and_then_end() {
    let (read, write) = pipe();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move { write.write_all(&sent).await });
    let mut got = Vec::new();
    loop {
        let chunk = read.read(64 * 1024).await.unwrap();
        if chunk.is_empty() {
            break;
        }
        got.extend_from_slice(&chunk);
    }
    writer.await.unwrap().unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn writing_to_nobody_fails() {
    let (read, write) = pipe();
    drop(read);
    let error = write.write_all(b"x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_terminal_ends_with_its_last_user() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let master = Descriptor::new(master).unwrap();
    rustix::io::write(&slave, b"hello").unwrap();
    assert_eq!(master.read(64 * 1024).await.unwrap(), b"hello"[..]);
    drop(slave);
    assert!(master.read(64 * 1024).await.unwrap().is_empty());
}
