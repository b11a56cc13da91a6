//! Images: from a reference to directories that containers are mounted from.
//!
//! ```text
//!  registry ─▶ pull (resolve, ingest, unpack) ─┐
//!  archive ──▶ import ─────────────────────────┴▶ store (metadata, layers) ─▶ lease ─▶ overlay mount
//!                                                    ▲         │
//!      verify (at start, on demand), repair ─────────┘         └▶ export, garbage collection
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`store`] | metadata, layers, leases, garbage collection, files on disk |
//! | [`pull`] | resolve, ingest, unpack; what failed pulls leave; progress; credentials |
//! | [`verify`] | verification at start and on demand, repair |
//! | [`archive`] | import and export |
//! | [`overlay`] | overlay mounts |
//!
//! Layers are directories named by their diff id, shared by all images and reference-counted; no compressed
//! copy is kept. An image exists when its config does: the config is written after everything else is
//! durable, and removed before anything else. The index in memory is rebuilt at every start from configs and
//! records. A damaged record is restored from a copy.
//!
//! Must never: hold a lock across a system call or an await; let a reader wait for a pull or a removal; trust
//! a registry, an archive or an image before its digest is verified; count space as free while it is not.
//!
//! Specs: OCI image spec 1.1, OCI distribution spec 1.1, Docker image spec 1.2 (archives), CRI v1
//! ImageService.

mod archive;
mod error;
pub(crate) mod overlay;
mod pull;
mod store;
mod verify;

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use pausa_distribution::{Client, ClientConfig, ImageId, Platform, Proxies, Registries};
use pausa_layer::Usage;
use tokio::io::AsyncWrite;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub(crate) use archive::export::ExportedImage;
pub(crate) use error::ImageError;
#[cfg(test)]
pub(crate) use pull::PULLS_MAX;
pub(crate) use pull::progress::{LayerProgress, LayerState, PullProgress, PullStep};
pub(crate) use pull::retained::RetainedLayer;
pub(crate) use store::index::IncompleteImage;
pub(crate) use store::lease::Lease;
pub(crate) use verify::layer::VerifyMethod;
pub(crate) use verify::{DocumentReport, ImageReport, LayerReport};

use crate::blocking::blocking;
use crate::error::chain;
use crate::proto::v1;
use crate::telemetry::metrics::ImageStates;
use archive::export::{ExportSource, export};
use error::{io_error, shortened, tree_error};
use pull::PullsInFlight;
use pull::credentials::PullCredentials;
use pull::progress::PullTracker;
use pull::retained::{RetainedPulls, save_list};
use pull::short_names::{full_names, registries};
use store::clean_shutdown::{self, LastShutdown, Marked, VerifyScope};
use store::content::{Content, User};
use store::files;
use store::implied_dirs::BLOCK;
use store::index::{Index, IndexedImage};
use store::layers::Layers;
use store::layout::Layout;
use store::load;
use store::metadata::{MetadataJob, MetadataStore};
use store::pinned::Pinned;

/// The configuration of an image store.
#[derive(Debug, Clone)]
pub(crate) struct ImagesConfig {
    /// The store is in `images` below this directory.
    pub(crate) root: PathBuf,
    /// The directory of `<host>/hosts.toml`, which are read at every request.
    pub(crate) registry_config_dir: PathBuf,
    /// `registries.conf`, read at every request; empty for none.
    pub(crate) registries_conf: PathBuf,
    /// Most layers of one image that are fetched at once. The limit is per image, so that a slow registry
    /// delays only its own images.
    pub(crate) max_parallel_downloads: usize,
    /// Longest time without a byte from a registry.
    pub(crate) stall_timeout: Duration,
    /// The platform to choose from an index of manifests.
    pub(crate) platform: Platform,
    /// How long data of a failed pull is retained; zero for not at all.
    pub(crate) keep_failed: Duration,
    /// Docker's `config.json` with credentials for repairing damaged images.
    pub(crate) auth_file: Option<PathBuf>,
    /// Patterns of images that garbage collection must not remove; see `images.pinned` in the configuration.
    pub(crate) pinned: Vec<String>,
}

