//! Pulling: one task for each reference and credentials, which everybody who asks for the same joins.
//!
//! ```text
//!  resolve ─▶ config ─▶ layers, in parallel ─▶ durable ─▶ record
//!     │          │              │                 │         │
//!     └──────────┴──────────────┴─────────────────┴─────────┴──▶ failed: what a retry can use is on the shelf, the rest is gone
//! ```
//!
//! The task outlives whoever asked. A layer that fails ends the others.

pub(crate) mod chunk_reader;
pub(crate) mod credentials;
pub(crate) mod fetch;
pub(crate) mod ingest;
pub(crate) mod media_types;
pub(crate) mod progress;
pub(crate) mod retained;
pub(crate) mod short_names;
pub(crate) mod unpack;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pausa_distribution::{AuthFields, Credentials, Digest, Platform, Reference};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::Images;
use super::error::{ImageError, shortened};
use crate::error::{ErrorKind, Kinded};
use crate::failpoint::failpoint;
use crate::image::pull::media_types::check_media_types;
use crate::image::pull::progress::{Progress, PullStep};
use crate::image::store::content::{CONFIG_MAX, Config};
use crate::image::store::files;
use crate::image::store::index::{digest_name, tag_name};
use crate::image::store::layers::Layer;
use crate::image::store::metadata::{MetadataJob, NewImage, StoredDocument};
use crate::proto::v1;
use crate::telemetry::metrics;
use fetch::{Origin, PullContext, Remote, blocking};

type Outcome = Option<Result<String, Arc<ImageError>>>;

/// Pulls in progress by what was asked for.
pub(super) type InFlight = Arc<Mutex<HashMap<String, Running>>>;

/// A pull that can be joined.
#[derive(Debug, Clone)]
pub(super) struct Running {
    outcome: watch::Receiver<Outcome>,
    progress: Arc<Progress>,
}

/// How often a pull says that it still goes on.
const REPORT: Duration = Duration::from_secs(10);

/// Takes a pull out of the map, however it ends.
struct Leave {
    pulls: InFlight,
    key: String,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.remove(&self.key);
    }
}

impl Images {
    /// Pulls an image and returns its id. The work goes on if the caller goes away, and whoever asks for the same joins it. Of a
    /// short name with several meanings the one that is being tried is finished; the next ones are tried only for a caller.
    ///
    /// # Errors
    /// [`ImageError`]; of what was fetched only what a retry can use is left then, for a while ([`kept`](Self::kept)).
    pub async fn pull(&self, reference: &str, auth: Option<&v1::AuthConfig>) -> Result<String, ImageError> {
        self.pull_with(reference, &fields(auth)).await
    }

    pub(super) async fn pull_with(&self, reference: &str, fields: &AuthFields) -> Result<String, ImageError> {
        let refused = |source| ImageError::Reference {
            reference: shortened(reference),
            source: Box::new(source),
        };
        let credentials = fields.credentials().map_err(refused)?;
        // Read here and now: before the first await the pull must be on its way, or it would go with its caller. Only short names
        // need a file at all, and a small one.
        let names = self.inner.registries.names(reference).map_err(refused)?;
        let mut failed = Vec::new();
        for name in names {
            match self.pull_one(name, credentials.clone(), fields).await {
                Err(error) if try_next_name(&error) => failed.push(error),
                outcome => return outcome,
            }
        }
        Err(ImageError::all_names_failed(reference, failed))
    }

    async fn pull_one(
        &self,
        reference: Reference,
        credentials: Credentials,
        fields: &AuthFields,
    ) -> Result<String, ImageError> {
        let Running {
            mut outcome,
            progress,
        } = self.join_or_start(reference.clone(), credentials, fields);
        let _waiter = progress.wait();
        let result = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match result {
            Some(Ok(id)) => {
                self.inner.logins.remember(&reference, fields);
                Ok(id)
            }
            Some(Err(error)) => Err(ImageError::Joined(error)),
            None => Err(ImageError::Stopped {
                doing: "pulling an image",
            }),
        }
    }

