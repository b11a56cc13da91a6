//! Puts images into the store, from a registry or from an archive.
//!
//! ```text
//!  resolve ─▶ config ─▶ layers, in parallel ─▶ durable ─▶ record
//!     │          │              │                 │         │
//!     └──────────┴──────────────┴─────────────────┴─────────┴──▶ on failure, reusable layers are retained; the rest is removed
//! ```
//!
//! A pull is one task for each reference and credentials. Requests for the same join it, and it outlives
//! them. A layer that fails ends the others.

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
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pausa_distribution::{AuthFields, Credentials, Digest, Explanation, Proxies, Reference, explain};
use tokio::io::AsyncRead;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::Images;
use super::archive::import::{ImportedImage, plan};
use super::archive::spool::Spool;
use super::error::{ImageError, shortened, tree_error};
use super::store::content::{CONFIG_MAX, ImageConfig};
use super::store::files;
use super::store::index::{digest_name, tag_name};
use super::store::layers::Layer;
use super::store::metadata::{MetadataJob, NewImage, StoredDocument};
use crate::blocking::blocking;
use crate::error::{ErrorKind, Kinded, chain};
use crate::failpoint::failpoint;
use crate::proto::v1;
use crate::telemetry::metrics;
use fetch::{Origin, PullContext, Remote};
use media_types::check_media_types;
use progress::{Progress, PullStep, TrackedPull};

type Outcome = Option<Result<String, Arc<ImageError>>>;

/// Pulls in progress, by reference and credentials.
pub(super) type PullsInFlight = Arc<Mutex<HashMap<String, RunningPull>>>;

/// A pull that requests can join.
#[derive(Debug, Clone)]
pub(super) struct RunningPull {
    outcome: watch::Receiver<Outcome>,
    progress: Arc<Progress>,
}

/// Pulls in progress: they continue without the clients that have asked for them.
pub(crate) const PULLS_MAX: usize = 512;
/// How often a pull in progress is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Removes a pull from those in flight, however it ends.
struct InFlightGuard {
    pulls: PullsInFlight,
    key: String,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.pulls.lock().remove(&self.key);
    }
}

impl Images {
    /// Pulls an image and returns its id. The pull continues if the caller goes away, and requests for the
    /// same image join it. If a short name has several meanings and the caller goes away, only the one that
    /// is being tried is finished.
    ///
    /// # Errors
    /// [`ImageError`]. Only what a retry can use is then left, for a limited time.
    pub(crate) async fn pull(
        &self,
        reference: &str,
        auth: Option<&v1::AuthConfig>,
    ) -> Result<String, ImageError> {
        let auth = auth.cloned().unwrap_or_default();
        let fields = AuthFields {
            username: auth.username,
            password: auth.password,
            auth: auth.auth,
            server_address: auth.server_address,
            identity_token: auth.identity_token,
            registry_token: auth.registry_token,
        };
        self.pull_with(reference, &fields).await
    }

    /// Tries the full names that `reference` may stand for, in order, until one can be pulled.
    pub(super) async fn pull_with(&self, reference: &str, fields: &AuthFields) -> Result<String, ImageError> {
        let refused = |source| ImageError::Reference {
            reference: shortened(reference),
            source: Box::new(source),
        };
        let credentials = fields.credentials().map_err(refused)?;
        // Blocks briefly, and on purpose: the pull must be running before the first await, or it would end
        // with its caller. Only short names need a file, and a small one.
        let names = self
            .inner
            .live
            .load()
            .registries
            .names(reference)
            .map_err(refused)?;
        let mut failed = Vec::new();
        for name in names {
            match self.join_pull(name, credentials.clone(), fields).await {
                Err(error) if try_next_name(&error) => failed.push(error),
                outcome => return outcome,
            }
        }
        Err(ImageError::all_names_failed(reference, failed))
    }

