//! Which CPUs containers run on: CPUs of their own for containers of Guaranteed pods, the rest for everybody else.
//!
//! ```text
//!   seat ──▶ Pinned   CPUs of its own          ─┐
//!        ├─▶ Given    by the client's cpuset    ├─▶ Seat, dropped: CPUs free again, pool grows
//!        └─▶ Pool     all that nobody has pinned┘
//! ```
//!
//! Everything is derived from one table of holders; [`allocate()`] decides which CPUs a new one gets. See
//! `docs/design/0013-cpu-pinning.md` for the order of steps.
//!
//! Invariants: no CPU is pinned twice; a CPU is written into a pinned container's cpuset only after it has been taken out of
//! all others, and into others only after it has left the pinned one.
//!
//! Must never: change a cpuset that the client asked for, or a cgroup that is not a container's or a monitor's.

mod allocate;
#[cfg(test)]
pub(crate) mod fixtures;
mod interrupts;
mod set;
mod snapshot;
mod topology;

pub use set::{CpuSet, CpuSetError};
pub use snapshot::{Held, Snapshot};
pub use topology::{Location, Topology, TopologyError};

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::allocate::allocate;
use self::interrupts::Interrupts;
use super::error::CgroupError;
use super::qos::{QosClass, whole_cpus};
use super::{Cgroup, CgroupPath, Cgroups, Limits};
use crate::blocking::blocking;
use crate::config::{self, CpuIsolation, CpuPinning, CpuShortage};
use crate::error::{ErrorKind, Kinded, chain};
use crate::id::Id;
use crate::proto::v1::LinuxContainerResources;
use crate::telemetry::metrics;

const SYS: &str = "/sys";
const IRQ: &str = "/proc/irq";

/// Who runs on which CPUs of this node.
#[derive(Debug)]
pub struct Cpus {
    cgroups: Arc<Cgroups>,
    pinning: CpuPinning,
    on_shortage: CpuShortage,
    isolation: CpuIsolation,
    interrupts: Arc<Interrupts>,
    move_interrupts: bool,
    state: Mutex<State>,
    /// One task at a time writes it.
    written: tokio::sync::Mutex<Written>,
}

/// What was written into cgroups.
#[derive(Debug, Default)]
struct Written {
    /// The cpuset of the members of the pool.
    pool: CpuSet,
    /// The CPUs of partitions below each cgroup.
    exclusive: BTreeMap<CgroupPath, CpuSet>,
}

#[derive(Debug, Clone)]
struct State {
    /// The CPUs that can be used.
    topology: Topology,
    /// Never pinned.
    reserved: CpuSet,
    /// Whether the members of the pool have to be kept off the pinned CPUs.
    active: bool,
    holders: BTreeMap<Id, Holder>,
}

#[derive(Debug, Clone)]
struct Holder {
    owner: Owner,
    cgroup: CgroupPath,
    place: Place,
    /// CPUs of a change that is not finished: nobody else may have them.
    changing: CpuSet,
}

/// Where a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On CPUs of its own.
    Pinned(CpuSet),
    /// Where the client wants it.
    Given(CpuSet),
    /// Where nobody is pinned.
    Pool,
}

/// Whose container it is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    pub namespace: String,
    pub pod: String,
    /// Empty for a pod's monitor.
    pub container: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)?;
        match self.container.as_str() {
            "" => Ok(()),
            name => write!(f, "/{name}"),
        }
    }
}

/// CPUs of a container's own, as its record and its spec have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinning {
    pub cpus: CpuSet,
    /// The NUMA nodes of these CPUs that have memory; empty for no restriction.
    pub mems: CpuSet,
}

/// What those share who have no CPUs of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub cpus: CpuSet,
    /// The NUMA nodes that have memory; empty where there is no choice.
    pub mems: CpuSet,
}

/// What a container asks for.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub class: QosClass,
    /// What the client asked for.
    pub resources: &'a LinuxContainerResources,
}