    fn join_or_start(&self, reference: Reference, credentials: Credentials, fields: &AuthFields) -> Running {
        let key = format!("{reference} {}", fingerprint(fields));
        let (sender, outcome) = watch::channel(None);
        let (running, listed) = {
            let mut pulls = self.inner.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = pulls.get(&key) {
                return running.clone();
            }
            let listed = self.inner.board.list(reference.to_string());
            let progress = Arc::clone(&listed);
            let running = Running { outcome, progress };
            pulls.insert(key.clone(), running.clone());
            (running, listed)
        };
        let leave = Leave {
            pulls: Arc::clone(&self.inner.pulls),
            key,
        };
        let images = self.clone();
        tokio::spawn(async move {
            let since = Instant::now();
            let result = {
                let mut pulled = pin!(images.pull_now(reference, credentials, &listed));
                loop {
                    match tokio::time::timeout(REPORT, &mut pulled).await {
                        Ok(result) => break result.map_err(Arc::new),
                        Err(_) => listed.report(),
                    }
                }
            };
            let outcome = result.as_ref().map_or_else(|error| error.kind().name(), |_| "ok");
            metrics::pull(outcome, since.elapsed());
            drop(leave);
            drop(listed);
            sender.send_replace(Some(result));
        });
        running
    }

    async fn pull_now(
        &self,
        reference: Reference,
        credentials: Credentials,
        progress: &Progress,
    ) -> Result<String, ImageError> {
        let remote = Arc::new(Remote {
            client: self.inner.client.clone(),
            reference,
            credentials,
        });
        let mut pulled = self.pull_remote(&remote, progress).await;
        if pulled.as_ref().is_err_and(ImageError::is_disk_full) {
            let kept = self.inner.shelf.clear();
            if !kept.is_empty() {
                tracing::warn!(image = %remote.reference, "the disk is full: what failed pulls had left is given up");
                kept.give_up().await;
                self.inner.layers.flush().await;
                pulled = self.pull_remote(&remote, progress).await;
            }
        }
        if pulled.is_err() {
            self.inner.layers.flush().await;
        }
        pulled
    }

    async fn pull_remote(&self, remote: &Arc<Remote>, progress: &Progress) -> Result<String, ImageError> {
        let Remote {
            client,
            reference,
            credentials,
        } = &**remote;
        let failed = |source| ImageError::Fetch {
            reference: reference.to_string(),
            source: Box::new(source),
        };
        let disk = self.disk()?;
        let platform: &Platform = &self.inner.config.platform;
        let image = client
            .image(reference, platform, credentials)
            .await
            .map_err(failed)?;
        check_media_types(&image.manifest)?;
        progress.enter(PullStep::Config);
        let blob = &image.manifest.config;
        let bytes = client
            .fetch_small(reference, blob, CONFIG_MAX, credentials)
            .await
            .map_err(failed)?;
        let config = Config::parse(&bytes, blob.digest.clone())?;
        let origins = image.manifest.layers.iter();
        let origins = origins.map(|layer| Origin::Registry(Arc::clone(remote), layer.clone()));
        let layers = self.layers(&config, origins.collect(), &disk, progress).await?;
        let mut manifests = vec![document(&image.target.digest, &image.target.bytes)];
        if image.digest != image.target.digest {
            manifests.push(document(&image.digest, &image.bytes));
        }
        let put = NewImage {
            tags: tag_name(reference).into_iter().collect(),
            digests: vec![digest_name(reference, &image.target.digest)],
            config_bytes: bytes.into(),
            manifests,
            layers,
            config,
        };
        self.commit(put, &disk, progress).await
    }