/// The images of this node. Clones share the same store.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    live: ArcSwap<Live>,
    layout: Layout,
    layers: Layers,
    retained: Arc<RetainedPulls>,
    credentials: PullCredentials,
    index: Arc<ArcSwap<Index>>,
    pulls: PullsInFlight,
    tracker: PullTracker,
    /// Its sender is dropped when the verification at start is done.
    verified: watch::Receiver<()>,
    metadata: Sender<MetadataJob>,
    /// Everything that was in the store at start is durable.
    was_clean: bool,
    closing: Arc<AtomicBool>,
}

/// What a reload of the configuration replaces. A pull goes by what was in force when it began.
struct Live {
    config: ImagesConfig,
    client: Client,
    registries: Arc<Registries>,
    pinned: Pinned,
}

impl Live {
    fn new(config: ImagesConfig) -> Self {
        let mut client = ClientConfig::default();
        client.stall_timeout = config.stall_timeout;
        client.proxies = Proxies::from_env();
        let registries = Arc::new(registries(&config.registry_config_dir, &config.registries_conf));
        Self {
            client: Client::new(Arc::clone(&registries), client),
            registries,
            pinned: Pinned::new(&config.pinned),
            config,
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("config", &self.live.load().config)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn send(&self, job: MetadataJob) {
        // The thread lives as long as this, unless it has panicked; callers then get no reply.
        drop(self.metadata.send(job));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // From here on, dropping a layer only means that this process ends.
        self.closing.store(true, Ordering::Release);
        self.send(MetadataJob::Stop);
    }
}

/// How long a removal waits for its files if there is space enough, counted from its beginning.
const REMOVAL_WAIT: Duration = Duration::from_millis(25);
/// Where less of the file system is free, a removal waits until its files are gone: kubelet measures next, and evicts
/// pods if too little is free. That is twice the largest of its default limits, because limits can be set.
const REMOVAL_FREE_PERCENT: u64 = 30;

/// An image and, if asked for, its verbose `info`.
type Status = (v1::Image, BTreeMap<String, String>);

/// What [`Images::prune`] removed, or would remove.
#[derive(Debug, Default)]
pub(crate) struct PruneReport {
    pub(crate) images: Vec<PrunedImage>,
    /// Unpinned images that stay because a container uses them.
    pub(crate) in_use: usize,
    /// Images that stay because a name of theirs is pinned.
    pub(crate) pinned: usize,
}

/// An image that no container uses and that is not pinned.
#[derive(Debug)]
pub(crate) struct PrunedImage {
    /// The image as it was before its removal. Its `size` is what the removal frees.
    pub(crate) image: v1::Image,
    /// Why it could not be removed.
    pub(crate) error: Option<ImageError>,
}

impl Images {
    /// Opens the store, or creates it. Blocks. Damaged records are logged and left out.
    ///
    /// # Errors
    /// [`ImageError::Io`] if the directories cannot be created or read.
    pub(crate) fn open(config: ImagesConfig) -> Result<Self, ImageError> {
        let layout = Layout::new(&config.root);
        layout.make()?;
        let closing = Arc::new(AtomicBool::new(false));
        let layers = Layers::new(layout.clone(), Arc::clone(&closing))?;
        let index = Arc::new(ArcSwap::from_pointee(Index::default()));
        let (sender, jobs) = channel();
        let mut metadata = MetadataStore::new(
            layout.clone(),
            Arc::clone(&index),
            sender.clone(),
            Arc::clone(&closing),
        );
        let started = crate::state::now();
        let LastShutdown { state, whole } = clean_shutdown::read(&layout);
        let scope = state.scope(whole);
        let unverified = load::load_images(&layout, &layers, &mut metadata, scope)?;
        let retained = Arc::new(RetainedPulls::new(config.keep_failed, layout.clone()));
        if scope == VerifyScope::None {
            retained.restore(&layers);
        }
        load::remove_orphans(&layout, &layers, &metadata, &unverified)?;
        metadata.publish();
        // A store without anything to verify is whole from now on. Otherwise that is recorded after the
        // verification.
        let is_new = whole == i64::MIN && unverified.is_empty();
        match state {
            Marked::Clean => layers.begin_clean(whole),
            Marked::InUse => {}
            Marked::Unknown => clean_shutdown::record_in_use(&layout, if is_new { started } else { whole })?,
        }
        let verified = verify::startup::start(&layers, unverified, sender.clone(), started)?;
        std::thread::Builder::new()
            .name("image-metadata".to_owned())
            .spawn(move || metadata.run(&jobs))
            .map_err(io_error("start the metadata thread of", layout.base()))?;
        let inner = Inner {
            live: ArcSwap::from_pointee(Live::new(config)),
            layout,
            layers,
            retained,
            credentials: PullCredentials::default(),
            index,
            pulls: PullsInFlight::default(),
            tracker: PullTracker::default(),
            verified,
            metadata: sender,
            was_clean: state == Marked::Clean,
            closing,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Has another configuration from now on, but for `root` and `platform`. Connections to registries are kept unless theirs
    /// changes.
    pub(crate) fn configure(&self, config: ImagesConfig) {
        let old = self.inner.live.load();
        self.inner.retained.set_keep_for(config.keep_failed);
        let of_client = |config: &ImagesConfig| {
            let ImagesConfig {
                registry_config_dir,
                registries_conf,
                stall_timeout,
                ..
            } = config.clone();
            (registry_config_dir, registries_conf, stall_timeout)
        };
        let live = match of_client(&config) == of_client(&old.config) {
            true => Live {
                client: old.client.clone(),
                registries: Arc::clone(&old.registries),
                pinned: Pinned::new(&config.pinned),
                config,
            },
            false => Live::new(config),
        };
        self.inner.live.store(Arc::new(live));
    }

    /// Says that every container that was found at start has its lease again. Images that were removed while
    /// leased and have no lease now are removed from disk. Within a runtime, this also starts the repair of
    /// incomplete images.
    pub(crate) fn leases_restored(&self) {
        self.inner.send(MetadataJob::LeasesRestored);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.clone().repair_incomplete());
            self.inner.retained.start_expiry();
        }
    }

    /// Closes the store of a daemon that stops while its containers continue: from here on, leases may be
    /// dropped without any removal. Syncs what is not durable and records a clean shutdown. Blocks.
    pub(crate) fn close(&self) {
        let inner = &self.inner;
        inner.closing.store(true, Ordering::Release);
        inner.retained.close();
        if inner.retained.is_enabled() {
            // The next daemon also gets the complete layers of pulls in progress.
            let index = inner.index.load();
            let mut layers = inner.layers.held();
            layers.retain(|hex| !index.has_layer(hex));
            if let Err(error) = save_list(&inner.layout, layers) {
                tracing::warn!(
                    path = %inner.layout.retained().display(),
                    error = chain(&error),
                    "cannot save the list of layers retained from failed pulls; retries will fetch them again"
                );
            }
        }
        if inner.verified.has_changed().is_ok() {
            // The verification at start is not done. The next start continues it.
            return;
        }
        if inner.layers.are_clean() {
            // No layer was added.
            return;
        }
        // A pull has synced its layers. syncfs waits for everything that anybody has written to the file system.
        let synced = match inner.was_clean && inner.layers.are_durable() {
            true => Ok(()),
            false => files::sync_all(inner.layout.base()),
        };
        if let Err(error) = synced.and_then(|()| clean_shutdown::record_clean(&inner.layout)) {
            tracing::warn!(
                path = %inner.layout.base().display(),
                error = chain(&error),
                "cannot record a clean shutdown; if the machine restarts, more layers than needed are verified"
            );
        }
    }

    /// Waits until everything that was released before is off the disk.
    async fn flush(&self) {
        self.released().await;
        self.inner.layers.gc().flush().await;
    }

    /// Waits until everything that is not used any more has been released.
    async fn released(&self) {
        let (reply, done) = oneshot::channel();
        self.inner.send(MetadataJob::Flush(reply));
        // Without an answer the store is closing.
        drop(done.await);
    }

    /// All images, or the one that `filter` names. A filter that names no image gives an empty list.
    pub(crate) fn list(&self, filter: Option<&v1::ImageSpec>) -> Vec<v1::Image> {
        let index = self.inner.index.load();
        match filter
            .map(|spec| spec.image.as_str())
            .filter(|image| !image.is_empty())
        {
            None => index.images().map(|image| self.to_cri(image)).collect(),
            Some(image) => match self.find(&index, image) {
                Ok(Some(image)) => vec![self.to_cri(image)],
                // A filter that matches no image, or more than one, is not an error.
                Ok(None) | Err(_) => Vec::new(),
            },
        }
    }

    /// One image, or `None` if it does not exist. With `verbose` also its `info`.
    ///
    /// # Errors
    /// [`ImageError::Ambiguous`] if it is the beginning of more than one id.
    pub(crate) fn status(&self, spec: &v1::ImageSpec, verbose: bool) -> Result<Option<Status>, ImageError> {
        let index = self.inner.index.load();
        let Some(image) = self.find(&index, &spec.image)? else {
            return Ok(None);
        };
        let mut info = BTreeMap::new();
        if verbose {
            let text = serde_json::json!({
                "chainID": image.config.chain_id(),
                "imageSpec": &*image.config.document,
                "sizes": {
                    "total": image.size.total,
                    "shared": image.size.total.saturating_sub(image.size.freed),
                    "freed": image.size.freed,
                },
            });
            info.insert("info".to_owned(), text.to_string());
        }
        Ok(Some((self.to_cri(image), info)))
    }

    fn to_cri(&self, image: &IndexedImage) -> v1::Image {
        let (uid, username) = match &image.user {
            User::Uid(uid) => (Some(v1::Int64Value { value: *uid }), String::new()),
            User::Name(name) => (None, name.clone()),
        };
        v1::Image {
            id: image.id(),
            repo_tags: image.tags.clone(),
            repo_digests: image.digests.clone(),
            // kubelet's garbage collection adds up the sizes of what it removes until enough is free. So only
            // what a removal frees is right.
            size: image.size.freed,
            uid,
            username,
            spec: Some(v1::ImageSpec {
                image: image.id(),
                ..Default::default()
            }),
            pinned: self
                .inner
                .live
                .load()
                .pinned
                .covers(image.tags.iter().chain(&image.digests)),
        }
    }

    /// What is in `staging/` besides removed layers: ingests, and other data to be removed.
    /// [`fs_info`](Self::fs_info) does not include it. It is measured, but most of the time there is nothing.
    pub(crate) async fn staging_usage(&self) -> Usage {
        let (staging, gc) = (self.inner.layout.staging(), self.inner.layers.gc().clone());
        let measured = blocking(move || {
            let mut all = Usage::default();
            for name in files::names(&staging)? {
                let path = staging.join(&name);
                // How large a layer is, is known.
                if gc.is_layer(&name) || !path.is_dir() {
                    continue;
                }
                // It may be gone by now.
                let Ok(dir) = files::open_dir(&path) else { continue };
                all = all.plus(pausa_layer::usage(dir.as_fd()).map_err(tree_error("measure", &path))?);
            }
            Ok::<_, ImageError>(all)
        });
        measured.await.unwrap_or_else(|error| {
            tracing::debug!(
                error = chain(&error),
                "cannot measure unfinished layers; ImageFsInfo does not include them"
            );
            Usage::default()
        })
    }

    /// Usage of the file system by images and by `other`: what the caller has measured of writable layers and
    /// of [`staging/`](Self::staging_usage).
    pub(crate) fn fs_info(&self, other: Usage) -> v1::ImageFsInfoResponse {
        let layers = self.inner.layers.usage();
        let directories = self.inner.index.load().implied_dirs();
        let bytes = layers.bytes.saturating_add(directories.saturating_mul(BLOCK));
        let inodes = layers.inodes.saturating_add(directories);
        let usage = v1::FilesystemUsage {
            timestamp: crate::state::now(),
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: self.inner.layout.base().display().to_string(),
            }),
            used_bytes: Some(v1::UInt64Value {
                value: bytes.saturating_add(other.bytes),
            }),
            inodes_used: Some(v1::UInt64Value {
                value: inodes.saturating_add(other.inodes),
            }),
        };
        // Equal values tell kubelet that images and containers share one file system.
        v1::ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        }
    }

    /// Images that lack layers. CRI does not show them. A pull repairs them.
    pub(crate) fn incomplete(&self) -> Vec<IncompleteImage> {
        self.inner.index.load().incomplete().cloned().collect()
    }

    /// Pulls and imports in progress, oldest first.
    pub(crate) fn pulls(&self) -> Vec<PullProgress> {
        self.inner.tracker.list()
    }

    /// What there is of images and pulls, for metrics.
    pub(crate) fn states(&self) -> ImageStates {
        let (pulls, kept, index) = (self.pulls(), self.retained_layers(), self.inner.index.load());
        let complete = kept.iter().filter(|part| part.complete).count();
        let mut states = ImageStates {
            pulls: pulls.len(),
            kept_layers: complete,
            kept_parts: kept.len() - complete,
            kept_bytes: kept.iter().map(|part| part.bytes).sum(),
            complete: index.images().count(),
            incomplete: index.incomplete().count(),
            bytes: self.inner.layers.usage().bytes,
            bytes_dying: self.inner.layers.dying().bytes,
            ..ImageStates::default()
        };
        for layer in pulls.iter().flat_map(|pull| &pull.layers) {
            states.bytes_expected += layer.bytes_total;
            states.bytes_received += layer.bytes_done;
            match layer.state {
                LayerState::Queued => states.layers_queued += 1,
                LayerState::Joined => states.layers_joined += 1,
                LayerState::Fetching => states.layers_fetching += 1,
                LayerState::Done | LayerState::Present => {}
            }
        }
        states
    }

    /// What failed pulls have left for a retry.
    pub(crate) fn retained_layers(&self) -> Vec<RetainedLayer> {
        self.inner.retained.list()
    }

    /// The image that `text` names. Short names are those of the registry configuration.
    fn find<'a>(&self, index: &'a Index, text: &str) -> Result<Option<&'a Arc<IndexedImage>>, ImageError> {
        let names = full_names(&self.inner.live.load().registries, text);
        for name in &names {
            if let Some(image) = index.find(name)? {
                return Ok(Some(image));
            }
        }
        // A short name means only what configuration says, but it may also be the beginning of an id.
        if names.is_empty() || ImageId::parse(text).is_some() {
            index.find(text)
        } else {
            Ok(None)
        }
    }

    /// The image that `text` names, and its data, which stays on disk while it is held. An image that was
    /// removed while leased is found by its whole id.
    fn find_held<'a>(
        &self,
        index: &'a Index,
        text: &str,
    ) -> Result<(&'a Arc<IndexedImage>, Arc<Content>), ImageError> {
        let image = match self.find(index, text)? {
            Some(image) => Some(image),
            None => index.find_removed(text),
        };
        let held = image.and_then(|image| Some((image, image.content.upgrade()?)));
        held.ok_or_else(|| ImageError::NotFound {
            reference: shortened(text),
        })
    }

    /// Leases an image by a name or an id. Images that were removed while leased are found by their whole id.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`].
    pub(crate) fn lease(&self, reference_or_id: &str) -> Result<Lease, ImageError> {
        let index = self.inner.index.load();
        let (image, content) = self.find_held(&index, reference_or_id)?;
        Ok(Lease::new(&self.inner.layout, image, content, reference_or_id))
    }

    /// Removes an image with all its names, by any of them. Removing an unknown image succeeds.
    ///
    /// When this returns, the image is gone for readers and pulls, and on disk as far as a restart would tell.
    /// Its files are removed in the background. They are waited for if the file system is short of space, and
    /// otherwise for a moment. What leases or other images hold stays.
    ///
    /// # Errors
    /// [`ImageError::Ambiguous`]; [`ImageError::Io`] if its record cannot be removed: it then comes back at
    /// the next start.
    pub(crate) async fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let deadline = Instant::now() + REMOVAL_WAIT;
        let hex = {
            let index = self.inner.index.load();
            let complete = self.find(&index, reference)?;
            complete
                .map(|image| image.config.id.hex().to_owned())
                .or_else(|| index.find_incomplete(reference))
        };
        // Images are removed because space is needed.
        let retained = self.inner.retained.forget_all().await;
        let removed = match hex {
            None => Ok(()),
            Some(hex) => {
                let (reply, done) = oneshot::channel();
                self.inner.send(MetadataJob::Remove(hex, reply));
                done.await.unwrap_or(Err(ImageError::Stopped {
                    doing: "removing an image",
                }))
            }
        };
        let base = self.inner.layout.base().to_owned();
        if blocking(move || files::has_free(&base, REMOVAL_FREE_PERCENT)).await {
            // Without hurry, or the threads that unlink would be in the way of the answer.
            let freed = async {
                retained.discard().await;
                self.released().await;
                self.inner.layers.gc().settle().await;
            };
            // What is not done by then goes on without this.
            tokio::time::timeout_at(deadline, freed).await.ok();
        } else {
            retained.discard().await;
            self.flush().await;
        }
        removed
    }

    /// Removes all images that are neither pinned nor leased, and what failed pulls have left. The space is
    /// free when this returns. A failed removal does not stop the others; the report has its error.
    ///
    /// With `dry_run` nothing is removed. The report then says what would be.
    pub(crate) async fn prune(&self, dry_run: bool) -> PruneReport {
        if !dry_run {
            self.discard_retained().await;
        }
        let mut report = PruneReport::default();
        for image in self.list(None) {
            if image.pinned {
                report.pinned += 1;
                continue;
            }
            let removed = if dry_run {
                Ok(!self.is_leased(&image.id))
            } else {
                self.remove_unused(&image.id).await
            };
            match removed {
                Ok(false) => report.in_use += 1,
                Ok(true) => report.images.push(PrunedImage { image, error: None }),
                Err(error) => report.images.push(PrunedImage {
                    image,
                    error: Some(error),
                }),
            }
        }
        report
    }

    /// Whether an image is leased at this moment, by its id.
    fn is_leased(&self, id: &str) -> bool {
        let index = self.inner.index.load();
        let image = index.find(id).ok().flatten();
        // One reference is the store's own. The index is rebuilt with another one, which may look like a
        // lease for a moment.
        image.is_some_and(|image| image.content.strong_count() > 1)
    }

    /// Removes an image by its id unless it is leased, and returns whether it was removed. No lease can begin
    /// between the check and the removal.
    async fn remove_unused(&self, id: &str) -> Result<bool, ImageError> {
        let hex = id.trim_start_matches("sha256:").to_owned();
        let (reply, done) = oneshot::channel();
        self.inner.send(MetadataJob::RemoveUnused(hex, reply));
        let removed = done.await.unwrap_or(Err(ImageError::Stopped {
            doing: "removing an image",
        }));
        self.flush().await;
        removed
    }

    /// Discards what failed pulls have left, and waits until its space is free.
    async fn discard_retained(&self) {
        self.inner.retained.discard_all().await;
    }

    /// Writes images, by any of their names, as one archive that tools for OCI or Docker archives can read.
    /// The images are not removed meanwhile. Does not shut `to` down.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`], [`ImageError::ArchiveWrite`];
    /// [`ImageError::Unpack`] for a damaged layer.
    pub(crate) async fn export(
        &self,
        references: &[String],
        to: impl AsyncWrite + Send,
    ) -> Result<Vec<ExportedImage>, ImageError> {
        let mut sources: Vec<ExportSource> = Vec::new();
        {
            let index = self.inner.index.load();
            for reference in references {
                let (image, content) = self.find_held(&index, reference)?;
                if !sources
                    .iter()
                    .any(|source| Arc::ptr_eq(&source.content, &content))
                {
                    let names = image.tags.clone();
                    sources.push(ExportSource { content, names });
                }
            }
        }
        export(self.inner.layout.clone(), sources, to).await
    }

    /// Checks whether containers of these images can have a user namespace; see
    /// [`overlay::check_user_namespaces`]. Blocks.
    ///
    /// # Errors
    /// The reason why they cannot.
    pub(crate) fn check_user_namespaces(&self) -> Result<(), ImageError> {
        overlay::check_mounts_inside()?;
        let scratch = self.inner.layout.staging().join(files::unique("users"));
        files::make_dir(&scratch, 0o700)?;
        let checked = overlay::check_user_namespaces(&scratch);
        self.inner.layers.gc().remove_tree(scratch);
        checked
    }
}

#[cfg(test)]
mod tests;