    /// Joins the pull of this reference with these credentials, or starts it, and waits for its result.
    async fn join_pull(
        &self,
        reference: Reference,
        credentials: Credentials,
        fields: &AuthFields,
    ) -> Result<String, ImageError> {
        let RunningPull {
            mut outcome,
            progress,
        } = self.running_pull(reference.clone(), credentials, fields)?;
        let _waiter = progress.wait();
        let result = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match result {
            Some(Ok(id)) => {
                self.inner.credentials.remember(&reference, fields);
                Ok(id)
            }
            Some(Err(error)) => Err(ImageError::Joined(error)),
            None => Err(ImageError::Stopped {
                doing: "pulling an image",
            }),
        }
    }

    fn running_pull(
        &self,
        reference: Reference,
        credentials: Credentials,
        fields: &AuthFields,
    ) -> Result<RunningPull, ImageError> {
        let key = format!("{reference} {}", fingerprint(fields));
        let (sender, outcome) = watch::channel(None);
        let (running, tracked) = {
            let mut pulls = self.inner.pulls.lock();
            if let Some(running) = pulls.get(&key) {
                return Ok(running.clone());
            }
            if pulls.len() >= PULLS_MAX {
                return Err(ImageError::TooManyPulls { limit: PULLS_MAX });
            }
            let tracked = self.inner.tracker.add(reference.to_string());
            let progress = Arc::clone(&tracked);
            let running = RunningPull { outcome, progress };
            pulls.insert(key.clone(), running.clone());
            (running, tracked)
        };
        let in_flight = InFlightGuard {
            pulls: Arc::clone(&self.inner.pulls),
            key,
        };
        let remote = Remote {
            client: self.inner.live.load().client.clone(),
            reference,
            credentials,
        };
        let pull = self
            .clone()
            .run_pull(Arc::new(remote), tracked, in_flight, sender);
        tokio::spawn(pull.instrument(tracing::trace_span!("operation", otel.name = "Pull")));
        Ok(running)
    }

    /// The task of a pull.
    async fn run_pull(
        self,
        remote: Arc<Remote>,
        tracked: TrackedPull,
        in_flight: InFlightGuard,
        outcome: watch::Sender<Outcome>,
    ) {
        let since = Instant::now();
        let result = {
            let mut pull = pin!(self.fetch_image(&remote, &tracked));
            loop {
                match tokio::time::timeout(REPORT_INTERVAL, &mut pull).await {
                    Ok(result) => break result,
                    Err(_) => tracked.report(),
                }
            }
        };
        metrics::pull(result.as_ref().err().map(Kinded::kind), since.elapsed());
        drop(in_flight);
        drop(tracked);
        outcome.send_replace(Some(result.map_err(Arc::new)));
    }

    /// Fetches an image. If the disk is full, tries again without what earlier pulls and removed images have left.
    async fn fetch_image(&self, remote: &Arc<Remote>, progress: &Progress) -> Result<String, ImageError> {
        let mut fetched = self.try_fetch_image(remote, progress).await;
        if let Err(error) = &fetched
            && error.is_disk_full()
        {
            let removed = self.inner.retained.remove_all();
            if !removed.is_empty() || self.inner.layers.dying().inodes > 0 {
                tracing::warn!(
                    image = %remote.reference,
                    error = chain(error),
                    "the disk is full: trying again without what failed pulls and removed images have left"
                );
                removed.discard().await;
                self.inner.layers.gc().flush().await;
                fetched = self.try_fetch_image(remote, progress).await;
            }
        }
        if fetched.is_err() {
            self.inner.layers.gc().flush().await;
        }
        fetched
    }

