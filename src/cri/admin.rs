//! The admin service: what `pausa image` asks beside CRI. Every RPC to its own file.
//!
//! Must never: do anything here but choose the file and name what the request is about, for the log.

use std::sync::Arc;

use tonic::{Request, Streaming, async_trait};

use super::ImageDoor;
use super::backend::ImageService as Images;
use super::call::{Reply, call};
use super::stream::Messages;
use crate::proto::admin;
use crate::proto::admin::admin_server::Admin;

mod export;
mod import;
mod pull;

#[async_trait]
impl<I: Images> Admin for ImageDoor<I> {
    async fn import(
        &self,
        request: Request<Streaming<admin::ImportRequest>>,
    ) -> Reply<admin::ImportResponse> {
        let pieces = request.into_inner();
        call("Import", "", import::answer(&*self.images, pieces)).await
    }

    type PullStream = Messages<admin::PullResponse>;

    async fn pull(&self, request: Request<admin::PullRequest>) -> Reply<Self::PullStream> {
        let request = request.into_inner();
        let subject = request.reference.clone();
        call("Pull", &subject, pull::answer(Arc::clone(&self.images), request)).await
    }

    /// Pulls has nothing to decode.
    async fn pulls(&self, _: Request<admin::PullsRequest>) -> Reply<admin::PullsResponse> {
        let work = async {
            Ok(admin::PullsResponse {
                pulls: self.images.pulls(),
                kept: self.images.kept(),
            })
        };
        call("Pulls", "", work).await
    }

    async fn check(&self, request: Request<admin::CheckRequest>) -> Reply<admin::CheckResponse> {
        let reference = request.into_inner().reference;
        let work = async {
            super::require::text("reference", &reference)?;
            let explanation = self.images.check(reference.clone()).await?;
            Ok(admin::CheckResponse { explanation })
        };
        call("Check", &reference, work).await
    }

    async fn verify(&self, request: Request<admin::VerifyRequest>) -> Reply<admin::VerifyResponse> {
        let admin::VerifyRequest { image, repair } = request.into_inner();
        let work = async {
            super::require::text("image", &image)?;
            self.images.verify(image.clone(), repair).await
        };
        call("Verify", &image, work).await
    }

    /// Incomplete has nothing to decode.
    async fn incomplete(&self, _: Request<admin::IncompleteRequest>) -> Reply<admin::IncompleteResponse> {
        let work = async {
            Ok(admin::IncompleteResponse {
                images: self.images.incomplete(),
            })
        };
        call("Incomplete", "", work).await
    }

    type ExportStream = Messages<admin::ExportResponse>;

    async fn export(&self, request: Request<admin::ExportRequest>) -> Reply<Self::ExportStream> {
        let request = request.into_inner();
        let subject = request.images.join(" ");
        call(
            "Export",
            &subject,
            export::answer(Arc::clone(&self.images), request),
        )
        .await
    }

    async fn prune(&self, request: Request<admin::PruneRequest>) -> Reply<admin::PruneResponse> {
        let dry_run = request.into_inner().dry_run;
        call("Prune", "", self.images.prune(dry_run)).await
    }
}
