//! What pods and containers use, read from the kernel: samples for the stats and metrics of CRI.
//!
//! ```text
//!   stats, metrics ── views ─▶ samples ──┬── young enough ──▶ the sample there is
//!                                        └── else ─▶ read: cgroups, /proc, writable layers ─▶ a new sample
//!   background ── shortly before somebody asks again ─▶ read
//! ```
//!
//! Clients ask for lists at intervals, kubelet of 10 s. Four fifths of [`Settings::stats_interval`](super::Settings) after
//! somebody has asked, the background reads what the next answer is made of. A list that was answered before gets a sample from
//! the second half of the time since: who asks again soon, as `crictl stats` and `pausa top` do, compares two answers. Pods
//! with a container that has started or ended since are read anew. Who asks for a single pod or container gets what the kernel
//! says now.
//!
//! Nobody asks: nothing is read, and nothing is kept.
//!
//! Files are opened for each sample and not kept open: that would save a third of the time, and cost a page of the kernel's
//! memory for each file; see docs/design/0016.
//!
//! Must never: hold a lock across a system call; fail a list because of one container; make kubelet wait for the measuring of
//! a large writable layer.

mod counters;
mod devices;
mod full;
mod layers;
mod network;
mod processes;
mod rates;
mod read;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pausa_layer::Usage;
use tokio::sync::Notify;

pub(super) use counters::Counters;
pub(super) use devices::device_name;
pub(super) use layers::Measured;
pub(super) use network::Interface;
#[cfg(test)]
pub(super) use network::Traffic;
pub(super) use processes::Processes;
pub(super) use read::{ContainerSample, PodCounters, PodSample};

use devices::Devices;
use full::FullLayers;
use layers::{Layers, Wait};
use read::Reader;

use super::record::{PodState, PodView};
use super::services::Services;
use super::{Pods, ops};
use crate::blocking::blocking;
use crate::container::ContainerRecord;
use crate::id::Id;
use crate::quota::Support;

/// After so many intervals without a list nobody seems to ask any more.
const PATIENCE: u32 = 3;
/// How many fifths of the interval pass between a list and the next reading.
const FIFTHS: u32 = 4;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    /// For stats.
    Usual,
    /// For metrics: also what takes further files, and the processes.
    Detailed,
}

/// A list that samples are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    ContainerStats,
    PodStats,
    Metrics,
}

impl List {
    fn depth(self) -> Depth {
        match self {
            Self::ContainerStats | Self::PodStats => Depth::Usual,
            Self::Metrics => Depth::Detailed,
        }
    }

    /// Its place in [`Known::answered`].
    fn index(self) -> usize {
        match self {
            Self::ContainerStats => 0,
            Self::PodStats => 1,
            Self::Metrics => 2,
        }
    }
}

/// What a sample is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody looks at one pod or container, now.
    One,
    List(List),
}

impl Purpose {
    fn depth(self) -> Depth {
        match self {
            Self::One => Depth::Usual,
            Self::List(list) => list.depth(),
        }
    }
}

/// What is known of pods, and who asks for it.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Zero: nothing is read in the background.
    interval: Mutex<Duration>,
    /// By pod.
    known: Mutex<HashMap<Id, Known>>,
    /// Held while samples are taken: whoever has waited for it may find what it wants.
    turn: tokio::sync::Mutex<()>,
    asked: Mutex<Asked>,
    first_asked: Notify,
    layers: Arc<Layers>,
    full: FullLayers,
}

/// When lists were last asked for.
#[derive(Debug, Default)]
struct Asked {
    any: Option<Instant>,
    detailed: Option<Instant>,
}

/// The last reading of a pod and its containers.
#[derive(Debug)]
struct Known {
    /// Just before it was read.
    at: Instant,
    depth: Depth,
    pod: Arc<PodSample>,
    /// When each list last had the pod.
    answered: [Option<Instant>; 3],
}

