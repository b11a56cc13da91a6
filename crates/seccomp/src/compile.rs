//! The OCI form compiled to classic BPF.
//!
//! ```text
//! load arch ─▶ native? ─▶ load nr ─▶ binary search over ranges ─▶ return
//!      │                                                      └─▶ conditions on arguments ─▶ return
//!      ├─▶ 32-bit? ─▶ load nr ─▶ …
//!      └─▶ any other: kill the process
//! ```
//!
//! Neighbouring numbers with the same verdict are one range, so the search takes some eight tests whatever
//! the profile's length. Only architecture and number decide where no argument does; the kernel (5.11 and
//! later) finds that out itself and answers such calls from a bitmap without running the filter.
//!
//! # Meaning
//! The meaning is that of runc with libseccomp, which is what profiles in the field were tried on:
//! * A rule whose action is the default action is dropped before anything else.
//! * The first rule without conditions for a system call decides alone, whatever conditions others have.
//! * Otherwise rules are tried in order and the first match decides; without one, the default action.
//! * Conditions of a rule must all hold, unless two are on the same argument: then each is a rule by itself.
//! * Names that no architecture has are ignored and reported by [`Program::unknown_syscalls`].
//! * A number above the largest one the profile names for its ABI is a system call that the author of the
//!   profile did not know. It gets `ENOSYS`, so that a C library falls back to older calls, unless
//!   the default action lets calls through (ALLOW, LOG, TRACE).
//! * The native architecture is always part of the filter. Others in the list count where this kernel can run
//!   them (x86 and x32 beside x86_64, arm beside aarch64). A call through any ABI that is not listed, x32
//!   included, kills the process: the same number means something else there.
//! * On 32-bit ABIs only the low half of arguments and of the values they are compared with counts. x32
//!   passes 64-bit registers and is compared in full.
//! * On 32-bit x86 a rule for, say, `socket` also covers `socketcall(SYS_SOCKET)`; `ipc` likewise. A filter
//!   cannot see behind the pointer, so a rule with conditions counts there without them, and only if it is
//!   stricter than the default action. (libseccomp would let such calls through as well.)
//!
//! Checked against libseccomp 2.5.4 over random profiles: the same but for x32, for the multiplexed calls as
//! said, and where several rules with several conditions each meet on one call. There libseccomp merges them
//! into one tree and may miss a rule that matches.
//!
//! Must never return a program that the kernel refuses, or allow a call that the profile does not allow.

mod assembler;
mod conditions;
mod ranges;
mod rules;

use crate::architecture::Architecture;
use crate::error::Error;
use crate::program::{MAX_INSTRUCTIONS, Program};
use crate::table::Abi;
use assembler::{Assembler, Label, SECCOMP_DATA_ARCH, SECCOMP_DATA_NR};
use conditions::Conditions;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompFilterFlag};
use ranges::{Range, Ranges, Verdict};
use rules::{Rules, SECCOMP_RET_KILL_PROCESS};

const SECCOMP_FILTER_FLAG_LOG: u32 = 1 << 1;
const SECCOMP_FILTER_FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// Compiles `seccomp` for a node of the architecture `native`.
///
/// The meaning of rules and of gaps in the profile is that of runc; the head of this module has the details.
///
/// # Errors
/// When the profile uses SCMP_ACT_NOTIFY, has an argument index above 5 or a return value out of range, or
/// compiles to more than [`MAX_INSTRUCTIONS`].
pub fn compile(seccomp: &LinuxSeccomp, native: Architecture) -> Result<Program, Error> {
    let rules = Rules::new(seccomp)?;
    let mut unknown_syscalls: Vec<String> = rules.unknown.iter().map(|name| (*name).to_owned()).collect();
    unknown_syscalls.sort_unstable();
    unknown_syscalls.dedup();

    let mut asm = Assembler::default();
    let mut conditions = Conditions::default();
    // The assembler works backwards, so the first test comes last.
    let mut blocks = Vec::new();
    for (abi, with_x32) in blocks_of(seccomp, native).into_iter().rev() {
        let ranges = Ranges::new(&rules, abi, with_x32, &mut conditions);
        let tree = search(
            &mut asm,
            &mut conditions,
            &rules,
            ranges.as_slice(),
            abi.is_narrow(),
        );
        blocks.push((abi, load(&mut asm, SECCOMP_DATA_NR, tree)));
    }
    let mut other = asm.ret(SECCOMP_RET_KILL_PROCESS);
    for (abi, entry) in blocks {
        other = asm.branch(assembler::JEQ, abi.audit(), entry, other);
    }
    load(&mut asm, SECCOMP_DATA_ARCH, other);

    let instructions = asm.finish();
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::ProgramTooLong {
            instructions: instructions.len(),
            limit: MAX_INSTRUCTIONS,
        });
    }
    Ok(Program {
        instructions,
        flags: flags(seccomp),
        unknown_syscalls,
    })
}