impl Claim<'_> {
    /// How many CPUs of its own the container could have; none if it is not one for that.
    fn cpus(&self) -> Option<usize> {
        let is_for_pinning = self.class == QosClass::Guaranteed && asked(self.resources).is_none();
        whole_cpus(self.resources).filter(|_| is_for_pinning)
    }
}

/// The cpuset that a client asks for, and the field that has it.
fn asked(resources: &LinuxContainerResources) -> Option<(&'static str, &str)> {
    let unified = resources.unified.get("cpuset.cpus");
    let unified = unified.map(|text| ("linux.resources.unified[\"cpuset.cpus\"]", text.as_str()));
    let own = Some(("linux.resources.cpuset_cpus", resources.cpuset_cpus.as_str()));
    unified.or(own).filter(|(_, text)| !text.is_empty())
}

/// Why a container cannot have CPUs of its own.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    #[error("{field} is {text:?}")]
    Invalid {
        field: &'static str,
        text: String,
        #[source]
        source: CpuSetError,
    },
    #[error(
        "the container asks for {wanted} CPUs of its own, and {} can be given; {}pinned are: {holders}; stop one of them, ask \
         for less, or set on_shortage = \"share\"", counted(free), listed(above.as_ref())
    )]
    Shortage {
        wanted: usize,
        free: CpuSet,
        /// What the cgroup above has, if it does not have all CPUs.
        above: Option<CpuSet>,
        /// Who has CPUs of their own, and which.
        holders: String,
    },
}

fn counted(free: &CpuSet) -> String {
    match free.len() {
        0 => "none".to_owned(),
        count => format!("{count} ({free})"),
    }
}

fn listed(above: Option<&CpuSet>) -> String {
    above.map_or_else(String::new, |above| {
        format!("the cgroup above it has only {above}; ")
    })
}

impl Kinded for CpuError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Shortage { .. } => ErrorKind::ResourceExhausted,
        }
    }
}

/// Why the CPUs of this node cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum CpusUnusable {
    #[error("cpu.reserved is {text:?}")]
    Reserved {
        text: String,
        #[source]
        source: CpuSetError,
    },
    #[error("cannot read the CPUs of this node")]
    Topology(#[from] TopologyError),
    #[error("cannot read which CPUs cgroups may use")]
    Cgroups(#[from] CgroupError),
}

/// A container's or monitor's place among the CPUs. It is given back when this is dropped, which must not be before its
/// processes have ended.
#[derive(Debug)]
pub struct Seat {
    cpus: Arc<Cpus>,
    id: Id,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.cpus.state.lock();
        let holder = state.holders.remove(&self.id);
        drop(state);
        if holder.is_some_and(|holder| !holder.owned().is_empty()) {
            self.cpus.move_pool_soon();
        }
    }
}

impl Holder {
    /// The CPUs of its own, and those it may still run on while that changes.
    fn owned(&self) -> CpuSet {
        match &self.place {
            Place::Pinned(cpus) => cpus.union(&self.changing),
            Place::Given(_) | Place::Pool => self.changing.clone(),
        }
    }
}

impl State {
    /// The CPUs that some of the holders have of their own.
    fn owned_by(&self, some: impl Fn(&Id) -> bool) -> CpuSet {
        let holders = self.holders.iter().filter(|(id, _)| some(id));
        let owned = holders.map(|(_, holder)| holder.owned());
        owned.fold(CpuSet::default(), |all, owned| all.union(&owned))
    }

    /// The CPUs of this node that somebody has of their own.
    fn taken(&self) -> CpuSet {
        self.topology.cpus().intersection(&self.owned_by(|_| true))
    }

    /// The CPUs of everybody who has none of their own.
    fn pool(&self) -> CpuSet {
        let all = self.topology.cpus();
        match all.difference(&self.taken()) {
            // Since CPUs went offline, or while one goes from one container to another: the rest has to run somewhere.
            none if none.is_empty() => all.clone(),
            pool => pool,
        }
    }

