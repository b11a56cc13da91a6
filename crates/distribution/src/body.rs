//! The body of a response, with detection of stalls.
//!
//! At least [`MIN_PROGRESS`] bytes must arrive in every `stall` spent waiting, so that a server cannot hold a transfer for ever
//! with a byte now and then. Time during which the reader does not wait (a slow disk) does not count.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use crate::error::{Error, Target};

/// Fewer bytes in the stall limit count as a stall. With the usual minute that is a kilobyte per second: less than a share of
/// any link over which images can be pulled, and a large blob does not take years.
const MIN_PROGRESS: usize = 64 << 10;
/// A body that is read whole may take this many times the stall limit.
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

    /// The whole body, at most `limit` bytes.
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
