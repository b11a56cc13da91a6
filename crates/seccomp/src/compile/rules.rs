//! The profile's rules, checked and in the kernel's numbers, before anything is assembled.
//!
//! Invariant: no rule here has the default action, every argument index is below 6, every action is one that
//! a filter can return.

use crate::error::{Error, Place};
use crate::table::{self, Multiplexed, Numbers};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The kernel's `MAX_ERRNO`; it silently turns anything larger into this.
const MAX_ERRNO: u32 = 4095;
/// `SECCOMP_RET_DATA`, the data for a tracer.
const MAX_DATA: u32 = 0xffff;
const ARGUMENTS: usize = 6;

pub(super) const SECCOMP_RET_KILL_PROCESS: u32 = 0x8000_0000;
const SECCOMP_RET_KILL_THREAD: u32 = 0;
const SECCOMP_RET_ACTION_FULL: u32 = 0xffff_0000;
const SECCOMP_RET_TRAP: u32 = 0x0003_0000;
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
const SECCOMP_RET_TRACE: u32 = 0x7ff0_0000;
const SECCOMP_RET_LOG: u32 = 0x7ffc_0000;
const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;

/// One condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Below 6.
    pub(super) argument: u32,
    pub(super) test: Test,
}

/// A comparison as BPF can do it: the other four are these with the answers swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal { mask: u64, value: u64, expect: bool },
    GreaterOrEqual { value: u64, expect: bool },
    Greater { value: u64, expect: bool },
}

/// Conditions that must all hold, and the action if they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// One entry of the profile's `syscalls`.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Of each name that some ABI has.
    pub(super) numbers: Vec<Numbers>,
    /// Empty if they would be redundant.
    pub(super) rules: Vec<usize>,
    /// The rules for socketcall(2) and ipc(2) of 32-bit x86, with the name of the call.
    pub(super) multiplexed: Vec<(&'static str, usize)>,
}