    /// The CPUs that can be pinned for `id`, beside those it has.
    fn free(&self, id: &Id) -> CpuSet {
        let others = self.holders.iter().filter(|(other, _)| *other != id);
        let taken = others.fold(self.reserved.clone(), |taken, (_, holder)| {
            let taken = taken.union(&holder.owned());
            match &holder.place {
                Place::Given(cpus) => taken.union(cpus),
                Place::Pinned(_) | Place::Pool => taken,
            }
        });
        self.topology.cpus().difference(&taken)
    }

    /// Where a container is to run. `allowed` are the CPUs of the cgroup above it.
    fn decide(
        &self,
        id: &Id,
        claim: Claim<'_>,
        pinning: CpuPinning,
        allowed: Option<&CpuSet>,
    ) -> Result<Place, CpuError> {
        if let Some((field, text)) = asked(claim.resources) {
            let given = text.parse().map_err(|source| CpuError::Invalid {
                field,
                text: text.to_owned(),
                source,
            })?;
            return Ok(Place::Given(given));
        }
        let kept = match self.holders.get(id).map(|holder| &holder.place) {
            Some(Place::Pinned(cpus)) => cpus.clone(),
            _ => CpuSet::default(),
        };
        let Some(wanted) = claim.cpus() else {
            return Ok(Place::Pool);
        };
        // What is pinned stays so after the policy was turned off.
        if pinning == CpuPinning::None && kept.is_empty() {
            return Ok(Place::Pool);
        }
        let usable = |cpus: CpuSet| match allowed {
            Some(allowed) => cpus.intersection(allowed),
            None => cpus,
        };
        let (free, kept) = (
            usable(self.free(id)),
            usable(kept.intersection(self.topology.cpus())),
        );
        // Of what is now the pool's and the container's together, one CPU stays the pool's.
        let others = self.owned_by(|other| other != id);
        let most = self.topology.cpus().difference(&others).len().saturating_sub(1);
        let allocated = Some(wanted).filter(|wanted| *wanted <= most);
        allocated
            .and_then(|wanted| allocate(&self.topology, &free, &kept, wanted))
            .map(Place::Pinned)
            .ok_or_else(|| CpuError::Shortage {
                wanted,
                free: free.union(&kept).first(most),
                above: allowed
                    .filter(|above| !self.topology.cpus().is_subset(above))
                    .cloned(),
                holders: self.holders_text(),
            })
    }

    fn holders_text(&self) -> String {
        let pinned = self.holders.values().filter_map(|holder| match &holder.place {
            Place::Pinned(cpus) => Some(format!("{} {cpus}", holder.owner)),
            Place::Given(cpus) => Some(format!("{} {cpus} (given by the client)", holder.owner)),
            Place::Pool => None,
        });
        let reserved = Some(format!("reserved {}", self.reserved)).filter(|_| !self.reserved.is_empty());
        let all: Vec<String> = pinned.chain(reserved).collect();
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        }
    }

    /// The pool, if `id` is a member that has to be kept off the pinned CPUs.
    fn pool_of(&self, id: &Id) -> Option<Pool> {
        let holder = self.holders.get(id)?;
        if !self.active || holder.place != Place::Pool {
            return None;
        }
        let mems = self.topology.memory_nodes(self.topology.cpus());
        Some(Pool {
            cpus: self.pool(),
            mems: if mems.len() > 1 { mems } else { CpuSet::default() },
        })
    }

    fn pinned(&self, id: &Id) -> Option<Pinning> {
        match &self.holders.get(id)?.place {
            Place::Pinned(cpus) => Some(Pinning {
                mems: self.topology.memory_nodes(cpus),
                cpus: cpus.clone(),
            }),
            Place::Given(_) | Place::Pool => None,
        }
    }
}

