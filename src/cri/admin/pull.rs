//! Admin Pull: PullImage that tells how far it is.
//!
//! ```text
//!  progress ──tick, and something has changed──▶ progress ──the pull ends──▶ done or a status ──▶ closed
//! ```
//!
//! The stream is what waits for the pull: dropping it ends the waiting, as with any request.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;

use crate::cri::backend::ImageService;
use crate::cri::stream::Messages;
use crate::cri::{require, status};
use crate::error::Failure;
use crate::proto::admin::pull_response::Event;
use crate::proto::{admin, v1};

/// How often a client is told at most: faster than this nobody can look.
const TELL_EVERY: Duration = Duration::from_millis(100);

type Pulling = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send>>;

/// Serves Pull.
pub(super) async fn answer<I: ImageService>(
    images: Arc<I>,
    request: admin::PullRequest,
) -> Result<Messages<admin::PullResponse>, Failure> {
    require::text("reference", &request.reference)?;
    let spec = v1::ImageSpec {
        image: request.reference.clone(),
        ..Default::default()
    };
    let auth = request.credentials.map(v1::AuthConfig::from);
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let telling = Telling {
        names: images.names(request.reference).await,
        pulling: {
            let images = Arc::clone(&images);
            Some(Box::pin(async move { images.pull(spec, auth, None).await }))
        },
        images,
        ticks,
        told: None,
    };
    Ok(Box::pin(stream::unfold(telling, Telling::next)))
}

/// What one client is being told.
struct Telling<I> {
    images: Arc<I>,
    /// What the reference may mean: one of these is in the list.
    names: Vec<String>,
    /// Taken when it has ended.
    pulling: Option<Pulling>,
    ticks: Interval,
    told: Option<admin::PullProgress>,
}

impl<I: ImageService> Telling<I> {
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
            if let Some(progress) = self.news() {
                self.told = Some(progress.clone());
                self.pulling = Some(pulling);
                return Some((Ok(response(Event::Progress(progress))), self));
            }
        }
    }

    /// How far it is, if that is not what was told last.
    fn news(&self) -> Option<admin::PullProgress> {
        let mut pulls = self.images.pulls().into_iter();
        let found = pulls.find(|pull| self.names.contains(&pull.reference));
        found.filter(|progress| self.told.as_ref() != Some(progress))
    }
}

fn response(event: Event) -> admin::PullResponse {
    admin::PullResponse { event: Some(event) }
}
