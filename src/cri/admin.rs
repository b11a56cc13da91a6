//! The admin service: what the `pausa` command asks for beyond CRI.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio_util::io::StreamReader;
use tonic::{Request, Streaming, async_trait};

use super::Services;
use super::call::{Reply, call};
use super::stream::Messages;
use crate::blocking::blocking;
use crate::error::{ErrorKind, Failure};
use crate::proto::admin;
use crate::proto::admin::admin_server::Admin;
use crate::{require, telemetry};

mod convert;
mod export;
mod pull;

#[async_trait]
impl Admin for Services {
    /// Stores the images of an archive that comes in pieces.
    async fn import(
        &self,
        request: Request<Streaming<admin::ImportRequest>>,
    ) -> Reply<admin::ImportResponse> {
        // A stream that fails means that the client went away.
        let archive = request.into_inner().map(|piece| match piece {
            Ok(piece) => Ok(bytes::Bytes::from(piece.chunk)),
            Err(status) => Err(std::io::Error::other(status)),
        });
        let import = async {
            let imported = self.pods.images().import(StreamReader::new(archive)).await?;
            let images = imported.into_iter().map(|image| admin::ImportedImage {
                id: image.id,
                names: image.names,
            });
            Ok::<_, Failure>(admin::ImportResponse {
                images: images.collect(),
            })
        };
        call("Import", "", import).await
    }

    type PullStream = Messages<admin::PullResponse>;

    async fn pull(&self, request: Request<admin::PullRequest>) -> Reply<Self::PullStream> {
        let request = request.into_inner();
        let reference = request.reference.clone();
        call(
            "Pull",
            &reference,
            pull::begin(self.pods.images().clone(), request),
        )
        .await
    }

    async fn pulls(&self, _: Request<admin::PullsRequest>) -> Reply<admin::PullsResponse> {
        let list = async {
            Ok::<_, Failure>(admin::PullsResponse {
                pulls: self.pods.images().pulls().into_iter().map(Into::into).collect(),
                kept: self
                    .pods
                    .images()
                    .retained_layers()
                    .into_iter()
                    .map(Into::into)
                    .collect(),
            })
        };
        call("Pulls", "", list).await
    }

    async fn check(&self, request: Request<admin::CheckRequest>) -> Reply<admin::CheckResponse> {
        let reference = request.into_inner().reference;
        let check = async {
            require::text("reference", &reference)?;
            Ok::<_, Failure>(self.pods.images().explain(&reference).await?.into())
        };
        call("Check", &reference, check).await
    }

    async fn verify(&self, request: Request<admin::VerifyRequest>) -> Reply<admin::VerifyResponse> {
        let admin::VerifyRequest { image, repair } = request.into_inner();
        let verify = async {
            require::text("image", &image)?;
            let report = match repair {
                true => self.pods.images().repair(&image).await?,
                false => self.pods.images().verify(&image).await?,
            };
            Ok::<_, Failure>(report.into())
        };
        call("Verify", &image, verify).await
    }

    async fn incomplete(&self, _: Request<admin::IncompleteRequest>) -> Reply<admin::IncompleteResponse> {
        let images = self
            .pods
            .images()
            .incomplete()
            .into_iter()
            .map(Into::into)
            .collect();
        let list = async { Ok::<_, Failure>(admin::IncompleteResponse { images }) };
        call("Incomplete", "", list).await
    }

    type ExportStream = Messages<admin::ExportResponse>;

    async fn export(&self, request: Request<admin::ExportRequest>) -> Reply<Self::ExportStream> {
        let request = request.into_inner();
        let names = request.images.join(" ");
        let export = async { export::begin(self.pods.images().clone(), request) };
        call("Export", &names, export).await
    }

    async fn prune(&self, request: Request<admin::PruneRequest>) -> Reply<admin::PruneResponse> {
        let dry_run = request.into_inner().dry_run;
        let prune = async { Ok::<_, Failure>(self.pods.images().prune(dry_run).await.into()) };
        call("Prune", "", prune).await
    }

    async fn cpus(&self, _: Request<admin::CpusRequest>) -> Reply<admin::CpusResponse> {
        let cpus = async { Ok::<_, Failure>(self.pods.services().cpus.snapshot().await.into()) };
        call("Cpus", "", cpus).await
    }

    async fn operations(&self, _: Request<admin::OperationsRequest>) -> Reply<admin::OperationsResponse> {
        let operations = self.pods.operations().into_iter().map(Into::into).collect();
        let list = async { Ok::<_, Failure>(admin::OperationsResponse { operations }) };
        call("Operations", "", list).await
    }

    async fn config_changes(
        &self,
        _: Request<admin::ConfigChangesRequest>,
    ) -> Reply<admin::ConfigChangesResponse> {
        let running = Arc::clone(&self.node.running);
        let changes = async move {
            let reload = blocking(move || running.read()).await;
            let reload =
                reload.map_err(|error| Failure::from_error(ErrorKind::FailedPrecondition, &error))?;
            let changes = reload.changes.into_iter().map(Into::into).collect();
            Ok::<_, Failure>(admin::ConfigChangesResponse { changes })
        };
        call("ConfigChanges", "", changes).await
    }

    async fn log_level(&self, request: Request<admin::LogLevelRequest>) -> Reply<admin::LogLevelResponse> {
        let wanted = request.into_inner().level;
        let set = async {
            let configured = self.node.running.config().log.level.clone();
            if let Some(level) = wanted {
                telemetry::set_log_level(&level)
                    .map_err(|error| Failure::from_error(ErrorKind::InvalidArgument, &error))?;
                tracing::info!(
                    level,
                    configured,
                    "a client has set the log level, until the next reload"
                );
            }
            let level = telemetry::log_level().unwrap_or_else(|| configured.clone());
            Ok::<_, Failure>(admin::LogLevelResponse { level, configured })
        };
        call("LogLevel", "", set).await
    }

    type CheckNetworkStream = Messages<admin::CheckNetworkResponse>;

    async fn check_network(
        &self,
        request: Request<admin::CheckNetworkRequest>,
    ) -> Reply<Self::CheckNetworkStream> {
        let pod = request.into_inner().pod;
        let check = async {
            let checks = self.pods.check_network(&pod).await?;
            let messages: Self::CheckNetworkStream = Box::pin(checks.map(|check| Ok(check.into())));
            Ok::<_, Failure>(messages)
        };
        call("CheckNetwork", &pod, check).await
    }
}