    async fn try_fetch_image(&self, remote: &Arc<Remote>, progress: &Progress) -> Result<String, ImageError> {
        let Remote {
            client,
            reference,
            credentials,
        } = &**remote;
        let disk = self.open_disk()?;
        let platform = &self.inner.live.load_full().config.platform;
        let image = client
            .image(reference, platform, credentials)
            .await
            .map_err(|source| remote.failed(source))?;
        check_media_types(&image.manifest)?;
        progress.enter(PullStep::Config);
        let blob = &image.manifest.config;
        let bytes = client
            .fetch_small(reference, blob, CONFIG_MAX, credentials)
            .await
            .map_err(|source| remote.failed(source))?;
        let config = ImageConfig::parse(&bytes, blob.digest.clone())?;
        let origins = image.manifest.layers.iter();
        let origins = origins.map(|layer| Origin::Registry(Arc::clone(remote), layer.clone()));
        let layers = self
            .fetch_layers(&config, origins.collect(), &disk, progress)
            .await?;
        let mut manifests = vec![StoredDocument::new(&image.target.digest, &image.target.bytes)];
        if image.digest != image.target.digest {
            manifests.push(StoredDocument::new(&image.digest, &image.bytes));
        }
        let image = NewImage {
            tags: tag_name(reference).into_iter().collect(),
            digests: vec![digest_name(reference, &image.target.digest)],
            config_bytes: bytes.into(),
            manifests,
            layers,
            config,
        };
        self.commit(image, &disk, progress).await
    }

