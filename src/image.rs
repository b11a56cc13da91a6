//! Images: from a reference to directories that containers are mounted from.
//!
//! ```text
//!  pull ─┐                              ┌▶ reaper    deletes trees
//!        ├▶ fetch ─▶ layers (counted) ──┤
//!  import┘     ▲        │               └▶ keeper    writes records, publishes the index
//!          shelf        │
//!                       ▼                                 ▼
//!                 lease ─▶ overlay                  cri (list, status, usage)
//!
//!  open ─▶ mark: power cut? ─▶ recheck ─▶ check ◀─ verify      damage ─▶ incomplete ─▶ pull
//! ```
//!
//! Layers are directories named by their diff id, shared by all images and counted; no compressed copy is kept. An image
//! exists when its config does: that is written after everything else is durable, and removed before anything else is.
//! The index in memory is rebuilt from configs and records at every start; a record that is broken is made good from a copy.
//!
//! Must never: hold a lock across a system call or an await; let a reader wait for a pull or a removal; believe what a registry,
//! an archive or an image says before its digest is verified; say that an image is removed while its bytes are still there.
//!
//! Specs: OCI image spec 1.1, OCI distribution spec 1.1, Docker image spec 1.2 (archives), CRI v1 ImageService.

mod archive;
mod cri;
mod error;
mod explain;
pub mod overlay;
mod prune;
mod pull;
mod store;
mod verify;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use pausa_distribution::{Client, ClientConfig, Platform, Proxies, Registries};
use tokio::sync::{oneshot, watch};

pub use archive::export::Exported;
pub use error::ImageError;
pub(crate) use prune::{PruneReport, PrunedImage};
pub use pull::progress::{LayerProgress, LayerState, PullProgress, PullStep};
pub use pull::retained::RetainedLayer as Kept;
pub use pull::short_names::registries;
pub use store::index::Incomplete;
pub use store::lease::Lease;
pub use verify::layer::VerifyMethod;
pub use verify::{DocumentReport, ImageReport, LayerReport};

use pull::{credentials, progress, retained};
use store::index::Index;
use store::layers::Layers;
use store::layout::Layout;
use store::metadata::{MetadataJob, MetadataStore};
use store::{clean_shutdown, files, load, pinned};
use verify::startup;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// The store is `images` below this.
    pub root: PathBuf,
    /// Where `<host>/hosts.toml` are looked for, at every request anew.
    pub registry_config_dir: PathBuf,
    /// `registries.conf`, likewise; empty for none.
    pub registries_conf: PathBuf,
    /// Layers of one image that are fetched at once. Per image, so that a slow registry slows only its own images.
    pub max_parallel_downloads: usize,
    /// Longest time without a byte from a registry.
    pub stall_timeout: Duration,
    /// Which manifest of an index is wanted.
    pub platform: Platform,
    /// How long is kept what a failed pull has fetched; zero keeps nothing.
    pub keep_failed: Duration,
    /// Docker's `config.json` with credentials for mending damaged images, if there is one.
    pub auth_file: Option<PathBuf>,
    /// Patterns of images that no garbage collection may remove; see the configuration's `images.pinned`.
    pub pinned: Vec<String>,
}

/// The images of this node. Clones are the same.
#[derive(Debug, Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    config: ImagesConfig,
    layout: Layout,
    client: Client,
    registries: Arc<Registries>,
    layers: Layers,
    shelf: Arc<retained::RetainedPulls>,
    logins: credentials::PullCredentials,
    index: Arc<ArcSwap<Index>>,
    pulls: pull::InFlight,
    board: progress::PullTracker,
    pinned: pinned::Pinned,
    /// Ends when what was in doubt is verified.
    checked: watch::Receiver<()>,
    keeper: Sender<MetadataJob>,
    closing: Arc<AtomicBool>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn send(&self, job: MetadataJob) {
        // The thread lives as long as this does.
        drop(self.keeper.send(job));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // From here on, giving up a layer means only that this process ends.
        self.closing.store(true, Ordering::Release);
        self.send(MetadataJob::Stop);
    }
}

