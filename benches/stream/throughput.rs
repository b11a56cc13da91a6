//! How fast much data goes through exec and port-forward, and what that costs the runtime.
//!
//! The clock of what comes runs from its first piece to its last; that of what goes from the moment the command reads to
//! its status. The CPU time is that of the whole session, without children: a command's own reading and writing would be
//! among theirs.

use std::time::{Duration, Instant};

use crate::harness::stream::{Event, Forwarder, Transport, Want};
use crate::latency::succeeded;
use crate::table::Table;
use crate::target::{PORT, Target};

/// How long one transfer may take. A bound on hanging.
const PATIENCE: Duration = Duration::from_secs(300);
/// What kubectl copies at a time.
const PIECE: usize = 32 * 1024;
const MEBIBYTE: usize = 1 << 20;

/// Each transfer once, the runtimes taking turns.
pub(crate) async fn round(targets: &[Target<'_>], transport: Transport, mebibytes: u32, table: &mut Table) {
    for target in targets {
        let run = async { Some(output(target, transport, mebibytes).await) };
        transfer("exec, stdout", target, mebibytes, table, run).await;
    }
    for target in targets {
        let run = input(target, transport, mebibytes);
        transfer("exec, stdin", target, mebibytes, table, run).await;
    }
    for target in targets {
        let run = async { Some(forward(target, mebibytes).await) };
        transfer("port-forward", target, mebibytes, table, run).await;
    }
}

/// Notes speed and CPU time of one transfer; nothing of one that lost something.
async fn transfer(
    what: &str,
    target: &Target<'_>,
    mebibytes: u32,
    table: &mut Table,
    run: impl Future<Output = Option<Duration>>,
) {
    let cpu = target.cpu();
    let took = tokio::time::timeout(PATIENCE, run).await;
    let took = took.unwrap_or_else(|_| panic!("{}: {what} did not end in {PATIENCE:?}", target.name));
    let Some(took) = took else {
        eprintln!("{}: {what} did not arrive whole, and is left out", target.name);
        return;
    };
    let cpu = target.cpu() - cpu;
    let megabytes = f64::from(mebibytes) * 1.048_576;
    table.add(what, "MB/s", target.name, megabytes / took.as_secs_f64());
    let what = format!("– CPU time, {what} of {mebibytes} MiB");
    table.add(&what, "s", target.name, cpu);
}

fn bytes(mebibytes: u32) -> usize {
    usize::try_from(mebibytes).expect("64 bits") * MEBIBYTE
}

/// Standard output of a command.
async fn output(target: &Target<'_>, transport: Transport, mebibytes: u32) -> Duration {
    let script = format!("exec dd if=/dev/zero bs=1M count={mebibytes} 2>/dev/null");
    let mut remote = target.exec(transport, &["sh", "-c", &script], Want::OUTPUT).await;
    let (mut begin, mut end, mut got) = (None, None, 0);
    while let Some(event) = remote.events.recv().await {
        match event {
            Event::Stdout(piece) if piece.is_empty() => {}
            Event::Stdout(piece) => {
                begin = begin.or_else(|| Some(Instant::now()));
                end = Some(Instant::now());
                got += piece.len();
            }
            Event::Stderr(text) => panic!("{}: {}", target.name, String::from_utf8_lossy(&text)),
            Event::Error(text) => succeeded(target, &text),
        }
    }
    assert_eq!(got, bytes(mebibytes), "{}: bytes of output", target.name);
    end.zip(begin)
        .map(|(end, begin)| end - begin)
        .expect("there was output")
}

/// Standard input of a command, which counts: one that read to the end would need a protocol that can say so. None if
/// the command saw the end of its input too early.
async fn input(target: &Target<'_>, transport: Transport, mebibytes: u32) -> Option<Duration> {
    // A shell that stays: with containerd 2.4's beta a `dd` in its place saw the end of its input after one read.
    let script = format!("echo ready; dd of=/dev/null bs=1M count={mebibytes} iflag=fullblock 2>&1; exit");
    let mut remote = target.exec(transport, &["sh", "-c", &script], Want::ALL).await;
    remote.until("ready\n").await;
    let mut stdin = remote.stdin.take().expect("stdin was asked for");
    let begin = Instant::now();
    let send = async {
        let piece = vec![0; PIECE];
        for _ in 0..bytes(mebibytes) / PIECE {
            if !stdin.send(&piece).await {
                // The status says why, if there is one.
                return;
            }
        }
    };
    let receive = async {
        let (mut end, mut said) = (None, Vec::new());
        while let Some(event) = remote.events.recv().await {
            match event {
                Event::Stdout(text) | Event::Stderr(text) => said.extend(text),
                Event::Error(text) => {
                    succeeded(target, &text);
                    end = Some(begin.elapsed());
                }
            }
        }
        let whole = String::from_utf8_lossy(&said).contains(&format!("{mebibytes}+0 records in"));
        end.filter(|_| whole)
    };
    tokio::join!(send, receive).1
}

/// What a listener in the pod says.
async fn forward(target: &Target<'_>, mebibytes: u32) -> Duration {
    let url = target.forward_url().await;
    let mut forwarder = Forwarder::spdy(&url).await;
    let mut connection = forwarder.connect(PORT).await;
    let (mut begin, mut got) = (None, 0);
    while got < bytes(mebibytes) {
        let piece = connection.input.chunk().await.expect("the connection lives");
        let Some(piece) = piece else {
            panic!("{}: {}", target.name, connection.error().await);
        };
        begin = begin.or_else(|| Some(Instant::now()));
        got += piece.len();
    }
    begin.expect("there was something").elapsed()
}
