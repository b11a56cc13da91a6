//! Exec and attach: copies between the streams of a client and a process until one of them ends.
//!
//! ```text
//!   client connected ──(first size)──▶ begun ──▶ streams copied ──▶ process ended ──▶ output read to its end ──▶ status
//!                      └──────────────┴────── client gone: everything dropped ──────────────┘
//! ```
//!
//! A session is one future: dropping it ends the session and leaves no task, thread or descriptor.

use std::time::Duration;

use bytes::Bytes;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio_util::sync::CancellationToken;

use super::channel::{Input, Output};
use super::client::Client;
use super::descriptor::Descriptor;
use super::resize::Sizes;
use super::status::Outcome;
use super::ticket::{Session, SessionTicket, TerminalSize};
use crate::error::Failure;

/// How long to wait for the first size of a terminal. Clients send it right after the streams, or never.
const FIRST_SIZE: Duration = Duration::from_millis(250);
/// A child of an ended process may keep its output open: after so much silence the output counts as ended.
const SILENCE: Duration = Duration::from_secs(1);

/// Runs a command for a client.
pub(super) async fn exec(ticket: SessionTicket, mut client: Client) {
    let begun = async {
        let size = match client.sizes.as_mut().filter(|_| ticket.tty) {
            // The size is optional.
            Some(sizes) => tokio::time::timeout(FIRST_SIZE, sizes.next())
                .await
                .ok()
                .flatten(),
            None => None,
        };
        (ticket.begin)(size).await
    };
    let begun = tokio::select! {
        begun = begun => begun,
        () = client.connection.gone() => return,
    };
    let outcome = match begun {
        Ok(session) => join(&mut client, session).await,
        Err(failure) => Some(failed("executing command in container", &failure)),
    };
    if let Some(outcome) = outcome {
        client.end(&outcome).await;
    }
}

pub(super) async fn attach(ticket: SessionTicket, mut client: Client) {
    let begun = tokio::select! {
        begun = (ticket.begin)(None) => begun,
        () = client.connection.gone() => return,
    };
    let outcome = match begun {
        Ok(session) => join(&mut client, session).await.map(|outcome| match outcome {
            // How the container ended is in its status.
            Outcome::Ended(_) => Outcome::Ended(0),
            failed => failed,
        }),
        Err(failure) => Some(failed("attaching to container", &failure)),
    };
    if let Some(outcome) = outcome {
        client.end(&outcome).await;
    }
}

fn failed(doing: &str, failure: &Failure) -> Outcome {
    Outcome::Failed(format!("error {doing}: {}", failure.message))
}

/// Copies until the process has ended and its output is read. None if the client disconnected before.
async fn join(client: &mut Client, session: Session) -> Option<Outcome> {
    let Session {
        stdin,
        stdout,
        stderr,
        terminal,
        mut exit,
    } = session;
    let watched = |fd: Option<_>| fd.map(Descriptor::new).transpose();
    let (stdin, stdout, stderr) = match (watched(stdin), watched(stdout), watched(stderr)) {
        (Ok(stdin), Ok(stdout), Ok(stderr)) => (stdin, stdout, stderr),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            return Some(failed("connecting with the process", &error.into()));
        }
    };
    let ended = CancellationToken::new();
    let outputs = async {
        tokio::join!(
            outward(stdout, client.stdout.as_mut(), &ended),
            outward(stderr, client.stderr.as_mut(), &ended),
        );
    };
    let (input, sizes) = (client.stdin.take(), client.sizes.take());
    let inputs = async {
        tokio::join!(inward(input, stdin), resize(sizes, terminal));
    };
    let joined = async {
        tokio::pin!(outputs, inputs);
        let (mut outputs_over, mut inputs_over) = (false, false);
        let exit = loop {
            tokio::select! {
                exit = &mut exit => break exit,
                () = &mut outputs, if !outputs_over => outputs_over = true,
                () = &mut inputs, if !inputs_over => inputs_over = true,
            }
        };
        ended.cancel();
        if !outputs_over {
            outputs.await;
        }
        exit.map_or_else(|failure| failed("waiting for the end", &failure), Outcome::Ended)
    };
    tokio::select! {
        outcome = joined => Some(outcome),
        () = client.connection.gone() => None,
    }
}

/// Copies output until it ends, the client no longer reads, or the process has ended and is silent.
async fn outward(from: Option<Descriptor>, to: Option<&mut Output>, ended: &CancellationToken) {
    let (Some(from), Some(to)) = (from, to) else {
        return;
    };
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(to.piece()) => read.unwrap_or_default(),
            () = to.closed() => return,
            () = silence(ended) => Bytes::new(),
        };
        if read.is_empty() {
            break;
        }
        if to.send(read).await.is_err() {
            return;
        }
    }
    drop(from);
    to.finish().await;
}

async fn silence(ended: &CancellationToken) {
    ended.cancelled().await;
    tokio::time::sleep(SILENCE).await;
}

/// Copies input until it ends or the process no longer reads.
async fn inward(from: Option<Input>, to: Option<Descriptor>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    while let Ok(Some(bytes)) = from.chunk().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn resize(sizes: Option<Sizes>, terminal: Option<std::os::fd::OwnedFd>) {
    // The terminal stays open as long as the session, also after the last size.
    let Some(terminal) = terminal else {
        return;
    };
    if let Some(mut sizes) = sizes {
        while let Some(TerminalSize { width, height }) = sizes.next().await {
            let size = Winsize {
                ws_row: height,
                ws_col: width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // Fails if no process has the terminal open.
            tcsetwinsize(&terminal, size).ok();
        }
    }
    std::future::pending::<()>().await;
}
