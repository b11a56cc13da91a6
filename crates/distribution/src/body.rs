//! The body of an answer as it comes in, watched for stalls.
//!
//! In every `stall` spent waiting there must arrive [`MIN_PROGRESS`] bytes, so that a server cannot hold a transfer for ever by
//! a byte now and then. Time during which nobody waits (a slow disk) does not count.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use crate::error::{Error, Target};

/// Bytes that show a body to be alive.
const MIN_PROGRESS: usize = 1024;
/// A body that is read whole may take so many times the stall limit in all.
const WHOLE_FACTOR: u32 = 5;

pub(crate) struct Body {
    response: Response,
    target: Target,
    stall: Duration,
    waited: Duration,
    arrived: usize,
}

impl Body {
    pub(crate) fn new(response: Response, target: Target, stall: Duration) -> Self {
        Self {
            response,
            target,
            stall,
            waited: Duration::ZERO,
            arrived: 0,
        }
    }

    /// The request this answers.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let begun = Instant::now();
        let left = self.stall.saturating_sub(self.waited);
        let chunk = match tokio::time::timeout(left, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => {
                return Err(Error::Transport {
                    target: self.target.clone(),
                    source: error.without_url(),
                });
            }
            Err(_) => return Err(self.stalled()),
        };
        self.waited += begun.elapsed();
        self.arrived += chunk.as_ref().map_or(0, Bytes::len);
        if self.arrived >= MIN_PROGRESS {
            (self.waited, self.arrived) = (Duration::ZERO, 0);
        }
        Ok(chunk)
    }

    /// All of it, at most `limit` bytes.
    pub(crate) async fn whole(mut self, what: &'static str, limit: usize) -> Result<Vec<u8>, Error> {
        let begun = Instant::now();
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                return Err(Error::TooLarge {
                    target: self.target,
                    what,
                    limit,
                });
            }
            if begun.elapsed() > self.stall * WHOLE_FACTOR {
                return Err(self.stalled());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn stalled(&self) -> Error {
        Error::Stalled {
            target: self.target.clone(),
            step: "more of the body",
            after: self.stall,
        }
    }
}