impl Images {
    /// Opens the store, making it if there is none. Blocks. Broken records are logged and left out.
    ///
    /// # Errors
    /// [`ImageError::Io`] if the directories cannot be made or read.
    pub fn open(config: ImagesConfig) -> Result<Self, ImageError> {
        let layout = Layout::new(&config.root);
        layout.make()?;
        let closing = Arc::new(AtomicBool::new(false));
        let layers = Layers::new(layout.clone(), Arc::clone(&closing))?;
        let index = Arc::new(ArcSwap::from_pointee(Index::default()));
        let (sender, jobs) = channel();
        let mut keeper = MetadataStore::new(
            layout.clone(),
            Arc::clone(&index),
            sender.clone(),
            Arc::clone(&closing),
        );
        let begun = crate::state::now();
        let (scope, whole) = clean_shutdown::read(&layout);
        let shelf = Arc::new(retained::RetainedPulls::new(config.keep_failed, layout.base()));
        let opened = load::load(&layout, &layers, &mut keeper, &shelf, scope)?;
        for error in opened.broken {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "a part of the image store is damaged and was left out");
        }
        keeper.publish();
        // While something is in doubt, what was known to be whole is all that is.
        let unverified = !opened.unverified.is_empty();
        let fresh = whole == i64::MIN && !unverified;
        clean_shutdown::in_use(&layout, if fresh { begun } else { whole })?;
        let checked = startup::start(&layout, &layers, opened.unverified, sender.clone(), begun)?;
        std::thread::Builder::new()
            .name("image-keeper".to_owned())
            .spawn(move || keeper.run(&jobs))
            .map_err(error::io_error(
                "start the thread that records images of",
                layout.base(),
            ))?;
        let mut client = ClientConfig::default();
        client.stall_timeout = config.stall_timeout;
        client.proxies = Proxies::from_env();
        let registries = Arc::new(registries(&config.registry_config_dir, &config.registries_conf));
        let inner = Inner {
            client: Client::new(Arc::clone(&registries), client),
            registries,
            layout,
            layers,
            shelf,
            logins: credentials::PullCredentials::new(config.auth_file.clone()),
            index,
            pulls: Arc::new(Mutex::default()),
            board: progress::PullTracker::default(),
            pinned: pinned::Pinned::new(&config.pinned),
            checked,
            keeper: sender,
            closing,
            config,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Removes an image with all its names, by any of them. Its bytes are free when this returns, except those that leases or
    /// other images hold. Removing what is not there succeeds.
    ///
    /// # Errors
    /// [`ImageError::Ambiguous`]; [`ImageError::Io`] if its record cannot be removed: it is back after a restart then.
    pub async fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let hex = {
            let index = self.inner.index.load();
            let whole = self.find(&index, reference)?;
            whole
                .map(|entry| entry.config.id.hex().to_owned())
                .or_else(|| index.find_incomplete(reference))
        };
        // Whoever removes images wants space.
        self.clear_shelf().await;
        let Some(hex) = hex else {
            self.inner.layers.flush().await;
            return Ok(());
        };
        let (reply, done) = oneshot::channel();
        self.inner.send(MetadataJob::Remove(hex, reply));
        let removed = done.await.unwrap_or(Err(ImageError::Stopped {
            doing: "removing an image",
        }));
        self.settle().await;
        removed
    }

    /// Removes an image if nobody leases it, by its id; whether that was so. Between the looking and the removing no lease can
    /// begin.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub async fn remove_unused(&self, id: &str) -> Result<bool, ImageError> {
        let hex = id.trim_start_matches("sha256:").to_owned();
        let (reply, done) = oneshot::channel();
        self.inner.send(MetadataJob::RemoveUnused(hex, reply));
        let removed = done.await.unwrap_or(Err(ImageError::Stopped {
            doing: "removing an image",
        }));
        self.settle().await;
        removed
    }

    /// Whether containers of these images can have a user namespace; see [`overlay::check_user_namespaces`].
    ///
    /// # Errors
    /// What shows that they cannot.
    pub fn check_user_namespaces(&self) -> Result<(), ImageError> {
        overlay::check_mounts_inside()?;
        let scratch = self.inner.layout.staging().join(files::unique("users"));
        files::make_dir(&scratch, 0o700)?;
        let checked = overlay::check_user_namespaces(&scratch);
        self.inner.layers.discard(&scratch);
        checked
    }

    /// Every container of before the start has its lease again: images that were removed meanwhile and that nobody leased go.
    /// Within a runtime, images that are not whole are mended from here on.
    pub fn recovered(&self) {
        self.inner.send(MetadataJob::Recovered);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mending = self.clone().mend();
            runtime.spawn(mending);
            self.sweep();
        }
    }

    /// From here on leases may end without anything being removed: for a daemon that stops while its containers go on. Leaves the
    /// store marked as whole. Blocks until the disk has everything.
    pub fn close(&self) {
        self.inner.closing.store(true, Ordering::Release);
        self.inner.shelf.close();
        self.keep_for_the_next();
        if self.inner.checked.has_changed().is_ok() {
            // Not everything of before is verified yet: that is for the next start.
            return;
        }
        let layout = &self.inner.layout;
        if let Err(error) = files::sync_all(layout.base()).and_then(|()| clean_shutdown::clean(layout)) {
            let error = crate::error::chain(&error);
            tracing::warn!(
                error,
                "after the next power cut more layers than needed are verified"
            );
        }
    }

    /// Waits until everything given up so far is off the disk.
    pub async fn settle(&self) {
        let (reply, done) = oneshot::channel();
        self.inner.send(MetadataJob::Flush(reply));
        // Without an answer the store is closing.
        drop(done.await);
        self.inner.layers.flush().await;
    }
}

#[cfg(test)]
mod tests;
