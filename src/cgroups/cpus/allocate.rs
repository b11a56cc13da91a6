//! Which CPUs a container gets: a pure function of the topology, the free CPUs, those it has and their number.
//!
//! **A new set** comes from the smallest domain (cache, NUMA node, socket, machine) that has enough free CPUs. Of several
//! it is the one where the fewest threads share a core with somebody else, then where the fewest cores begin to be
//! shared, then the one with the fewest free CPUs, which keeps large domains for large requests, then the one with the
//! lowest CPU. A domain whose parts all have too few is filled part by part, the largest first, so that as few as possible
//! are used; what is missing at last comes from the part that fits best by the same order.
//!
//! Inside of a cache whole cores, those with all threads free, come first. Threads that are left over are from cores that
//! are shared already, and only then from a core that was free.
//!
//! **More CPUs** are added to those that are kept, from near to far: siblings, then the same cache, node and socket.
//! **Fewer CPUs** are a new set out of those that are kept.
//!
//! Must never: depend on anything but its arguments. A daemon that starts again and a test that replays have to come to
//! the same answer.

use std::cmp::Reverse;
use std::ops::Add;

use super::set::CpuSet;
use super::topology::{Domain, Topology};

/// Levels between a machine and its caches. Cores are one below.
const TO_CACHES: usize = 3;

/// The most threads of a core that hardware has. Cores with more, which only a strange virtual machine has, count as
/// shared when domains are compared.
const MOST_THREADS: usize = 8;

/// Chooses `count` CPUs out of those that are free and those that are kept, as far as the topology has them: all of the
/// kept ones and more, or fewer of them. None if there are too few.
pub fn allocate(topology: &Topology, free: &CpuSet, keep: &CpuSet, count: usize) -> Option<CpuSet> {
    let machine = topology.machine();
    let keep = keep.intersection(&machine.cpus);
    if count < keep.len() {
        return Some(take(&Pool::new(machine, &keep), &keep, count));
    }
    let mut free = free.intersection(&machine.cpus).difference(&keep);
    let mut missing = count - keep.len();
    if missing > free.len() {
        return None;
    }
    let mut chosen = keep.clone();
    // Siblings first, then domains that grow. With nothing to keep none is near.
    for level in (1..=TO_CACHES + 1).rev() {
        let near = machine.below(level).into_iter();
        let near = near
            .filter(|domain| domain.cpus.overlap(&keep) > 0)
            .fold(CpuSet::default(), |near, domain| near.union(&domain.cpus));
        let here = free.intersection(&near);
        if here.len() >= missing {
            let more = take(&Pool::new(machine, &here), &here, missing);
            return Some(chosen.union(&more));
        }
        missing -= here.len();
        free = free.difference(&here);
        chosen = chosen.union(&here);
    }
    let more = take(&Pool::new(machine, &free), &free, missing);
    Some(chosen.union(&more))
}

/// A domain with what is free of it.
#[derive(Debug)]
struct Pool<'a> {
    domain: &'a Domain,
    tally: Tally,
    /// A cache has none: its cores are counted, not listed.
    parts: Vec<Self>,
}

/// How many CPUs are free, and how they lie.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    free: usize,
    /// The number of free cores by their number of threads.
    cores: [usize; MOST_THREADS + 1],
}

impl<'a> Pool<'a> {
    fn new(machine: &'a Domain, free: &CpuSet) -> Self {
        Self::at(machine, free, TO_CACHES)
    }

    fn at(domain: &'a Domain, free: &CpuSet, to_caches: usize) -> Self {
        if to_caches == 0 {
            let mut tally = Tally::default();
            for core in &domain.parts {
                let here = core.cpus.overlap(free);
                tally.free += here;
                if here == core.cpus.len()
                    && let Some(cores) = tally.cores.get_mut(here)
                {
                    *cores += 1;
                }
            }
            return Self {
                domain,
                tally,
                parts: Vec::new(),
            };
        }
        let parts = domain.parts.iter();
        let parts: Vec<Self> = parts.map(|part| Self::at(part, free, to_caches - 1)).collect();
        Self {
            domain,
            tally: parts
                .iter()
                .fold(Tally::default(), |tally, part| tally + part.tally),
            parts,
        }
    }

    /// The pools so many levels below, if there are so many.
    fn below(&self, levels: usize) -> Vec<&Self> {
        match levels {
            0 => vec![self],
            _ => self
                .parts
                .iter()
                .flat_map(|part| part.below(levels - 1))
                .collect(),
        }
    }
}

