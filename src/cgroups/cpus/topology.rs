//! How the CPUs of this node lie to each other.
//!
//! ```text
//!   machine ─▶ sockets ─▶ NUMA nodes ─▶ caches ─▶ cores ─▶ CPUs (hardware threads)
//! ```
//!
//! A cache is the last level that cores share, L3 on most machines. Each CPU is in just one domain of each level, and a
//! domain lies inside of just one of the next larger level. Where the hardware does not nest, the smaller of two borders
//! counts: a NUMA node over two sockets, or a cache over two NUMA nodes, is cut.
//!
//! What is missing, as much is in virtual machines, is replaced by the next larger domain: CPUs without caches share one
//! with their NUMA node, and without nodes there is one, number 0. Only CPUs that are online are here.
//!
//! Reads two files per core, and some per cache and node. Reference: `Documentation/ABI/stable/sysfs-devices-system-cpu`,
//! `sysfs-devices-node`, `Documentation/admin-guide/cputopology.rst`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;

use super::set::{CpuSet, CpuSetError};

const CPUS: &str = "devices/system/cpu";

/// The CPUs of this node, or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    machine: Domain,
    /// NUMA nodes that have CPUs.
    nodes: BTreeMap<usize, CpuSet>,
    /// NUMA nodes that have memory.
    memory: CpuSet,
}

/// CPUs that share something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain {
    /// Never empty, except for a machine without CPUs.
    pub(super) cpus: CpuSet,
    /// The domains of the next smaller level, by their lowest CPU. Those of a cache are its cores, which have none.
    pub(super) parts: Vec<Self>,
}

/// Where a CPU lies. Sockets, caches and cores have numbers that count all of the machine, in the order of the tree; a NUMA
/// node has the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    pub cpu: usize,
    pub socket: usize,
    pub node: usize,
    pub cache: usize,
    pub core: usize,
}

/// What the CPUs share, for each level as sets that divide all CPUs among them.
#[derive(Debug)]
pub(super) struct Levels {
    pub(super) sockets: Vec<CpuSet>,
    pub(super) nodes: BTreeMap<usize, CpuSet>,
    pub(super) caches: Vec<CpuSet>,
    pub(super) cores: Vec<CpuSet>,
}

/// Why the topology of this node cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error("{} is missing: mount sysfs on /sys", path.display())]
    Missing { path: PathBuf },
    #[error("read of {} failed", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} has no list of numbers", path.display())]
    List {
        path: PathBuf,
        #[source]
        source: CpuSetError,
    },
    #[error("{} has {text:?} instead of a number", path.display())]
    Number { path: PathBuf, text: String },
}

impl Topology {
    /// Reads the topology of the CPUs that are online. `sys` is where sysfs is mounted.
    ///
    /// # Errors
    /// There is no sysfs, or a file of it cannot be read or understood.
    pub fn read(sys: &Path) -> Result<Self, TopologyError> {
        let cpus = sys.join(CPUS);
        let online = Self::online(sys)?;
        let mut cores = Vec::new();
        let mut sockets: BTreeMap<i64, CpuSet> = BTreeMap::new();
        let mut left = online.clone();
        while let Some(cpu) = left.lowest() {
            let dir = cpus.join(format!("cpu{cpu}/topology"));
            let siblings = match list(&dir.join("core_cpus_list"))? {
                Some(siblings) => Some(siblings),
                // Before Linux 5.3.
                None => list(&dir.join("thread_siblings_list"))?,
            };
            let core = claim(&mut left, cpu, siblings);
            // The kernel says -1 if it does not know.
            let socket = number(&dir.join("physical_package_id"))?.unwrap_or(-1);
            let socket = sockets.entry(socket).or_default();
            *socket = socket.union(&core);
            cores.push(core);
        }

        let mut caches = Vec::new();
        let mut without = CpuSet::default();
        left = online.clone();
        while let Some(cpu) = left.lowest() {
            match last_cache(&cpus.join(format!("cpu{cpu}/cache")))? {
                Some(shared) => caches.push(claim(&mut left, cpu, Some(shared))),
                None => without = without.union(&claim(&mut left, cpu, None)),
            }
        }
        let in_one_core = |cache: &CpuSet| cores.iter().any(|core| cache.is_subset(core));
        if caches.iter().all(in_one_core) {
            // Nothing that cores share is known.
            caches = vec![online.clone()];
        } else if !without.is_empty() {
            caches.push(without);
        }

        let dir = sys.join("devices/system/node");
        let known = list(&dir.join("online"))?.unwrap_or_default();
        let mut nodes = BTreeMap::new();
        left = online;
        for node in known.iter() {
            let here = list(&dir.join(format!("node{node}/cpulist")))?.unwrap_or_default();
            let here = here.intersection(&left);
            left = left.difference(&here);
            if !here.is_empty() {
                nodes.insert(node, here);
            }
        }
        if !left.is_empty() {
            let zero = nodes.entry(0).or_default();
            *zero = zero.union(&left);
        }
        let memory = match list(&dir.join("has_memory"))? {
            Some(memory) => Some(memory),
            None => list(&dir.join("has_normal_memory"))?,
        };
        let memory = memory
            .filter(|memory| !memory.is_empty())
            .unwrap_or_else(|| nodes.keys().copied().collect());

        let sockets = sockets.into_values().collect();
        let levels = Levels {
            sockets,
            nodes,
            caches,
            cores,
        };
        Ok(Self::new(levels, memory))
    }