impl Cpus {
    /// Reads the node's CPUs. What is to be restored when the daemon dies is saved in `state_dir`.
    ///
    /// # Errors
    /// They cannot be read, or the configuration is wrong.
    pub fn open(
        config: &config::Cpu,
        cgroups: Arc<Cgroups>,
        state_dir: &Path,
    ) -> Result<Arc<Self>, CpusUnusable> {
        let reserved = config.reserved.parse().map_err(|source| CpusUnusable::Reserved {
            text: config.reserved.clone(),
            source,
        })?;
        let topology = Topology::read(Path::new(SYS))?;
        let topology = topology.restricted_to(&usable(&cgroups, &CpuSet::default())?);
        Ok(Arc::new(Self {
            written: tokio::sync::Mutex::new(Written {
                pool: topology.cpus().clone(),
                ..Written::default()
            }),
            state: Mutex::new(State {
                topology,
                reserved,
                active: config.pinning == CpuPinning::Static,
                holders: BTreeMap::new(),
            }),
            pinning: config.pinning,
            on_shortage: config.on_shortage,
            isolation: config.isolation,
            interrupts: Arc::new(Interrupts::new(Path::new(IRQ), state_dir.join("interrupts.json"))),
            move_interrupts: config.move_interrupts,
            cgroups,
        }))
    }

    /// Gives a new container its place. When it gets CPUs of its own, nobody else runs there any more.
    ///
    /// # Errors
    /// A wrong cpuset, or a shortage of CPUs that is not to be bridged by sharing.
    pub async fn seat(
        self: &Arc<Self>,
        id: &Id,
        owner: Owner,
        cgroup: CgroupPath,
        claim: Claim<'_>,
    ) -> Result<Seat, CpuError> {
        let allowed = self.allowed(&cgroup, claim).await;
        let seat = {
            let mut state = self.state.lock();
            let place = self.decide(&state, id, claim, allowed.as_ref())?;
            self.enter(&mut state, id, owner, cgroup, place)
        };
        // Others do not wait for a move that is under way: they catch up with it.
        if self.pinned(id).is_some() {
            self.move_pool().await;
        }
        Ok(seat)
    }

    /// Gives a container the place that an earlier daemon gave it. [`Self::restore`] must follow.
    pub fn seat_again(
        self: &Arc<Self>,
        id: &Id,
        owner: Owner,
        cgroup: CgroupPath,
        pinning: Option<&Pinning>,
        resources: &LinuxContainerResources,
    ) -> Seat {
        let given = asked(resources).and_then(|(_, text)| text.parse().ok());
        let place = match (pinning, given) {
            (Some(pinning), _) => Place::Pinned(pinning.cpus.clone()),
            (None, Some(given)) => Place::Given(given),
            (None, None) => Place::Pool,
        };
        let mut state = self.state.lock();
        state.active |= pinning.is_some();
        self.enter(&mut state, id, owner, cgroup, place)
    }

    /// Gives a pod's monitor its place, in the pool.
    pub fn seat_monitor(self: &Arc<Self>, pod: &Id, owner: Owner, cgroup: CgroupPath) -> Seat {
        self.seat_again(pod, owner, cgroup, None, &LinuxContainerResources::default())
    }

    fn enter(
        self: &Arc<Self>,
        state: &mut State,
        id: &Id,
        owner: Owner,
        cgroup: CgroupPath,
        place: Place,
    ) -> Seat {
        let holder = Holder {
            owner,
            cgroup,
            place,
            changing: CpuSet::default(),
        };
        state.holders.insert(id.clone(), holder);
        Seat {
            cpus: Arc::clone(self),
            id: id.clone(),
        }
    }

    /// [`State::decide`], where a shortage is handled as it is configured: refused, or shared with a line in the log.
    fn decide(
        &self,
        state: &State,
        id: &Id,
        claim: Claim<'_>,
        allowed: Option<&CpuSet>,
    ) -> Result<Place, CpuError> {
        match state.decide(id, claim, self.pinning, allowed) {
            Err(error @ CpuError::Shortage { .. }) if self.on_shortage == CpuShortage::Refuse => {
                metrics::cpu_shortage("refused");
                Err(error)
            }
            Err(error @ CpuError::Shortage { .. }) => {
                metrics::cpu_shortage("shared");
                tracing::warn!(
                    container = id.short(),
                    error = chain(&error),
                    "cannot give a container CPUs of its own; it runs in the shared pool, with its quota"
                );
                Ok(Place::Pool)
            }
            decided => decided,
        }
    }