impl Tally {
    /// CPUs of free cores.
    fn whole(&self) -> usize {
        let cores = self.cores.iter().enumerate();
        cores.map(|(threads, cores)| threads * cores).sum()
    }

    /// CPUs of cores that are shared already.
    fn shared(&self) -> usize {
        self.free - self.whole()
    }

    /// What is lost if so many CPUs are taken: the number of threads that share a core with somebody else, and how many of
    /// these are on cores that were free.
    fn loss(&self, count: usize) -> (usize, usize) {
        let mut left = count;
        for (threads, cores) in self.cores.iter().enumerate().skip(1).rev() {
            left -= threads * (left / threads).min(*cores);
        }
        (left, left.saturating_sub(self.shared()))
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let mut cores = self.cores;
        for (sum, more) in cores.iter_mut().zip(other.cores) {
            *sum += more;
        }
        Self {
            free: self.free + other.free,
            cores,
        }
    }
}

/// Takes `count` CPUs of a pool that has as many.
fn take(pool: &Pool<'_>, free: &CpuSet, count: usize) -> CpuSet {
    for levels in (1..=TO_CACHES).rev() {
        let pools = pool.below(levels).into_iter();
        let best = pools.filter(|part| part.tally.free >= count).min_by_key(|part| {
            let tally = part.tally;
            (tally.loss(count), tally.free, part.domain.cpus.lowest())
        });
        if let Some(best) = best {
            return take(best, free, count);
        }
    }
    match pool.parts.is_empty() {
        true => take_cores(pool.domain, free, count),
        false => take_parts(pool, free, count),
    }
}

/// [`take`] for a pool of which no part has enough.
fn take_parts(pool: &Pool<'_>, free: &CpuSet, count: usize) -> CpuSet {
    let mut parts: Vec<_> = pool.parts.iter().collect();
    parts.sort_by_key(|part| Reverse((part.tally.free, part.tally.whole())));
    let (mut full, mut missing) = (0, count);
    while let Some(part) = parts.get(full).filter(|part| part.tally.free < missing) {
        missing -= part.tally.free;
        full += 1;
    }
    let (full, others) = parts.split_at(full);
    let tally = full
        .iter()
        .fold(Tally::default(), |tally, part| tally + part.tally);
    let last = others
        .iter()
        .filter(|part| part.tally.free >= missing)
        .min_by_key(|part| {
            let loss = (tally + part.tally).loss(count);
            (loss, part.tally.free, part.domain.cpus.lowest())
        });
    let last = last.expect("all parts together have what the pool has");
    // Threads of shared cores are left where all of these parts together have whole cores enough.
    let tally = tally + last.tally;
    let mut shared = tally.loss(count).0.min(tally.shared());
    let mut taken = CpuSet::default();
    let mut left = count;
    for part in full {
        let of_shared = part.tally.shared().min(shared);
        let here = left.min(part.tally.whole() + of_shared);
        taken = taken.union(&take(part, free, here));
        shared -= of_shared;
        left -= here;
    }
    taken.union(&take(last, free, left))
}

/// [`take`] for a cache.
fn take_cores(cache: &Domain, free: &CpuSet, count: usize) -> CpuSet {
    let (mut whole, mut shared) = (Vec::new(), Vec::new());
    for core in &cache.parts {
        match core.cpus.intersection(free) {
            none if none.is_empty() => {}
            all if all == core.cpus => whole.push(all),
            some => shared.push(some),
        }
    }
    // Large cores first: what is left over then has the most that may fit.
    whole.sort_by_key(|core| Reverse(core.len()));
    let mut taken = CpuSet::default();
    let mut left = count;
    whole.retain(|core| {
        let fits = core.len() <= left;
        if fits {
            taken = taken.union(core);
            left -= core.len();
        }
        !fits
    });
    while left > 0 {
        // The core that has just enough, or else the one that has the most.
        let fit = |core: &&CpuSet| (core.len() < left, core.len().abs_diff(left));
        let best = shared
            .iter()
            .min_by_key(fit)
            .or_else(|| whole.iter().min_by_key(fit));
        let Some(best) = best else { break };
        let part = best.first(left);
        taken = taken.union(&part);
        left -= part.len();
        shared.retain(|core| core.overlap(&part) == 0);
    }
    taken
}

#[cfg(test)]
mod tests;
