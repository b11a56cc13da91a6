//! The throughput of exec and port-forward, and their cost for the runtime.
//!
//! Received data is timed from its first piece to its last, sent data from the moment when the command begins to read to its
//! status. The CPU time is that of the whole session without children, which would include the command itself.

use std::time::{Duration, Instant};

use crate::harness::stream::{Event, Forwarder, Transport, Want};
use crate::latency::succeeded;
use crate::table::Table;
use crate::target::{PORT, Target};

/// Limit for one transfer, so that the benchmark does not hang.
const PATIENCE: Duration = Duration::from_secs(300);
/// The size of the pieces that kubectl sends.
const PIECE: usize = 32 * 1024;
const MEBIBYTE: usize = 1 << 20;

/// Makes each transfer once; the runtimes take turns.
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

/// Records the speed and CPU time of a transfer, unless data was lost.
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
        eprintln!("{}: {what} lost data and is left out", target.name);
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

/// The standard output of a command.
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

/// The standard input of a command. The command counts its input, because not every protocol can signal the end. `None` if it
/// saw an end too early.
async fn input(target: &Target<'_>, transport: Transport, mebibytes: u32) -> Option<Duration> {
    // The shell must not exec `dd`: with the beta of containerd 2.4 it saw the end of its input after one read.
    let script = format!("echo ready; dd of=/dev/null bs=1M count={mebibytes} iflag=fullblock 2>&1; exit");
    let mut remote = target.exec(transport, &["sh", "-c", &script], Want::ALL).await;
    remote.until("ready\n").await;
    let mut stdin = remote.stdin.take().expect("stdin was asked for");
    let begin = Instant::now();
    let send = async {
        let piece = vec![0; PIECE];
        for _ in 0..bytes(mebibytes) / PIECE {
            if !stdin.send(&piece).await {
                // The status contains the reason, if there is one.
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

/// The data that the listener in the pod sends.
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
