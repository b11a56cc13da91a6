//! A filter that keeps files in their project.
//!
//! The kernel lets the owner of a file give it another project, or take PROJINHERIT off a directory, unless he is in a user
//! namespace. A limit for a project then only holds for those who keep to it.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

use crate::architecture::Architecture;

/// What a file system without these attributes says, so that programs go on without them.
const EOPNOTSUPP: u32 = 95;
const EPERM: u32 = 1;
/// FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS and FS_IOC32_SETFLAGS. The kernel looks at 32 bits of the command.
const COMMANDS: [u64; 3] = [0x401c_5820, 0x4008_6602, 0x4004_6602];
const WORD: u64 = 0xffff_ffff;
/// file_setattr(2), Linux 6.17.
const FILE_SETATTR: &str = "file_setattr";
const IOCTL: &str = "ioctl";

/// The filter `seccomp`, or one that allows everything, which in addition denies the calls that change the project of a
/// file or whether it is inherited. What it denied before, it denies as before.
pub fn keep_projects(seccomp: Option<LinuxSeccomp>, native: Architecture) -> LinuxSeccomp {
    let mut seccomp = seccomp.unwrap_or_else(|| {
        let mut open = LinuxSeccomp::default();
        open.set_default_action(LinuxSeccompAction::ScmpActAllow)
            .set_architectures(Some(native.abis()));
        open
    });
    // A rule that says the same as the default is none.
    let errno = match seccomp.default_errno_ret() {
        Some(EOPNOTSUPP) => EPERM,
        _ => EOPNOTSUPP,
    };
    let deny = |name: &str, condition: Option<LinuxSeccompArg>| {
        let mut rule = LinuxSyscall::default();
        rule.set_names(vec![name.to_owned()])
            .set_action(LinuxSeccompAction::ScmpActErrno)
            .set_errno_ret(Some(errno))
            .set_args(condition.map(|condition| vec![condition]));
        rule
    };
    let mut rules = vec![deny(FILE_SETATTR, None)];
    rules.extend(
        COMMANDS
            .iter()
            .map(|command| deny(IOCTL, Some(masked(WORD, *command)))),
    );
    for mut rule in seccomp.syscalls().clone().unwrap_or_default() {
        let unconditional = rule.args().as_ref().is_none_or(Vec::is_empty);
        if unconditional && rule.names().iter().any(|name| name == IOCTL) {
            // A rule without conditions would decide alone.
            let mut rest = rule.names().clone();
            rest.retain(|name| name != IOCTL);
            let mut own = rule.clone();
            own.set_names(vec![IOCTL.to_owned()])
                .set_args(Some(vec![masked(0, 0)]));
            rules.push(own);
            rule.set_names(rest);
        }
        if !rule.names().is_empty() {
            rules.push(rule);
        }
    }
    seccomp.set_syscalls(Some(rules));
    seccomp
}

/// A condition on the second argument.
fn masked(mask: u64, value: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(1_usize)
        .value(mask)
        .value_two(value)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
        .expect("every field of the builder has a default")
}

#[cfg(test)]
mod tests;