    /// Fetches and holds all layers of an image. `origins` has the order of the config's diff ids.
    async fn fetch_layers(
        &self,
        config: &ImageConfig,
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
        let parallel = self.inner.live.load().config.max_parallel_downloads;
        let (context, mut idle) =
            PullContext::new(parallel, Arc::clone(&self.inner.retained), Arc::clone(disk));
        let context = Arc::new(context);
        let mut tasks = JoinSet::new();
        for (at, (diff_id, origin)) in config.diff_ids.iter().cloned().zip(origins).enumerate() {
            let (layers, context) = (self.inner.layers.clone(), Arc::clone(&context));
            let (digest, size) = origin.blob(&diff_id);
            let track = progress.add_layer(digest, &diff_id, size);
            let span = tracing::trace_span!("step", otel.name = "layer", %diff_id);
            let obtain = async move {
                let layer = fetch::obtain(&layers, &diff_id, &origin, &context, &track).await;
                layer.map(|layer| (at, layer))
            };
            tasks.spawn(obtain.instrument(span));
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
                        context.retain_ingests();
                    }
                    // Ingests that are not retained end: their threads notice that no more bytes come, and
                    // clean up.
                    tasks.abort_all();
                    while let Some(done) = tasks.join_next().await {
                        held.extend(done.into_iter().flatten());
                    }
                    drop(context);
                    while idle.recv().await.is_some() {}
                    if error.is_retryable() {
                        let held = held.into_iter().map(|(_, layer)| layer);
                        self.retain_layers(held.collect(), disk).await;
                    }
                    return Err(error);
                }
            }
        }
        held.sort_by_key(|(at, _)| *at);
        Ok(held.into_iter().map(|(_, layer)| layer).collect())
    }

    /// Retains the layers of a failed pull that no image has.
    async fn retain_layers(&self, mut layers: Vec<Arc<Layer>>, disk: &Arc<File>) {
        let retained = &self.inner.retained;
        layers.retain(|layer| !layer.is_durable() || retained.has(layer));
        if retained.has_space() && !layers.is_empty() {
            match self.make_durable(&layers, disk).await {
                Ok(()) => retained.retain_layers(layers).await,
                Err(error) => tracing::warn!(
                    layers = ?layers,
                    error = chain(&error),
                    "cannot make the layers of a failed pull durable; a retry fetches them again"
                ),
            }
        }
        retained.start_expiry();
    }

    /// A descriptor of the file system of the layers. It has to be opened before anything is written, because
    /// the kernel reports a failed write only to descriptors that were open then.
    fn open_disk(&self) -> Result<Arc<File>, ImageError> {
        files::open_dir(&self.inner.layout.layers()).map(Arc::new)
    }

    /// Makes layers durable, all with one syncfs(2).
    async fn make_durable(&self, layers: &[Arc<Layer>], disk: &Arc<File>) -> Result<(), ImageError> {
        if layers.iter().all(|layer| layer.is_durable()) {
            return Ok(());
        }
        let (dir, layers) = (self.inner.layout.layers(), layers.to_vec());
        let disk = Arc::clone(disk);
        blocking(move || {
            pausa_layer::sync_tree(disk.as_fd()).map_err(tree_error("sync", &dir))?;
            layers.iter().for_each(|layer| layer.mark_durable());
            Ok(())
        })
        .await
    }

    /// Makes an image's layers durable, then adds the image to the metadata store.
    async fn commit(
        &self,
        image: NewImage,
        disk: &Arc<File>,
        progress: &Progress,
    ) -> Result<String, ImageError> {
        let id = image.config.id.to_string();
        progress.enter(PullStep::Syncing);
        self.make_durable(&image.layers, disk).await?;
        failpoint("layers-synced");
        progress.enter(PullStep::Recording);
        let diff_ids = image.config.diff_ids.clone();
        let (reply, done) = oneshot::channel();
        self.inner.send(MetadataJob::Add(Box::new(image), reply));
        done.await.unwrap_or(Err(ImageError::Stopped {
            doing: "recording an image",
        }))?;
        self.inner.retained.release(&diff_ids).await;
        Ok(id)
    }

    /// Imports all images for this node's platform from an archive, which may be compressed as a whole with
    /// gzip or zstd.
    ///
    /// # Errors
    /// [`ImageError::ArchiveRead`], [`ImageError::Archive`], and those of [`Images::pull`]. Images that were
    /// imported before stay.
    pub(crate) async fn import(&self, reader: impl AsyncRead) -> Result<Vec<ImportedImage>, ImageError> {
        let imported = self.import_images(reader).await;
        // When this returns, the spooled archive is gone, and after a failure what was unpacked as well.
        self.flush().await;
        imported
    }

    async fn import_images(&self, reader: impl AsyncRead) -> Result<Vec<ImportedImage>, ImageError> {
        let progress = self.inner.tracker.add("an archive that is imported".to_owned());
        let disk = self.open_disk()?;
        let spool = Spool::read(&self.inner.layers, reader).await?;
        let platform = self.inner.live.load().config.platform.clone();
        // The spool is removed when it is dropped.
        let (_spool, plans) = blocking(move || plan(&spool, &platform).map(|plans| (spool, plans))).await?;
        let mut imported: Vec<ImportedImage> = Vec::new();
        for plan in plans {
            let layers = self
                .fetch_layers(&plan.config, plan.origins, &disk, &progress)
                .await?;
            let names = plan.tags.clone();
            let image = NewImage {
                config: plan.config,
                config_bytes: plan.config_bytes,
                layers,
                manifests: plan.manifests,
                tags: plan.tags,
                digests: plan.digests,
            };
            let id = self.commit(image, &disk, &progress).await?;
            match imported.iter_mut().find(|image| image.id == id) {
                Some(image) => image.names.extend(names),
                None => imported.push(ImportedImage { id, names }),
            }
        }
        Ok(imported)
    }

    /// The registries and mirrors that a pull of `text` would contact, in order. Reads configuration as a
    /// pull does, and contacts none of them. Says nothing about credentials, which come with each pull.
    ///
    /// # Errors
    /// [`ImageError::Reference`] if it is not a reference. Errors in configuration are part of the answer.
    pub(crate) async fn explain(&self, text: &str) -> Result<Explanation, ImageError> {
        let (registries, given) = (Arc::clone(&self.inner.live.load().registries), text.to_owned());
        let explained = blocking(move || explain(&registries, &given, &Proxies::from_env())).await;
        explained.map_err(|source| ImageError::Reference {
            reference: shortened(text),
            source: Box::new(source),
        })
    }
}

/// Whether the next meaning of a short name may be pulled where this one cannot.
fn try_next_name(error: &ImageError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::Unauthenticated
            | ErrorKind::Unavailable
            | ErrorKind::ResourceExhausted
    )
}

/// Distinguishes credentials without containing them.
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