impl Sampler {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval: Mutex::new(interval),
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            asked: Mutex::default(),
            first_asked: Notify::new(),
            layers: Arc::default(),
            full: FullLayers::default(),
        }
    }

    /// Takes effect with the next reading.
    pub(super) fn set_interval(&self, interval: Duration) {
        *self.interval.lock() = interval;
    }

    fn interval(&self) -> Duration {
        *self.interval.lock()
    }

    fn note(&self, purpose: Purpose, now: Instant) {
        let Purpose::List(list) = purpose else {
            return;
        };
        let mut asked = self.asked.lock();
        if asked.any.replace(now).is_none() {
            self.first_asked.notify_one();
        }
        if list.depth() == Depth::Detailed {
            asked.detailed = Some(now);
        }
    }

    /// When the background is to read next, after it has read at `last`.
    fn due(&self, last: Instant) -> Instant {
        let interval = self.interval();
        let latest = last + interval;
        let asked = self.asked.lock().any;
        let before_next = asked.map(|asked| asked + interval * FIFTHS / 5);
        before_next
            .filter(|due| *due > last)
            .map_or(latest, |due| due.min(latest))
    }

    /// How much is to be read in the background; none if nobody has asked for long, which is then forgotten.
    fn wanted(&self, now: Instant) -> Option<Depth> {
        let interval = self.interval();
        let mut asked = self.asked.lock();
        let lately = |asked: Option<Instant>| {
            let asked = asked.filter(|_| !interval.is_zero());
            asked.filter(|asked| now.saturating_duration_since(*asked) <= interval * PATIENCE)
        };
        asked.any = lately(asked.any);
        asked.detailed = lately(asked.detailed);
        asked.any?;
        Some(asked.detailed.map_or(Depth::Usual, |_| Depth::Detailed))
    }

    /// What is known of a pod, if it will do for somebody who has asked at `asked`.
    fn fitting(&self, view: &PodView, purpose: Purpose, asked: Instant) -> Option<Arc<PodSample>> {
        let interval = self.interval();
        let mut known = self.known.lock();
        let known = known.get_mut(&view.pod.id)?;
        let fits = known.fits(purpose, asked, interval) && known.pod.is_of(view);
        fits.then(|| known.answer(purpose, asked))
    }
}

impl Known {
    fn fits(&self, purpose: Purpose, asked: Instant, interval: Duration) -> bool {
        let oldest = match purpose {
            Purpose::One => Duration::ZERO,
            Purpose::List(list) => {
                let since = self.answered[list.index()].map(|last| asked.saturating_duration_since(last) / 2);
                let oldest = interval + interval / 2;
                since.map_or(oldest, |half| half.min(oldest))
            }
        };
        self.depth >= purpose.depth() && asked.saturating_duration_since(self.at) <= oldest
    }

    fn answer(&mut self, purpose: Purpose, asked: Instant) -> Arc<PodSample> {
        if let Purpose::List(list) = purpose {
            self.answered[list.index()] = Some(asked);
        }
        Arc::clone(&self.pod)
    }
}

impl Pods {
    /// Samples of these pods, in their order.
    pub(super) async fn samples(&self, views: &[Arc<PodView>], purpose: Purpose) -> Vec<Arc<PodSample>> {
        let asked = Instant::now();
        let sampler = &self.sampler;
        sampler.note(purpose, asked);
        let fitting = |view: &Arc<PodView>| sampler.fitting(view, purpose, asked);
        let mut samples: Vec<_> = views.iter().map(fitting).collect();
        if samples.iter().any(Option::is_none) {
            let _turn = sampler.turn.lock().await;
            let mut due = Vec::new();
            for (sample, view) in samples
                .iter_mut()
                .zip(views)
                .filter(|(sample, _)| sample.is_none())
            {
                *sample = fitting(view);
                if sample.is_none() {
                    due.push((sample, Arc::clone(view)));
                }
            }
            let (places, due): (Vec<_>, Vec<_>) = due.into_iter().unzip();
            let wait = match purpose {
                Purpose::One => Wait::Current,
                Purpose::List(_) => Wait::First,
            };
            let read = self.sample(due.clone(), purpose.depth(), wait).await;
            let mut known = sampler.known.lock();
            for ((place, view), sample) in places.into_iter().zip(&due).zip(read) {
                if let Some(known) = known.get_mut(&view.pod.id) {
                    known.answer(purpose, asked);
                }
                *place = Some(sample);
            }
        }
        samples.into_iter().flatten().collect()
    }

