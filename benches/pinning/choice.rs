//! How long it takes to choose CPUs on a large node, and to read its topology.
//!
//! A node with 512 CPUs is filled with containers of 1 to 4 CPUs, one after the other, until 300 have been asked for;
//! then each of them is resized. The files of the topology are in a temporary directory, not in sysfs, whose reads cost more.

#[path = "../../src/cgroups/cpus"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "shared with the program, which uses more of it"
)]
mod cpus {
    pub(crate) mod allocate;
    pub(crate) mod fixtures;
    pub(crate) mod set;
    pub(crate) mod topology;
}

use std::time::{Duration, Instant};

use cpus::allocate::allocate;
use cpus::fixtures::Machine;
use cpus::set::CpuSet;
use cpus::topology::Topology;

const CONTAINERS: usize = 300;
const ROUNDS: usize = 20;

pub(crate) fn measure() {
    let machine = Machine::large();
    let sys = tempfile::tempdir().expect("a temporary directory");
    machine.write(sys.path());
    let (mut reads, mut new, mut resized) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let topology = Topology::read(sys.path()).expect("the files that were written");
        reads.push(start.elapsed());

        let mut free = topology.cpus().clone();
        let mut held = Vec::new();
        for container in 0..CONTAINERS {
            let start = Instant::now();
            let chosen = allocate(&topology, &free, &CpuSet::default(), 1 + container % 4);
            new.push(start.elapsed());
            if let Some(chosen) = chosen {
                free = free.difference(&chosen);
                held.push(chosen);
            }
        }
        for (container, keep) in held.iter_mut().enumerate() {
            let start = Instant::now();
            let chosen = allocate(&topology, &free, keep, 1 + (container + 2) % 4);
            resized.push(start.elapsed());
            if let Some(chosen) = chosen {
                free = free.union(keep).difference(&chosen);
                *keep = chosen;
            }
        }
    }
    print("read the topology", &mut reads);
    print("allocate", &mut new);
    print("resize", &mut resized);
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what:20} {:6} times   median {median:>10.1?}   longest {longest:>10.1?}",
        times.len()
    );
}