    /// The CPUs of the cgroup above a container, where it could have some of its own.
    async fn allowed(&self, cgroup: &CgroupPath, claim: Claim<'_>) -> Option<CpuSet> {
        if self.pinning == CpuPinning::None || claim.cpus().is_none() {
            return None;
        }
        let (cgroups, path) = (Arc::clone(&self.cgroups), cgroup.clone());
        let read = blocking(move || {
            let above = cgroups.effective_cpus_above(&path)?;
            // If it is a partition, its CPUs are not those of the cgroup above.
            let own = cgroups.effective_cpus_of(&path)?.unwrap_or_default();
            Ok::<_, CgroupError>(above.map(|above| above.union(&own)))
        })
        .await;
        read.unwrap_or_else(|error| {
            let error = chain(&error);
            tracing::warn!(
                error,
                "cannot read the cpuset above a container; it may get CPUs that it cannot use"
            );
            None
        })
    }

    /// The CPUs that a container has of its own.
    pub fn pinned(&self, id: &Id) -> Option<Pinning> {
        self.state.lock().pinned(id)
    }

    /// What is in force of the resources that the client asked for: a pinned container has its CPUs and no CFS quota, the
    /// others have the pool.
    pub fn in_force(&self, id: &Id, asked: &LinuxContainerResources) -> Limits {
        /// No limit, for `cpu_quota`.
        const UNLIMITED: i64 = -1;
        let (pinned, mut pool) = {
            let state = self.state.lock();
            (state.pinned(id), state.pool_of(id))
        };
        let mut resources = asked.clone();
        let asks_for_mems = !resources.cpuset_mems.is_empty();
        if let Some(Pinning { cpus, mems }) = pinned {
            resources.cpuset_cpus = cpus.to_string();
            resources.cpu_quota = UNLIMITED;
            if !asks_for_mems {
                resources.cpuset_mems = mems.to_string();
            }
        }
        if let Some(pool) = pool.as_mut().filter(|_| asks_for_mems) {
            pool.mems = CpuSet::default();
        }
        Limits {
            resources,
            pool,
            ..Limits::default()
        }
    }