    /// The CPUs that are online, which costs one file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn online(sys: &Path) -> Result<CpuSet, TopologyError> {
        let path = sys.join(CPUS).join("online");
        list(&path)?.ok_or(TopologyError::Missing { path })
    }

    pub(super) fn new(levels: Levels, memory: CpuSet) -> Self {
        let nodes: Vec<CpuSet> = levels.nodes.values().cloned().collect();
        let all = nodes.iter().fold(CpuSet::default(), |all, node| all.union(node));
        let machine = Domain::divide(all, &[&levels.sockets, &nodes, &levels.caches, &levels.cores]);
        Self {
            machine,
            nodes: levels.nodes,
            memory,
        }
    }

    pub fn cpus(&self) -> &CpuSet {
        &self.machine.cpus
    }

    pub(super) fn machine(&self) -> &Domain {
        &self.machine
    }

    /// Where all CPUs lie, in the order of the tree.
    pub fn locations(&self) -> Vec<Location> {
        let mut all = Vec::new();
        let (mut caches, mut cores) = (0.., 0..);
        for (socket, domain) in self.machine.parts.iter().enumerate() {
            for part in &domain.parts {
                let node = self.nodes.iter().find(|(_, node)| node.overlap(&part.cpus) > 0);
                let node = node.map_or(0, |(number, _)| *number);
                for (part, cache) in part.parts.iter().zip(&mut caches) {
                    for (part, core) in part.parts.iter().zip(&mut cores) {
                        all.extend(part.cpus.iter().map(|cpu| Location {
                            cpu,
                            socket,
                            node,
                            cache,
                            core,
                        }));
                    }
                }
            }
        }
        all
    }

    /// The NUMA nodes with memory that these CPUs are near to: their own, or all if their own have none.
    pub fn memory_nodes(&self, cpus: &CpuSet) -> CpuSet {
        let nodes = self.nodes.iter().filter(|(_, node)| node.overlap(cpus) > 0);
        let own: CpuSet = nodes.map(|(number, _)| *number).collect();
        match own.intersection(&self.memory) {
            none if none.is_empty() => self.memory.clone(),
            own => own,
        }
    }

    /// The same with only these CPUs. All nodes with memory stay.
    pub fn restricted_to(&self, cpus: &CpuSet) -> Self {
        let nodes = self.nodes.iter();
        Self {
            machine: self.machine.restricted_to(cpus),
            nodes: nodes
                .map(|(number, node)| (*number, node.intersection(cpus)))
                .filter(|(_, node)| !node.is_empty())
                .collect(),
            memory: self.memory.clone(),
        }
    }
}

impl Domain {
    /// Divides CPUs into parts of the first level, these into parts of the next one, and so on.
    fn divide(cpus: CpuSet, levels: &[&[CpuSet]]) -> Self {
        let mut parts = Vec::new();
        if let Some((level, smaller)) = levels.split_first() {
            for part in level.iter().filter(|part| part.overlap(&cpus) > 0) {
                parts.push(Self::divide(part.intersection(&cpus), smaller));
            }
            parts.sort_by_key(|part| part.cpus.lowest());
        }
        Self { cpus, parts }
    }

    /// The domains so many levels below.
    pub(super) fn below(&self, levels: usize) -> Vec<&Self> {
        match levels {
            0 => vec![self],
            _ => self
                .parts
                .iter()
                .flat_map(|part| part.below(levels - 1))
                .collect(),
        }
    }

    fn restricted_to(&self, cpus: &CpuSet) -> Self {
        let mut parts: Vec<Self> = self.parts.iter().map(|part| part.restricted_to(cpus)).collect();
        parts.retain(|part| !part.cpus.is_empty());
        parts.sort_by_key(|part| part.cpus.lowest());
        Self {
            cpus: self.cpus.intersection(cpus),
            parts,
        }
    }
}

/// Takes a CPU from those that are left, with those that share something with it as far as nobody has claimed them: what
/// is claimed divides the CPUs even if CPUs come and go while files are read.
fn claim(left: &mut CpuSet, cpu: usize, shared: Option<CpuSet>) -> CpuSet {
    let mut part = shared.unwrap_or_default().intersection(left);
    part.insert(cpu);
    *left = left.difference(&part);
    part
}

/// The CPUs that share the last cache with the one whose caches are here.
fn last_cache(dir: &Path) -> Result<Option<CpuSet>, TopologyError> {
    let mut last = None;
    for index in 0.. {
        let cache = dir.join(format!("index{index}"));
        let Some(level) = number(&cache.join("level"))? else {
            break;
        };
        if last.as_ref().is_none_or(|(highest, _)| level > *highest) {
            last = Some((level, cache));
        }
    }
    match last {
        Some((_, cache)) => list(&cache.join("shared_cpu_list")),
        None => Ok(None),
    }
}

fn list(path: &Path) -> Result<Option<CpuSet>, TopologyError> {
    let parse = |text: String| {
        CpuSet::from_str(&text).map_err(|source| TopologyError::List {
            path: path.to_path_buf(),
            source,
        })
    };
    text(path)?.map(parse).transpose()
}

fn number(path: &Path) -> Result<Option<i64>, TopologyError> {
    let parse = |text: String| {
        text.trim_ascii().parse().map_err(|_| TopologyError::Number {
            path: path.to_path_buf(),
            text,
        })
    };
    text(path)?.map(parse).transpose()
}

/// None if the file does not exist, or no longer.
fn text(path: &Path) -> Result<Option<String>, TopologyError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(None),
        Err(source) => Err(TopologyError::Read {
            path: path.to_path_buf(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
