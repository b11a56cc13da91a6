//! RuntimeDefault: the system calls of a container without a profile of its own.
//!
//! An allow list with EPERM for the rest. A container that ran under containerd's or Docker's default profile
//! runs under this one: the set of calls follows what those allow (moby `profiles/seccomp`, containerd
//! `contrib/seccomp`, both as of 2026), arranged here by subject. A call is **not** in it when it is not namespaced (clocks, modules, keyrings, swap, reboot), opens
//! a large and often attacked interface (io_uring, bpf, userfaultfd, perf), or makes new namespaces and mounts.
//! Calls which the kernel guards with a capability come with that capability, because the filter has nothing
//! to add then; capabilities(7) says which.
//!
//! Where it is stricter or more exact than those profiles:
//! * `socket`: AF_VSOCK (reaches the hypervisor past the network namespace) and AF_ALG (the kernel's crypto API,
//!   a repeated source of privilege escalation) are refused, judged by the 32 bits that the kernel looks at.
//!   On 32-bit x86 the multiplexed `socketcall` cannot be filtered that way and stays allowed.
//! * `statmount` and `listmount` answer ENOSYS without CAP_SYS_ADMIN: programs then read
//!   `/proc/self/mountinfo`, where masked and hidden paths are the container's own business.
//!
//! Calls up to Linux 6.18 are considered. Newer ones get ENOSYS (see [`crate::compile()`]).

mod groups;

use crate::architecture::Target;
use groups::{Allow, GROUPS, When};
use oci_spec::runtime::{
    Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`, of clone(2). NEWTIME is not among
/// them: clone(2) reads that bit as part of the exit signal.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Address families of socket(2) but for AF_ALG (38) and AF_VSOCK (40), as (mask, value) that together cover
/// 0 to 63. There are 46 families. Only the low word counts, as for the kernel: with SCMP_CMP_NE a program
/// could set a bit above it and have AF_VSOCK all the same.
const SOCKET_FAMILIES: [(u64, u64); 8] = [
    (0xffff_ffe0, 0),
    (0xffff_fffc, 32),
    (0xffff_fffe, 36),
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42),
    (0xffff_fffc, 44),
    (0xffff_fff0, 48),
];

/// Execution domains of personality(2): Linux, Linux on 32 bits, each with UNAME26, and the question
/// which one it is. The others turn protections off, ADDR_NO_RANDOMIZE among them.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The profile for containers that ask for `RuntimeDefault`.
pub fn default_profile(target: &Target<'_>) -> LinuxSeccomp {
    let applying = GROUPS.iter().filter(|group| applies(group, target));
    let mut syscalls: Vec<LinuxSyscall> = applying
        .map(|group| rule(group.names, LinuxSeccompAction::ScmpActAllow, None))
        .collect();

    for (mask, family) in SOCKET_FAMILIES {
        syscalls.push(with_first_masked(&["socket"], mask, family));
    }
    for persona in PERSONALITIES {
        syscalls.push(with_first(
            &["personality"],
            LinuxSeccompOperator::ScmpCmpEq,
            persona,
            0,
        ));
    }
    if !target.capabilities.contains(&Capability::SysAdmin) {
        syscalls.push(with_first_masked(&["clone"], CLONE_NAMESPACES, 0));
        // clone3 has its flags behind a pointer. ENOSYS makes C libraries use clone.
        let unseen = &["clone3", "listmount", "statmount"];
        syscalls.push(rule(unseen, LinuxSeccompAction::ScmpActErrno, Some(ENOSYS)));
    }

    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(target.architecture.abis()))
        .set_syscalls(Some(syscalls));
    seccomp
}

fn applies(group: &Allow, target: &Target<'_>) -> bool {
    match group.when {
        When::Always => true,
        When::On(architecture) => target.architecture == architecture,
        When::Since(kernel) => target.kernel >= kernel,
        When::With(capability) => target.capabilities.contains(&capability),
    }
}

fn rule(names: &[&str], action: LinuxSeccompAction, errno: Option<u32>) -> LinuxSyscall {
    let mut syscall = LinuxSyscall::default();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    syscall.set_names(names).set_action(action).set_errno_ret(errno);
    syscall
}

/// A rule on the first argument.
fn with_first(names: &[&str], op: LinuxSeccompOperator, value: u64, value_two: u64) -> LinuxSyscall {
    let arg = LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .value(value)
        .value_two(value_two)
        .op(op);
    let mut syscall = rule(names, LinuxSeccompAction::ScmpActAllow, None);
    syscall.set_args(Some(vec![
        arg.build().expect("every field of the builder has a default"),
    ]));
    syscall
}

fn with_first_masked(names: &[&str], mask: u64, value: u64) -> LinuxSyscall {
    with_first(names, LinuxSeccompOperator::ScmpCmpMaskedEq, mask, value)
}

#[cfg(test)]
mod tests;