    /// Holds all layers of an image; `origins` in the order of the config's diff ids.
    pub(super) async fn layers(
        &self,
        config: &Config,
        origins: Vec<Origin>,
        disk: &Arc<File>,
        progress: &Progress,
    ) -> Result<Vec<Arc<Layer>>, ImageError> {
        if origins.len() != config.diff_ids.len() {
            return Err(ImageError::Config {
                digest: config.id.to_string(),
                reason: format!(
                    "it names {} layers and the manifest {}",
                    config.diff_ids.len(),
                    origins.len()
                ),
            });
        }
        progress.enter(PullStep::Layers);
        let parallel = self.inner.config.max_parallel_downloads;
        let (effort, mut idle) = PullContext::new(parallel, Arc::clone(&self.inner.shelf), Arc::clone(disk));
        let effort = Arc::new(effort);
        let mut tasks = JoinSet::new();
        for (at, (diff_id, origin)) in config.diff_ids.iter().cloned().zip(origins).enumerate() {
            let (layers, effort) = (self.inner.layers.clone(), Arc::clone(&effort));
            let (digest, size) = origin.blob(&diff_id);
            let track = progress.layer(digest, &diff_id, size);
            tasks.spawn(async move {
                let layer = fetch::obtain(&layers, &diff_id, &origin, &effort, &track).await;
                layer.map(|layer| (at, layer))
            });
        }
        let mut held = Vec::with_capacity(config.diff_ids.len());
        while let Some(done) = tasks.join_next().await {
            let layer = done.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(ImageError::Stopped {
                    doing: "fetching layers",
                }),
            });
            match layer {
                Ok(layer) => held.push(layer),
                Err(error) => {
                    if error.is_retryable() {
                        effort.keep();
                    }
                    // The others' threads notice that nobody feeds them any more, and clean up, unless they are kept.
                    tasks.abort_all();
                    while let Some(done) = tasks.join_next().await {
                        held.extend(done.into_iter().flatten());
                    }
                    drop(effort);
                    while idle.recv().await.is_some() {}
                    if error.is_retryable() {
                        let held = held.into_iter().map(|(_, layer)| layer);
                        self.keep(held.collect(), disk).await;
                    }
                    return Err(error);
                }
            }
        }
        held.sort_by_key(|(at, _)| *at);
        Ok(held.into_iter().map(|(_, layer)| layer).collect())
    }

    /// What tells of a failed write of layers: to be taken before the first of them, for the kernel reports to a descriptor
    /// what went wrong since it was opened.
    pub(super) fn disk(&self) -> Result<Arc<File>, ImageError> {
        files::open_dir(&self.inner.layout.layers()).map(Arc::new)
    }

    /// Makes layers durable; one sync serves them all.
    pub(super) async fn make_durable(
        &self,
        layers: &[Arc<Layer>],
        disk: &Arc<File>,
    ) -> Result<(), ImageError> {
        if layers.iter().all(|layer| layer.is_durable()) {
            return Ok(());
        }
        let (dir, layers) = (self.inner.layout.layers(), layers.to_vec());
        let disk = Arc::clone(disk);
        blocking("making layers durable", move || {
            pausa_layer::sync_tree(disk.as_fd()).map_err(|source| ImageError::Unpack {
                diff_id: dir.display().to_string(),
                source: Box::new(source),
            })?;
            layers.iter().for_each(|layer| layer.mark_durable());
            Ok(())
        })
        .await
    }

    /// Makes an image's layers durable, then records it.
    pub(super) async fn commit(
        &self,
        put: NewImage,
        disk: &Arc<File>,
        progress: &Progress,
    ) -> Result<String, ImageError> {
        let id = put.config.id.to_string();
        progress.enter(PullStep::Syncing);
        self.make_durable(&put.layers, disk).await?;
        failpoint("layers-synced");
        progress.enter(PullStep::Recording);
        let diff_ids = put.config.diff_ids.clone();
        let (reply, done) = oneshot::channel();
        self.inner.send(MetadataJob::NewImage(Box::new(put), reply));
        done.await.unwrap_or(Err(ImageError::Stopped {
            doing: "recording an image",
        }))?;
        self.release_kept(&diff_ids).await;
        Ok(id)
    }
}

/// Whether the next meaning of a short name may have what this one has not.
fn try_next_name(error: &ImageError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::Unauthenticated
            | ErrorKind::Unavailable
            | ErrorKind::ResourceExhausted
    )
}

fn fields(auth: Option<&v1::AuthConfig>) -> AuthFields {
    let auth = auth.cloned().unwrap_or_default();
    AuthFields {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}

/// Tells credentials apart without being them.
fn fingerprint(fields: &AuthFields) -> Digest {
    let parts = [
        &fields.username,
        &fields.password,
        &fields.auth,
        &fields.server_address,
        &fields.identity_token,
        &fields.registry_token,
    ];
    let text: String = parts
        .iter()
        .map(|part| format!("{} {part}", part.len()))
        .collect();
    Digest::sha256(text.as_bytes())
}

/// A document to be kept under its digest.
pub(super) fn document(digest: &Digest, bytes: &[u8]) -> StoredDocument {
    StoredDocument {
        // Documents named by another algorithm are kept under their SHA-256: file names are of one kind.
        hex: match digest.algorithm() {
            pausa_distribution::Algorithm::Sha256 => digest.hex().to_owned(),
            pausa_distribution::Algorithm::Sha512 => Digest::sha256(bytes).hex().to_owned(),
        },
        bytes: bytes.to_vec(),
    }
}