    /// Reads these pods, and keeps what was read. To be called by who has the turn.
    async fn sample(&self, views: Vec<Arc<PodView>>, depth: Depth, wait: Wait) -> Vec<Arc<PodSample>> {
        let records: Vec<_> = views.iter().flat_map(|view| view.containers.values()).collect();
        let measured = self.measured(&records, wait).await;
        let pods = self.clone();
        blocking(move || {
            let known = &pods.sampler.known;
            let reader = Reader {
                services: &pods.services,
                devices: Devices::default(),
                measured,
                depth,
            };
            let mut samples = Vec::with_capacity(views.len());
            for view in &views {
                let id = &view.pod.id;
                let before = known.lock().get(id).map(|known| Arc::clone(&known.pod));
                let at = Instant::now();
                let pod = Arc::new(reader.pod(view, before.as_deref()));
                samples.push(Arc::clone(&pod));
                let mut known = known.lock();
                let answered = known.get(id).map(|known| known.answered).unwrap_or_default();
                let new = Known {
                    at,
                    depth,
                    pod,
                    answered,
                };
                known.insert(id.clone(), new);
            }
            known.lock().retain(|pod, _| pods.registry.knows(pod));
            samples
        })
        .await
    }

    /// Takes samples of all ready pods while somebody asks for lists.
    pub(super) async fn sample_in_background(&self) {
        let sampler = &self.sampler;
        loop {
            sampler.first_asked.notified().await;
            let mut last = Instant::now();
            while let Some(depth) = sampler.wanted(Instant::now()) {
                let due = sampler.due(last);
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                    continue;
                }
                let _turn = sampler.turn.lock().await;
                last = Instant::now();
                self.sample(self.ready_pods(), depth, Wait::First).await;
            }
            sampler.known.lock().clear();
        }
    }

    /// The pods that use something.
    pub(super) fn ready_pods(&self) -> Vec<Arc<PodView>> {
        let mut views = self.views();
        views.retain(|view| view.pod.state == PodState::Ready);
        views
    }

    /// The writable layers of these containers, as far as known in time.
    async fn measured(&self, records: &[&Arc<ContainerRecord>], wait: Wait) -> HashMap<Id, Measured> {
        let layout = self.services.store.layout();
        let mut layers: Vec<_> = records
            .iter()
            .map(|record| {
                let kept = layout.persistent_container(&record.pod, &record.id);
                (record.id.clone(), record.pod.clone(), kept)
            })
            .collect();
        let mut counted = HashMap::new();
        if self.services.projects.support() != Support::Nothing {
            let (services, sampler) = (Arc::clone(&self.services), Arc::clone(&self.sampler));
            (layers, counted) = blocking(move || {
                let counted = count(&services, &sampler.full, &layers);
                layers.retain(|(id, ..)| !counted.contains_key(id));
                (layers, counted)
            })
            .await;
        }
        let trees = layers.into_iter().map(|(id, _, kept)| (id, kept.join("upper")));
        let mut measured = layers::measured(&self.sampler.layers, trees.collect(), wait).await;
        measured.extend(counted);
        measured
    }
}

/// Asks the kernel about layers (container, pod, persistent directory) with a project of their own, and takes note of the full
/// ones, also of those that share their pod's. Blocks.
fn count(services: &Services, full: &FullLayers, layers: &[(Id, Id, PathBuf)]) -> HashMap<Id, Measured> {
    let mut counted = HashMap::new();
    for (id, pod, kept) in layers {
        let Some((project, quota)) = ops::layer_usage(&services.projects, kept) else {
            continue;
        };
        full.look(id, pod, project.shared, &quota);
        if !project.shared {
            let (bytes, inodes) = (quota.bytes, quota.inodes);
            let usage = Usage { bytes, inodes };
            let at = crate::state::now();
            let limit = Some(quota.limit).filter(|limit| *limit > 0);
            counted.insert(id.clone(), Measured { at, usage, limit });
        }
    }
    counted
}

#[cfg(test)]
mod tests;
