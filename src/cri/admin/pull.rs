//! Admin Pull: PullImage that reports its progress.
//!
//! ```text
//!  progress ──tick, and something has changed──▶ progress ──the pull ends──▶ done or a status ──▶ closed
//! ```
//!
//! The stream is what waits for the pull: dropping it ends the waiting, as with any request.

use std::pin::Pin;
use std::time::Duration;

use futures_util::stream;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;

use crate::cri::status;
use crate::cri::stream::Messages;
use crate::error::Failure;
use crate::image::Images;
use crate::proto::admin;
use crate::proto::admin::pull_response::Event;
use crate::require;

/// The shortest time between two reports: nobody can read faster.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

type Pulling = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send>>;

/// Begins a pull, or joins it; the stream ends with it.
pub(super) async fn begin(
    images: Images,
    request: admin::PullRequest,
) -> Result<Messages<admin::PullResponse>, Failure> {
    require::text("reference", &request.reference)?;
    // A reference that is invalid, or that may not be pulled, means nothing: the pull says so.
    let explanation = images.explain(&request.reference).await;
    let meanings = explanation
        .map(|explained| explained.references)
        .unwrap_or_default();
    let auth = request.credentials;
    let mut ticks = interval(REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let progress = Progress {
        names: meanings.into_iter().map(|meaning| meaning.reference).collect(),
        pulling: {
            let images = images.clone();
            Some(Box::pin(async move {
                Ok(images.pull(&request.reference, auth.as_ref()).await?)
            }))
        },
        images,
        ticks,
        reported: None,
    };
    Ok(Box::pin(stream::unfold(progress, Progress::next)))
}

/// The progress that one client is sent.
struct Progress {
    images: Images,
    /// What the reference may mean: one of these is in the list of pulls.
    names: Vec<String>,
    /// Taken when it has ended.
    pulling: Option<Pulling>,
    ticks: Interval,
    reported: Option<admin::PullProgress>,
}

impl Progress {
    async fn next(mut self) -> Option<(Result<admin::PullResponse, Status>, Self)> {
        let mut pulling = self.pulling.take()?;
        loop {
            tokio::select! {
                biased;
                ended = &mut pulling => {
                    let message = match ended {
                        Ok(id) => Ok(response(Event::Done(admin::PulledImage { id }))),
                        Err(failure) => Err(status::from_pull_failure(failure)),
                    };
                    return Some((message, self));
                }
                _ = self.ticks.tick() => {}
            }
            if let Some(progress) = self.changed() {
                self.reported = Some(progress.clone());
                self.pulling = Some(pulling);
                return Some((Ok(response(Event::Progress(progress))), self));
            }
        }
    }

    /// How far the pull is, if that is not what was reported last.
    fn changed(&self) -> Option<admin::PullProgress> {
        let mut pulls = self.images.pulls().into_iter();
        let found = pulls.find(|pull| self.names.contains(&pull.reference))?.into();
        (self.reported.as_ref() != Some(&found)).then_some(found)
    }
}

fn response(event: Event) -> admin::PullResponse {
    admin::PullResponse { event: Some(event) }
}
