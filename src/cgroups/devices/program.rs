//! Compiles device rules to a BPF program for cgroup v2. Pure.
//!
//! The kernel runs it at every open and mknod of a device, with type, numbers and the requested access; it returns 1 to
//! allow. The rules are checked from the last to the first, so that the last matching rule of the list decides. Allowed
//! access is removed from the requested access: when nothing remains, the program allows.
//!
//! Reference: `struct bpf_cgroup_dev_ctx` in `linux/bpf.h`, `Documentation/bpf/standardization/instruction-set.rst`.

use std::iter;

use pausa_sys::BpfInstruction;

use super::rule::{ALL, Kind, Rule, allow_everything};

/// Registers: the result, the context, and values read from it.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ASKED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both numbers in one, and the value it is compared to. With two comparisons the verifier would follow a path for each
/// major number that matches and minor number that does not, and reject programs with many rules.
const BOTH: u8 = 6;
const WANTED: u8 = 7;

const LOAD: u8 = 0x61; // target = *(u32 *)(source + offset)
const MOVE: u8 = 0xb4; // target = immediate
const COPY: u8 = 0xbc; // target = source
const SHIFT_RIGHT: u8 = 0x74;
const SHIFT_LEFT_LONG: u8 = 0x67; // of 64 bits, as the next three
const COPY_LONG: u8 = 0xbf;
const OR_LONG: u8 = 0x4f;
const SKIP_IF_OTHER: u8 = 0x5d; // target != source
const MOVE_LONG: u8 = 0x18;
const AND: u8 = 0x54;
const SKIP_IF_SET: u8 = 0x46; // target & immediate
const SKIP_IF_NOT: u8 = 0x56; // target != immediate
const GO: u8 = 0x05;
const EXIT: u8 = 0x95;

const NO: i32 = 0;
const YES: i32 = 1;

/// The program for these rules. None if they deny nothing.
pub(super) fn compile(rules: &[Rule]) -> Option<Vec<BpfInstruction>> {
    if allow_everything(rules) {
        return None;
    }
    let mut program = vec![
        load(KIND, 0),
        from(COPY, ASKED, KIND),
        with(SHIFT_RIGHT, ASKED, 16),
        with(AND, KIND, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
        from(COPY_LONG, BOTH, MAJOR),
        with(SHIFT_LEFT_LONG, BOTH, 32),
        from(OR_LONG, BOTH, MINOR),
    ];
    // access(2) may ask whether a device exists.
    program.extend(answer_unless(SKIP_IF_NOT, ASKED, 0, YES));
    for (at, rule) in rules.iter().enumerate().rev() {
        program.extend(when(rule, conclude(rule, &rules[..at])));
        // Rules before it are never reached.
        if rule.is_total() {
            return Some(program);
        }
    }
    program.extend(answer(NO));
    Some(program)
}

/// The instructions for a matching rule, given the rules before it.
fn conclude(rule: &Rule, before: &[Rule]) -> Vec<BpfInstruction> {
    let allowed = if rule.is_exact() {
        // Decided here: going on with known numbers would be one more path for the verifier through all other rules.
        granted(rule, before)
    } else if rule.access != ALL {
        return go_on(rule);
    } else if rule.allow {
        ALL
    } else {
        0
    };
    match allowed {
        ALL => answer(YES).to_vec(),
        0 => answer(NO).to_vec(),
        some => {
            let refused = jump(SKIP_IF_SET, ASKED, i32::from(ALL & !some), 2);
            [&[refused], answer(YES).as_slice(), &answer(NO)].concat()
        }
    }
}

/// What may be done to the one device of a rule, after those before it.
fn granted(rule: &Rule, before: &[Rule]) -> u8 {
    let (mut granted, mut open) = (0, ALL);
    let others = before.iter().rev().filter(|other| other.covers(rule));
    for one in iter::once(rule).chain(others) {
        if one.allow {
            granted |= open & one.access;
        }
        open &= !one.access;
        if open == 0 {
            break;
        }
    }
    granted
}

/// A rule about part of what may be asked: the rest is for the rules before it.
fn go_on(rule: &Rule) -> Vec<BpfInstruction> {
    if rule.allow {
        let left = with(AND, ASKED, i32::from(ALL & !rule.access));
        let done = answer_unless(SKIP_IF_NOT, ASKED, 0, YES);
        return [&[left], done.as_slice()].concat();
    }
    // There is no jump for "not set": one over another.
    let refused = jump(SKIP_IF_SET, ASKED, i32::from(rule.access), 1);
    let on = jump(GO, 0, 0, 2);
    [&[refused, on], answer(NO).as_slice()].concat()
}

/// The conditions of a rule, each of which skips the rest.
fn when(rule: &Rule, mut code: Vec<BpfInstruction>) -> Vec<BpfInstruction> {
    let skip = |code: &[BpfInstruction]| i16::try_from(code.len()).unwrap_or(i16::MAX);
    // The last one first, so that it is known how much there is to skip.
    match (rule.major, rule.minor) {
        (None, None) => {}
        (Some(major), None) => code.insert(0, jump(SKIP_IF_NOT, MAJOR, major.cast_signed(), skip(&code))),
        (None, Some(minor)) => code.insert(0, jump(SKIP_IF_NOT, MINOR, minor.cast_signed(), skip(&code))),
        (Some(major), Some(minor)) => {
            let [low, high] = number(WANTED, major, minor);
            let unless = BpfInstruction {
                offset: skip(&code),
                ..from(SKIP_IF_OTHER, BOTH, WANTED)
            };
            code.splice(0..0, [low, high, unless]);
        }
    }
    if let Some(kind) = rule.kind {
        let kind = match kind {
            Kind::Block => 1,
            Kind::Character => 2,
        };
        code.insert(0, jump(SKIP_IF_NOT, KIND, kind, skip(&code)));
    }
    code
}

/// A number of 64 bits is an instruction of two.
fn number(target: u8, high: u32, low: u32) -> [BpfInstruction; 2] {
    let rest = with(0, 0, high.cast_signed());
    [with(MOVE_LONG, target, low.cast_signed()), rest]
}

/// An answer, skipped if the condition holds.
fn answer_unless(condition: u8, register: u8, value: i32, what: i32) -> [BpfInstruction; 3] {
    let [first, second] = answer(what);
    [jump(condition, register, value, 2), first, second]
}

fn answer(what: i32) -> [BpfInstruction; 2] {
    [with(MOVE, ANSWER, what), with(EXIT, 0, 0)]
}

fn load(target: u8, offset: i16) -> BpfInstruction {
    BpfInstruction {
        offset,
        ..from(LOAD, target, CONTEXT)
    }
}

fn jump(code: u8, target: u8, immediate: i32, offset: i16) -> BpfInstruction {
    BpfInstruction {
        offset,
        ..with(code, target, immediate)
    }
}

fn from(code: u8, target: u8, source: u8) -> BpfInstruction {
    BpfInstruction {
        source,
        ..with(code, target, 0)
    }
}

fn with(code: u8, target: u8, immediate: i32) -> BpfInstruction {
    BpfInstruction {
        code,
        target,
        source: 0,
        offset: 0,
        immediate,
    }
}

#[cfg(test)]
mod tests;
