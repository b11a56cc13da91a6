//! For tests: classic BPF run as the kernel runs it, and the meaning of a profile spelled out a second time.
//!
//! The evaluator shares nothing with the compiler but the tables of numbers, and is written from the description
//! at the head of `compile`: slow and obvious.

use crate::architecture::Architecture;
use crate::program::Instruction;
use crate::table::{self, Abi};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const AARCH64: u32 = 0xc000_00b7;
pub(crate) const ARM: u32 = 0x4000_0028;
pub(crate) const X32: u32 = 0x4000_0000;

pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;

pub(crate) const fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

/// `struct seccomp_data`, without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) nr: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    pub(crate) fn new(arch: u32, nr: u32, args: &[u64]) -> Self {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        Self { arch, nr, args: all }
    }

    fn word(&self, offset: u32) -> u32 {
        let mut bytes = [0; 64];
        bytes[0..4].copy_from_slice(&self.nr.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_le_bytes());
        for (chunk, arg) in bytes[16..].chunks_exact_mut(8).zip(self.args) {
            chunk.copy_from_slice(&arg.to_le_bytes());
        }
        let at = usize::try_from(offset).unwrap();
        assert_eq!(at % 4, 0, "the kernel refuses unaligned loads");
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }
}

/// Runs a program. Panics where the kernel would refuse it.
pub(crate) fn run(program: &[Instruction], call: &Call) -> u32 {
    assert!(
        (1..=4096).contains(&program.len()),
        "{} instructions",
        program.len()
    );
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            0x06 => return k,
            0x20 => {
                accumulator = call.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += usize::try_from(k).unwrap();
                continue;
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            other => panic!("operation {other:#x} is not one a filter may use"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// What the profile says about a call.
pub(crate) fn evaluate(seccomp: &LinuxSeccomp, native: Architecture, call: &Call) -> u32 {
    let Some((abi, nr)) = abi_of(seccomp, native, call) else {
        return KILL_PROCESS;
    };
    let default = encode(seccomp.default_action(), seccomp.default_errno_ret());
    let rules = rules_for(seccomp, abi, nr, default);
    if let Some((_, action)) = rules.iter().find(|(args, _)| args.is_empty()) {
        return *action;
    }
    if let Some((_, action)) = rules
        .iter()
        .find(|(args, _)| args.iter().all(|arg| matches(arg, abi, call)))
    {
        return *action;
    }
    if !rules.is_empty() {
        return default;
    }
    let private = |n: u32| (abi == Abi::X32 && n >= 512) || (abi == Abi::Arm && n >= 0xf_0000);
    let known = |n: u32| abi.syscalls().any(|(_, number)| number == n);
    let names = seccomp.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
    let largest = names
        .filter_map(|name| abi.number(name))
        .filter(|n| !private(*n))
        .max();
    let lenient = matches!(
        seccomp.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    match largest {
        Some(largest) if nr > largest && !lenient && !(private(nr) && known(nr)) => errno(38),
        _ => default,
    }
}

fn abi_of(seccomp: &LinuxSeccomp, native: Architecture, call: &Call) -> Option<(Abi, u32)> {
    let listed = |arch| {
        seccomp
            .architectures()
            .as_ref()
            .is_some_and(|list| list.contains(&arch))
    };
    let x32 = call.nr & X32 != 0 && call.nr != u32::MAX;
    match (native, call.arch) {
        (Architecture::X86_64, X86_64) if call.nr > u32::MAX / 2 && call.nr != u32::MAX => {
            // Above the x32 bit: no call at all, treated as x32's.
            listed(Arch::ScmpArchX32).then(|| (Abi::X32, call.nr - X32))
        }
        (Architecture::X86_64, X86_64) if x32 => listed(Arch::ScmpArchX32).then(|| (Abi::X32, call.nr - X32)),
        (Architecture::X86_64, X86_64) => Some((Abi::X86_64, call.nr)),
        (Architecture::X86_64, I386) => listed(Arch::ScmpArchX86).then_some((Abi::X86, call.nr)),
        (Architecture::Aarch64, AARCH64) => Some((Abi::Aarch64, call.nr)),
        (Architecture::Aarch64, ARM) => listed(Arch::ScmpArchArm).then_some((Abi::Arm, call.nr)),
        _ => None,
    }
}

/// The rules that are about this number, redundant ones left out.
fn rules_for(seccomp: &LinuxSeccomp, abi: Abi, nr: u32, default: u32) -> Vec<(Vec<LinuxSeccompArg>, u32)> {
    let mut rules = Vec::new();
    for syscall in seccomp.syscalls().iter().flatten() {
        let action = encode(syscall.action(), syscall.errno_ret());
        if action == default {
            continue;
        }
        for name in syscall.names() {
            let conditional = syscall.args().as_ref().is_some_and(|args| !args.is_empty());
            if let Some(through) = table::multiplexed(name)
                && abi == Abi::X86
                && (!conditional || rank(action) < rank(default))
                && abi.number(through.through) == Some(nr)
            {
                let selector: LinuxSeccompArg = serde_json::from_value(serde_json::json!({
                    "index": 0, "value": through.mask, "valueTwo": through.selector, "op": "SCMP_CMP_MASKED_EQ",
                }))
                .unwrap();
                rules.push((vec![selector], action));
            }
            if abi.number(name) != Some(nr) {
                continue;
            }
            let args = syscall.args().clone().unwrap_or_default();
            let repeated = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
            if repeated {
                rules.extend(args.into_iter().map(|arg| (vec![arg], action)));
            } else {
                rules.push((args, action));
            }
        }
    }
    rules
}

fn matches(arg: &LinuxSeccompArg, abi: Abi, call: &Call) -> bool {
    let width = if matches!(abi, Abi::X86 | Abi::Arm) {
        u64::from(u32::MAX)
    } else {
        u64::MAX
    };
    let (have, value) = (call.args[arg.index()] & width, arg.value() & width);
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => have == value,
        LinuxSeccompOperator::ScmpCmpNe => have != value,
        LinuxSeccompOperator::ScmpCmpLt => have < value,
        LinuxSeccompOperator::ScmpCmpLe => have <= value,
        LinuxSeccompOperator::ScmpCmpGt => have > value,
        LinuxSeccompOperator::ScmpCmpGe => have >= value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => have & value == arg.value_two().unwrap_or(0) & value,
    }
}

/// Position in seccomp(2)'s list of actions "in decreasing order of precedence".
fn rank(action: u32) -> usize {
    let order = [0x8000, 0x0000, 0x0003, 0x0005, 0x7fc0, 0x7ff0, 0x7ffc, 0x7fff];
    order.iter().position(|class| *class == action >> 16).unwrap()
}

fn encode(action: LinuxSeccompAction, data: Option<u32>) -> u32 {
    action.as_u32(data)
}