    /// Writes the pool into the cgroup of a member, until it is that of now: the pool may have moved since what was written
    /// last was decided. A new cgroup, of which nothing was `written`, has all CPUs from the one above.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn catch_up(&self, id: &Id, cgroup: &Cgroup, written: Option<&Pool>) -> Result<(), CgroupError> {
        let all = || self.state.lock().topology.cpus().clone();
        let mut last = written.map_or_else(all, |pool| pool.cpus.clone());
        loop {
            let pool = self.state.lock().pool_of(id);
            let Some(Pool { cpus, .. }) = pool.filter(|pool| pool.cpus != last) else {
                return Ok(());
            };
            cgroup.set_pool(&cpus)?;
            last = cpus;
        }
    }

    /// Prepares a change of what a container asks for. Its old and its new CPUs are nobody else's until the change is
    /// finished, or dropped, which takes it back.
    ///
    /// # Errors
    /// As [`Self::seat`].
    pub async fn change(self: &Arc<Self>, id: &Id, claim: Claim<'_>) -> Result<Change, CpuError> {
        let cgroup = self
            .state
            .lock()
            .holders
            .get(id)
            .map(|holder| holder.cgroup.clone());
        let allowed = match cgroup {
            Some(cgroup) => self.allowed(&cgroup, claim).await,
            None => None,
        };
        let change = self.begin_change(id, claim, allowed.as_ref())?;
        self.move_pool().await;
        Ok(change)
    }

    fn begin_change(
        self: &Arc<Self>,
        id: &Id,
        claim: Claim<'_>,
        allowed: Option<&CpuSet>,
    ) -> Result<Change, CpuError> {
        let mut state = self.state.lock();
        let back = state.holders.get(id).map(|holder| holder.place.clone());
        let new = self.decide(&state, id, claim, allowed)?;
        if let Some(holder) = state.holders.get_mut(id) {
            if let Place::Pinned(cpus) = &holder.place {
                holder.changing = cpus.clone();
            }
            holder.place = new;
        }
        Ok(Change {
            cpus: Arc::clone(self),
            id: id.clone(),
            back,
        })
    }

    /// Writes the cpusets of all that run, as a daemon that was restarted has to, and gives back interrupts that the earlier
    /// one kept off CPUs and this one does not.
    pub async fn restore(&self) {
        let (pinned, active): (Vec<_>, _) = {
            let state = self.state.lock();
            let pinned = state.holders.values().filter_map(|holder| match &holder.place {
                Place::Pinned(cpus) => Some((holder.cgroup.clone(), cpus.clone())),
                Place::Given(_) | Place::Pool => None,
            });
            (pinned.collect(), state.active)
        };
        let (cgroups, interrupts) = (Arc::clone(&self.cgroups), Arc::clone(&self.interrupts));
        let interrupts = Some(interrupts).filter(|_| !(active && self.move_interrupts));
        blocking(move || {
            for (cgroup, cpus) in pinned {
                cgroups.move_all(&[cgroup], &cpus);
            }
            let given_back = interrupts.map_or(Ok(()), |interrupts| interrupts.keep_off(&CpuSet::default()));
            if let Err(error) = given_back {
                tracing::warn!(%error, "cannot give interrupts back to the CPUs they had before an earlier daemon moved them");
            }
        })
        .await;
        *self.written.lock().await = Written::default();
        self.move_pool().await;
    }

    /// Looks for CPUs that have come or gone since, and for cpusets above containers that have become narrower. Returns the
    /// containers that do not run on all the CPUs that are theirs.
    ///
    /// # Errors
    /// The CPUs cannot be read.
    pub async fn refresh(self: &Arc<Self>) -> Result<Vec<Id>, CpusUnusable> {
        if !self.state.lock().active {
            return Ok(Vec::new());
        }
        let this = Arc::clone(self);
        let displaced = blocking(move || {
            let mine = this.state.lock().clone();
            // A partition of cgroup v2 takes its CPUs away from the root.
            let usable = usable(&this.cgroups, &mine.taken())?;
            if usable != *mine.topology.cpus() {
                tracing::info!(
                    before = %mine.topology.cpus(),
                    now = %usable,
                    "the CPUs of this node have changed"
                );
                let topology = Topology::read(Path::new(SYS))?;
                this.state.lock().topology = topology.restricted_to(&usable);
            }
            let mut displaced = Vec::new();
            for (id, holder) in &mine.holders {
                if let Place::Pinned(cpus) = &holder.place
                    && let Some(effective) = this.cgroups.effective_cpus_of(&holder.cgroup)?
                    && effective != *cpus
                {
                    displaced.push(id.clone());
                }
            }
            Ok::<_, CpusUnusable>(displaced)
        })
        .await?;
        self.move_pool().await;
        Ok(displaced)
    }

    /// Writes the pool into the cpusets of all its members, and what follows from the pinned CPUs.
    async fn move_pool(&self) {
        let mut written = self.written.lock().await;
        loop {
            let (pool, pinned, exclusive, members) = {
                let state = self.state.lock();
                let pool = state.pool();
                if !state.active || pool == written.pool {
                    return;
                }
                let members = state
                    .holders
                    .values()
                    .filter(|holder| holder.place == Place::Pool);
                let members: Vec<CgroupPath> = members.map(|holder| holder.cgroup.clone()).collect();
                (pool, state.taken(), self.exclusive(&state, &written), members)
            };
            let (cgroups, interrupts) = (Arc::clone(&self.cgroups), Arc::clone(&self.interrupts));
            let interrupts = Some(interrupts).filter(|_| self.move_interrupts);
            *written = blocking(move || {
                cgroups.move_all(&members, &pool);
                for (path, cpus) in &exclusive {
                    if let Err(error) = cgroups.set_exclusive(path, cpus) {
                        let error = chain(&error);
                        tracing::warn!(cgroup = path.relative(), %cpus, error, "cannot let cgroups below have partitions");
                    }
                }
                let moved = interrupts.map_or(Ok(()), |interrupts| interrupts.keep_off(&pinned));
                if let Err(error) = moved {
                    tracing::warn!(%error, cpus = %pinned, "cannot keep interrupts off the CPUs of pinned containers");
                }
                let mut exclusive = exclusive;
                exclusive.retain(|_, cpus| !cpus.is_empty());
                Written { pool, exclusive }
            })
            .await;
        }
    }

    /// The CPUs of partitions below each cgroup, and none for those below which there were some.
    fn exclusive(&self, state: &State, written: &Written) -> BTreeMap<CgroupPath, CpuSet> {
        let before = written.exclusive.keys().cloned();
        let mut exclusive: BTreeMap<_, _> = before.map(|path| (path, CpuSet::default())).collect();
        if self.isolation == CpuIsolation::None {
            return exclusive;
        }
        for holder in state.holders.values() {
            let owned = holder.owned();
            let mut above = holder.cgroup.parent().filter(|_| !owned.is_empty());
            while let Some(path) = above {
                above = path.parent();
                let cpus = exclusive.entry(path).or_default();
                *cpus = cpus.union(&owned);
            }
        }
        exclusive
    }

    /// Makes the cgroup of a pinned container a partition, if that is configured. Where the kernel cannot, the container has
    /// its CPUs all the same, and the log says why.
    pub fn isolate(&self, id: &Id, cgroup: &Cgroup) {
        if self.isolation == CpuIsolation::None {
            return;
        }
        if let Some(Pinning { cpus, .. }) = self.pinned(id)
            && let Err(error) = cgroup.isolate(&cpus)
        {
            tracing::warn!(
                container = id.short(),
                %cpus,
                error = chain(&error),
                "cannot make a cpuset partition of a container's CPUs; programs that pausa does not run may run there, too"
            );
        }
    }

    /// Changes the limits of a running container, which is no partition meanwhile.
    ///
    /// # Errors
    /// As [`Cgroup::update`].
    pub fn update(&self, id: &Id, cgroup: &Cgroup, limits: &Limits) -> Result<(), CgroupError> {
        cgroup.end_isolation()?;
        cgroup.update(limits)?;
        self.catch_up(id, cgroup, limits.pool.as_ref())?;
        self.isolate(id, cgroup);
        Ok(())
    }

    /// [`Self::move_pool`] in the background.
    fn move_pool_soon(self: &Arc<Self>) {
        let cpus = Arc::clone(self);
        // Without a runtime the daemon is stopping; the next one begins with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { cpus.move_pool().await });
        }
    }
}

