//! The client's deadline: until when it waits for an answer.
//!
//! gRPC sends it with the request (`grpc-timeout`). It ends the waiting, never the work: a moment before it
//! passes, the request's wait ends, with an error that says what the work is doing. The deadline
//! travels with the request's task, so that rooms need not hand it through; work that runs in tasks of its
//! own does not see it.

use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// The answer has to be on its way before the client stops listening.
const MARGIN: Duration = Duration::from_millis(20);

/// Runs a request of a client that listens for `patience` from now; none: for ever.
pub async fn scope<F: Future>(patience: Option<Duration>, request: F) -> F::Output {
    match patience {
        Some(patience) => {
            let margin = MARGIN.min(patience / 10);
            DEADLINE
                .scope(Instant::now() + (patience - margin), request)
                .await
        }
        None => request.await,
    }
}

/// Waits as long as an answer is of use; none: it is not any more.
pub async fn wait<F: Future>(work: F) -> Option<F::Output> {
    match DEADLINE.try_with(|deadline| *deadline) {
        Ok(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        Err(_) => Some(work.await),
    }
}

/// Reads the value of a `grpc-timeout` header: up to eight digits and a unit (gRPC over HTTP/2, "Timeout").
pub fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
