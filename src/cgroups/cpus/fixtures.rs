//! Machines for tests and the benchmark: as values, and as the files that the kernel would have for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::set::CpuSet;
use super::topology::{Levels, Topology};

/// Which numbers the kernel gives to the threads.
#[derive(Debug, Clone, Copy)]
pub enum Numbering {
    /// Siblings follow each other, as on many desktops and in virtual machines.
    Adjacent,
    /// The first threads of all cores, then the second ones, as AMD's servers.
    ByThread,
    /// The same, and sockets take turns, as on many of Intel's servers.
    Interleaved,
}

#[derive(Debug, Clone)]
pub struct Core {
    pub socket: usize,
    pub node: usize,
    pub cache: usize,
    pub cpus: CpuSet,
}

/// Where a core lies, and how many threads it has.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub socket: usize,
    pub node: usize,
    pub cache: usize,
    pub threads: usize,
}

#[derive(Debug, Clone)]
pub struct Machine {
    pub cores: Vec<Core>,
    pub memory: CpuSet,
    /// Whether the kernel knows caches and nodes.
    pub details: bool,
}

impl Machine {
    pub fn new(places: &[Place], numbering: Numbering) -> Self {
        let mut threads = Vec::new();
        for (core, place) in places.iter().enumerate() {
            let of_socket = places[..core].iter().filter(|other| other.socket == place.socket);
            let index = of_socket.count();
            for thread in 0..place.threads {
                let key = match numbering {
                    Numbering::Adjacent => [core, thread, 0],
                    Numbering::ByThread => [thread, core, 0],
                    Numbering::Interleaved => [thread, index, place.socket],
                };
                threads.push((key, core));
            }
        }
        threads.sort_unstable();
        let cpus_of = |core| {
            let mine = threads
                .iter()
                .enumerate()
                .filter(|(_, (_, other))| *other == core);
            mine.map(|(cpu, _)| cpu).collect()
        };
        let core = |(index, place): (usize, &Place)| Core {
            socket: place.socket,
            node: place.node,
            cache: place.cache,
            cpus: cpus_of(index),
        };
        Self {
            cores: places.iter().enumerate().map(core).collect(),
            memory: places.iter().map(|place| place.node).collect(),
            details: true,
        }
    }

    /// Sockets, nodes of each, caches of each, cores of each, threads of each.
    pub fn regular(shape: [usize; 5], numbering: Numbering) -> Self {
        let [sockets, nodes, caches, cores, threads] = shape;
        let place = |core: usize| Place {
            socket: core / (nodes * caches * cores),
            node: core / (caches * cores),
            cache: core / cores,
            threads,
        };
        let places: Vec<Place> = (0..sockets * nodes * caches * cores).map(place).collect();
        Self::new(&places, numbering)
    }

    /// Two sockets with 32 cores, four nodes of 8 cores each, which have two caches.
    pub fn epyc() -> Self {
        Self::regular([2, 4, 2, 4, 2], Numbering::ByThread)
    }

    /// 512 CPUs.
    pub fn large() -> Self {
        Self::regular([2, 4, 4, 8, 2], Numbering::ByThread)
    }

    /// Two sockets of 20 cores: even CPUs on one, odd CPUs on the other, and `N` and `N + 40` on one core.
    pub fn xeon() -> Self {
        Self::regular([2, 1, 1, 20, 2], Numbering::Interleaved)
    }

    pub fn laptop() -> Self {
        Self::regular([1, 1, 1, 8, 2], Numbering::Adjacent)
    }

    pub fn no_smt() -> Self {
        Self::regular([1, 2, 2, 4, 1], Numbering::Adjacent)
    }

    /// Six cores of two threads (0 to 11) and eight of one (12 to 19).
    pub fn hybrid() -> Self {
        let place = |threads| Place {
            socket: 0,
            node: 0,
            cache: 0,
            threads,
        };
        let places = [vec![place(2); 6], vec![place(1); 8]].concat();
        Self::new(&places, Numbering::Adjacent)
    }

    /// Eight CPUs of which the kernel knows nothing more.
    pub fn vm() -> Self {
        let mut vm = Self::regular([1, 1, 1, 8, 1], Numbering::Adjacent);
        vm.details = false;
        vm
    }

    /// The same without some CPUs: the kernel lists only those that are online.
    pub fn offline(mut self, cpus: &CpuSet) -> Self {
        for core in &mut self.cores {
            core.cpus = core.cpus.difference(cpus);
        }
        self.cores.retain(|core| !core.cpus.is_empty());
        self
    }

    pub fn cpus(&self) -> CpuSet {
        self.groups(|_| 0).remove(&0).unwrap_or_default()
    }

    pub fn sockets(&self) -> BTreeMap<usize, CpuSet> {
        self.groups(|core| core.socket)
    }

    pub fn nodes(&self) -> BTreeMap<usize, CpuSet> {
        self.groups(|core| core.node)
    }

    pub fn caches(&self) -> BTreeMap<usize, CpuSet> {
        self.groups(|core| core.cache)
    }

    fn groups(&self, group: impl Fn(&Core) -> usize) -> BTreeMap<usize, CpuSet> {
        let mut groups: BTreeMap<usize, CpuSet> = BTreeMap::new();
        for core in &self.cores {
            let group = groups.entry(group(core)).or_default();
            *group = group.union(&core.cpus);
        }
        groups
    }

    pub fn topology(&self) -> Topology {
        let levels = Levels {
            sockets: self.sockets().into_values().collect(),
            nodes: self.nodes(),
            caches: self.caches().into_values().collect(),
            cores: self.cores.iter().map(|core| core.cpus.clone()).collect(),
        };
        Topology::new(levels, self.memory.clone())
    }

    /// Writes the files below what would be `/sys`.
    pub fn write(&self, sys: &Path) {
        let write = |path: &str, value: &str| {
            let path = sys.join("devices/system").join(path);
            let dir = path.parent().expect("a file below the directory");
            fs::create_dir_all(dir).expect("a directory like that of sysfs");
            fs::write(path, format!("{value}\n")).expect("a file like that of sysfs");
        };
        write("cpu/online", &self.cpus().to_string());
        let caches = self.caches();
        for (id, core) in self.cores.iter().enumerate() {
            let siblings = core.cpus.to_string();
            for cpu in core.cpus.iter() {
                let topology = format!("cpu/cpu{cpu}/topology");
                write(
                    &format!("{topology}/physical_package_id"),
                    &core.socket.to_string(),
                );
                write(&format!("{topology}/core_id"), &id.to_string());
                write(&format!("{topology}/thread_siblings_list"), &siblings);
                write(&format!("{topology}/core_cpus_list"), &siblings);
                let shared = caches[&core.cache].to_string();
                let levels = [
                    ("1", &siblings),
                    ("1", &siblings),
                    ("2", &siblings),
                    ("3", &shared),
                ];
                for (index, (level, shared)) in levels.into_iter().enumerate().filter(|_| self.details) {
                    write(&format!("cpu/cpu{cpu}/cache/index{index}/level"), level);
                    write(
                        &format!("cpu/cpu{cpu}/cache/index{index}/shared_cpu_list"),
                        shared,
                    );
                }
            }
        }
        let nodes = self.nodes();
        if self.details {
            let numbers: CpuSet = nodes.keys().copied().collect();
            write("node/online", &numbers.union(&self.memory).to_string());
            write("node/has_memory", &self.memory.to_string());
            for (node, cpus) in nodes {
                write(&format!("node/node{node}/cpulist"), &cpus.to_string());
            }
        }
    }
}