/// The rules of a profile. Rules have numbers, so that system calls with the same rules share their code.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) default: u32,
    /// The action for system calls newer than the profile.
    pub(super) newer: u32,
    pub(super) entries: Vec<Entry>,
    /// Names that no ABI has.
    pub(super) unknown: Vec<&'a str>,
    all: Vec<Rule>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(seccomp: &'a LinuxSeccomp) -> Result<Self, Error> {
        let default = action(seccomp.default_action(), seccomp.default_errno_ret(), || {
            Place::DefaultAction
        })?;
        let permissive = matches!(
            seccomp.default_action(),
            LinuxSeccompAction::ScmpActAllow
                | LinuxSeccompAction::ScmpActLog
                | LinuxSeccompAction::ScmpActTrace
        );
        let newer = if permissive {
            default
        } else {
            SECCOMP_RET_ERRNO | ENOSYS
        };
        let mut rules = Self {
            default,
            newer,
            entries: Vec::new(),
            unknown: Vec::new(),
            all: Vec::new(),
        };
        for (index, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
            rules.add(index, syscall)?;
        }
        Ok(rules)
    }

    pub(super) fn get(&self, rule: usize) -> Option<&Rule> {
        self.all.get(rule)
    }

    fn push(&mut self, conditions: Vec<Condition>, action: u32) -> usize {
        self.all.push(Rule { conditions, action });
        self.all.len() - 1
    }

    fn add(&mut self, index: usize, syscall: &'a LinuxSyscall) -> Result<(), Error> {
        let place = || {
            let name = syscall.names().first().map_or("", String::as_str);
            Place::Rule {
                index,
                name: name.chars().take(64).collect(),
            }
        };
        let action = action(syscall.action(), syscall.errno_ret(), place)?;
        let arguments = syscall.args().as_deref().unwrap_or_default();
        let conditions = arguments
            .iter()
            .map(|arg| condition(arg, place))
            .collect::<Result<Vec<_>, _>>()?;
        let mut entry = Entry::default();
        for name in syscall.names() {
            match table::numbers(name) {
                Some(numbers) => entry.numbers.push(numbers),
                None => self.unknown.push(name),
            }
        }
        // A rule with the default action is redundant, whatever its conditions: see the head of `compile`.
        if action != self.default {
            // Without its conditions a rule may only make things stricter.
            if conditions.is_empty() || strictness(action) < strictness(self.default) {
                entry.multiplexed = self.multiplexed(syscall.names(), action);
            }
            if has_repeated_argument(&conditions) {
                entry.rules = conditions
                    .into_iter()
                    .map(|one| self.push(vec![one], action))
                    .collect();
            } else {
                entry.rules.push(self.push(conditions, action));
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    fn multiplexed(&mut self, names: &[String], action: u32) -> Vec<(&'static str, usize)> {
        let calls = names.iter().filter_map(|name| table::multiplexed(name));
        let rule = |call: Multiplexed| {
            let test = Test::Equal {
                mask: u64::from(call.mask),
                value: u64::from(call.selector),
                expect: true,
            };
            (
                call.through,
                self.push(vec![Condition { argument: 0, test }], action),
            )
        };
        calls.map(rule).collect()
    }
}

/// Actions in the kernel's order of precedence, strictest first: as signed numbers, without their data.
fn strictness(action: u32) -> i32 {
    (action & SECCOMP_RET_ACTION_FULL).cast_signed()
}

fn has_repeated_argument(conditions: &[Condition]) -> bool {
    let mut seen = 0_u8;
    conditions.iter().any(|condition| {
        let bit = 1 << condition.argument;
        let repeated = seen & bit != 0;
        seen |= bit;
        repeated
    })
}

fn condition(arg: &LinuxSeccompArg, place: impl Fn() -> Place) -> Result<Condition, Error> {
    let argument = u32::try_from(arg.index())
        .ok()
        .filter(|_| arg.index() < ARGUMENTS);
    let Some(argument) = argument else {
        return Err(Error::ArgumentIndex {
            place: place(),
            index: arg.index(),
        });
    };
    let value = arg.value();
    let test = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => Test::Equal {
            mask: u64::MAX,
            value,
            expect: true,
        },
        LinuxSeccompOperator::ScmpCmpNe => Test::Equal {
            mask: u64::MAX,
            value,
            expect: false,
        },
        LinuxSeccompOperator::ScmpCmpGe => Test::GreaterOrEqual { value, expect: true },
        LinuxSeccompOperator::ScmpCmpLt => Test::GreaterOrEqual { value, expect: false },
        LinuxSeccompOperator::ScmpCmpGt => Test::Greater { value, expect: true },
        LinuxSeccompOperator::ScmpCmpLe => Test::Greater { value, expect: false },
        // Here `value` is the mask, which also applies to the second value.
        LinuxSeccompOperator::ScmpCmpMaskedEq => Test::Equal {
            mask: value,
            value: arg.value_two().unwrap_or(0) & value,
            expect: true,
        },
    };
    Ok(Condition { argument, test })
}

/// `SECCOMP_RET_*` with its data.
fn action(action: LinuxSeccompAction, data: Option<u32>, place: impl Fn() -> Place) -> Result<u32, Error> {
    let with_data = |base: u32, limit: u32| {
        let value = data.unwrap_or(EPERM);
        if value > limit {
            return Err(Error::ReturnValue {
                place: place(),
                value,
                limit,
            });
        }
        Ok(base | value)
    };
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            Ok(SECCOMP_RET_KILL_THREAD)
        }
        LinuxSeccompAction::ScmpActKillProcess => Ok(SECCOMP_RET_KILL_PROCESS),
        LinuxSeccompAction::ScmpActTrap => Ok(SECCOMP_RET_TRAP),
        LinuxSeccompAction::ScmpActErrno => with_data(SECCOMP_RET_ERRNO, MAX_ERRNO),
        LinuxSeccompAction::ScmpActTrace => with_data(SECCOMP_RET_TRACE, MAX_DATA),
        LinuxSeccompAction::ScmpActLog => Ok(SECCOMP_RET_LOG),
        LinuxSeccompAction::ScmpActAllow => Ok(SECCOMP_RET_ALLOW),
        LinuxSeccompAction::ScmpActNotify => Err(Error::NotifyUnsupported { place: place() }),
    }
}