/// The architectures to make a block for, native first, and whether x32 belongs to it.
fn blocks_of(seccomp: &LinuxSeccomp, native: Architecture) -> Vec<(Abi, bool)> {
    let listed = |arch| {
        seccomp
            .architectures()
            .as_ref()
            .is_some_and(|list| list.contains(&arch))
    };
    match native {
        Architecture::X86_64 => {
            let mut blocks = vec![(Abi::X86_64, listed(Arch::ScmpArchX32))];
            blocks.extend(listed(Arch::ScmpArchX86).then_some((Abi::X86, false)));
            blocks
        }
        Architecture::Aarch64 => {
            let mut blocks = vec![(Abi::Aarch64, false)];
            blocks.extend(listed(Arch::ScmpArchArm).then_some((Abi::Arm, false)));
            blocks
        }
    }
}

/// `SECCOMP_FILTER_FLAG_*` of the profile.
///
/// No list at all means SPEC_ALLOW, as under runc: the mitigation costs much and protects from little here.
/// TSYNC is dropped because a filter is installed by a process with one thread, WAIT_KILLABLE_RECV because the
/// kernel takes it only together with a listener.
fn flags(seccomp: &LinuxSeccomp) -> u32 {
    let Some(flags) = seccomp.flags() else {
        return SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    };
    flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync
            | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        }
    })
}

/// A load in front of `next`, which must be the instruction assembled last or is jumped to.
fn load(asm: &mut Assembler, offset: u32, next: Label) -> Label {
    asm.follow_with(next);
    asm.load(offset)
}

/// The binary search for the range that holds the number in the accumulator.
fn search(
    asm: &mut Assembler,
    conditions: &mut Conditions,
    rules: &Rules<'_>,
    ranges: &[Range],
    narrow: bool,
) -> Label {
    match ranges {
        [] => asm.ret(SECCOMP_RET_KILL_PROCESS),
        [range] => verdict(asm, conditions, rules, range.verdict, narrow),
        // A single number inside a range is one test for equality instead of two for order.
        [before, single, after] if before.verdict == after.verdict && after.start - single.start == 1 => {
            let otherwise = verdict(asm, conditions, rules, before.verdict, narrow);
            let equal = verdict(asm, conditions, rules, single.verdict, narrow);
            asm.branch(assembler::JEQ, single.start, equal, otherwise)
        }
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let pivot = high.first().map_or(0, |range| range.start);
            let above = search(asm, conditions, rules, high, narrow);
            let below = search(asm, conditions, rules, low, narrow);
            asm.branch(assembler::JGE, pivot, above, below)
        }
    }
}

fn verdict(
    asm: &mut Assembler,
    conditions: &mut Conditions,
    rules: &Rules<'_>,
    verdict: Verdict,
    narrow: bool,
) -> Label {
    match verdict {
        Verdict::Return(value) => asm.ret(value),
        Verdict::Chain(chain) => conditions.assemble(asm, rules, chain, narrow),
    }
}

#[cfg(test)]
mod tests;
