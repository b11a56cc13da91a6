//! Rules with conditions on arguments, and the code that tests them.
//!
//! An argument has 64 bits, BPF has 32: each is compared high word first. Chains of rules that several system
//! calls share are assembled once.

use super::assembler::{Assembler, JEQ, JGE, JGT, Label, SECCOMP_DATA_ARGS};
use super::ranges::Verdict;
use super::rules::{Condition, Rules, Test};
use std::collections::HashMap;

/// Chains of rules, each a list of rule numbers in the order they are tried.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    chains: Vec<Vec<usize>>,
    known: HashMap<Vec<usize>, usize>,
    /// Where a chain has been assembled, by whether it is for 32-bit arguments.
    assembled: HashMap<(usize, bool), Label>,
}

impl Conditions {
    /// The verdict of the rules of one system call, which are in the order they are tried.
    pub(super) fn verdict(
        &mut self,
        rules: &Rules<'_>,
        chain: impl Iterator<Item = usize> + Clone,
    ) -> Verdict {
        let mut all = chain.clone().filter_map(|rule| rules.get(rule));
        if let Some(rule) = all.find(|rule| rule.conditions.is_empty()) {
            return Verdict::Return(rule.action);
        }
        let chain: Vec<usize> = chain.collect();
        if let Some(id) = self.known.get(&chain) {
            return Verdict::Chain(*id);
        }
        let id = self.chains.len();
        self.chains.push(chain.clone());
        self.known.insert(chain, id);
        Verdict::Chain(id)
    }

    /// The code for a chain: the first rule whose conditions all hold returns, else the default action does.
    pub(super) fn assemble(
        &mut self,
        asm: &mut Assembler,
        rules: &Rules<'_>,
        chain: usize,
        narrow: bool,
    ) -> Label {
        if let Some(label) = self.assembled.get(&(chain, narrow)) {
            return *label;
        }
        let chain_rules = self
            .chains
            .get(chain)
            .into_iter()
            .flatten()
            .filter_map(|rule| rules.get(*rule));
        let mut otherwise = asm.ret(rules.default);
        for rule in chain_rules.rev() {
            let mut hit = asm.ret(rule.action);
            for condition in rule.conditions.iter().rev() {
                hit = test(asm, condition, narrow, hit, otherwise);
            }
            otherwise = hit;
        }
        self.assembled.insert((chain, narrow), otherwise);
        otherwise
    }
}

/// Goes to `hit` if the condition holds, to `miss` if not.
fn test(asm: &mut Assembler, condition: &Condition, narrow: bool, hit: Label, miss: Label) -> Label {
    let by = |expect| if expect { (hit, miss) } else { (miss, hit) };
    let offset = SECCOMP_DATA_ARGS + 8 * condition.argument;
    match condition.test {
        Test::Equal { mask, value, expect } => {
            let (yes, no) = by(expect);
            equal(asm, offset, narrow, (words(mask), words(value)), (yes, no))
        }
        Test::GreaterOrEqual { value, expect } => order(asm, offset, narrow, (JGE, words(value)), by(expect)),
        Test::Greater { value, expect } => order(asm, offset, narrow, (JGT, words(value)), by(expect)),
    }
}

/// A number's halves as they lie in memory on a little-endian machine.
#[derive(Clone, Copy)]
struct Words {
    low: u32,
    high: u32,
}

fn words(value: u64) -> Words {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    Words {
        low: u32::from_le_bytes([a, b, c, d]),
        high: u32::from_le_bytes([e, f, g, h]),
    }
}

fn equal(
    asm: &mut Assembler,
    offset: u32,
    narrow: bool,
    (mask, value): (Words, Words),
    (yes, no): (Label, Label),
) -> Label {
    let mut next = yes;
    for (offset, mask, value, skip) in [
        (offset, mask.low, value.low, false),
        (offset + 4, mask.high, value.high, narrow),
    ] {
        // A mask without bits in this half: nothing to compare.
        if skip || mask == 0 {
            continue;
        }
        asm.branch(JEQ, value, next, no);
        if mask != u32::MAX {
            asm.and(mask);
        }
        next = asm.load(offset);
    }
    next
}

fn order(
    asm: &mut Assembler,
    offset: u32,
    narrow: bool,
    (code, value): (u16, Words),
    (yes, no): (Label, Label),
) -> Label {
    asm.branch(code, value.low, yes, no);
    let low = asm.load(offset);
    if narrow {
        return low;
    }
    let not_greater = asm.branch(JEQ, value.high, low, no);
    asm.branch(JGT, value.high, yes, not_greater);
    asm.load(offset + 4)
}
