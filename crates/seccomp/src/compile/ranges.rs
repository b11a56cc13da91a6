//! What one architecture's filter answers to each number, as ranges of equal answers.
//!
//! x86_64 and x32 share an architecture value; x32 numbers have a bit set, so both are one list, and without
//! x32 the upper part is one range that kills. -1, which a tracer writes to skip a call, belongs to the
//! native ABI, though it has the bit set.
//!
//! Invariant: ranges start at 0, ascend, cover every number, and neighbours differ.

use super::conditions::Conditions;
use super::rules::{Rules, SECCOMP_RET_KILL_PROCESS};
use crate::table::Abi;

/// `__X32_SYSCALL_BIT`.
const X32_BIT: u32 = 0x4000_0000;

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The filter returns this, whatever the arguments.
    Return(u32),
    /// The arguments decide: a chain of rules in [`Conditions`].
    Chain(usize),
}

/// All numbers from `start` to the next range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) verdict: Verdict,
}

/// Ranges over all numbers.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    list: Vec<Range>,
}

impl Ranges {
    pub(super) fn new(rules: &Rules<'_>, abi: Abi, with_x32: bool, conditions: &mut Conditions) -> Self {
        let mut ranges = Self::default();
        let native = ranges.append(rules, abi, 0, conditions);
        if abi == Abi::X86_64 {
            if with_x32 {
                ranges.append(rules, Abi::X32, X32_BIT, conditions);
            } else {
                ranges.push(X32_BIT, Verdict::Return(SECCOMP_RET_KILL_PROCESS));
            }
            ranges.push(u32::MAX, native);
        }
        ranges
    }

    pub(super) fn as_slice(&self) -> &[Range] {
        &self.list
    }

    /// Adds an ABI whose numbers begin at `base`. Returns what numbers beyond the last one get.
    fn append(&mut self, rules: &Rules<'_>, abi: Abi, base: u32, conditions: &mut Conditions) -> Verdict {
        let default = Verdict::Return(rules.default);
        let (mut exact, largest) = verdicts(rules, abi, conditions);
        // Without any name there is nothing to tell old from new by.
        let newer = if largest.is_some() {
            Verdict::Return(rules.newer)
        } else {
            default
        };
        let first_newer = largest.map_or(0, |largest| largest + 1);
        let private = abi.syscalls().filter(|(_, number)| *number >= abi.private_from());
        for (_, number) in private {
            if let Err(index) = exact.binary_search_by_key(&number, |(known, _)| *known) {
                exact.insert(index, (number, default));
            }
        }

        let mut next = 0;
        for (number, verdict) in exact
            .into_iter()
            .map(Some)
            .chain([None])
            .map(|it| it.unwrap_or((u32::MAX, newer)))
        {
            if next < number.min(first_newer) {
                self.push(base + next, default);
            }
            if first_newer.max(next) < number {
                self.push(base + first_newer.max(next), newer);
            }
            if number < u32::MAX {
                self.push(base + number, verdict);
                next = number + 1;
            }
        }
        newer
    }

    fn push(&mut self, start: u32, verdict: Verdict) {
        if self.list.last().is_none_or(|last| last.verdict != verdict) {
            self.list.push(Range { start, verdict });
        }
    }
}

/// The verdict for every number that has rules, in order, and the largest number that the profile names.
fn verdicts(rules: &Rules<'_>, abi: Abi, conditions: &mut Conditions) -> (Vec<(u32, Verdict)>, Option<u32>) {
    let mut largest = None;
    let mut matches = Vec::new();
    for entry in &rules.entries {
        for number in entry.numbers.iter().filter_map(|numbers| numbers.on(abi)) {
            if number < abi.private_from() {
                largest = largest.max(Some(number));
            }
            matches.extend(entry.rules.iter().map(|rule| (number, *rule)));
        }
        if abi == Abi::X86 {
            let multiplexed = entry.multiplexed.iter();
            matches.extend(multiplexed.filter_map(|(call, rule)| Some((abi.number(call)?, *rule))));
        }
    }
    // Rules are numbered in the order of the profile.
    matches.sort_unstable();
    let verdict = |group: &[(u32, usize)]| {
        let chain = group.iter().map(|(_, rule)| *rule);
        Some((group.first()?.0, conditions.verdict(rules, chain)))
    };
    (
        matches
            .chunk_by(|(a, _), (b, _)| a == b)
            .filter_map(verdict)
            .collect(),
        largest,
    )
}