/// A change of where a container runs, until the kernel has taken it.
#[derive(Debug)]
#[must_use = "a change that is dropped is taken back"]
pub struct Change {
    cpus: Arc<Cpus>,
    id: Id,
    /// Where it ran before; none once the change is finished.
    back: Option<Place>,
}

impl Change {
    /// The container runs on its new CPUs only: the others are free.
    pub async fn finish(self) {
        let cpus = Arc::clone(&self.cpus);
        self.settle();
        cpus.move_pool().await;
    }

    fn settle(mut self) {
        self.back = None;
        if let Some(holder) = self.cpus.state.lock().holders.get_mut(&self.id) {
            holder.changing = CpuSet::default();
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let Some(back) = self.back.take() else { return };
        if let Some(holder) = self.cpus.state.lock().holders.get_mut(&self.id) {
            holder.place = back;
            holder.changing = CpuSet::default();
        }
        self.cpus.move_pool_soon();
    }
}

/// The CPUs that are online and that cgroups may use, together with those that are in use already.
fn usable(cgroups: &Cgroups, in_use: &CpuSet) -> Result<CpuSet, CpusUnusable> {
    let online = Topology::online(Path::new(SYS))?;
    Ok(match cgroups.effective_cpus()? {
        Some(cpus) => online.intersection(&cpus.union(in_use)),
        None => online,
    })
}

#[cfg(test)]
mod tests;
