use super::*;
use crate::architecture::Architecture;
use crate::compile::compile;
use crate::kernel::KernelVersion;
use crate::program::Program;
use crate::table::{self, Abi};
use crate::testing::*;
use oci_spec::runtime::Capabilities;
use std::collections::HashSet;

const KERNEL: KernelVersion = KernelVersion::new(6, 18);

fn program(architecture: Architecture, caps: &[Capability], kernel: KernelVersion) -> Program {
    let capabilities: Capabilities = caps.iter().copied().collect();
    let target = Target {
        architecture,
        capabilities: &capabilities,
        kernel,
    };
    compile(&default_profile(&target), architecture).unwrap()
}

/// Answers by name, on any ABI of the architecture.
fn ask(program: &Program, abi: Abi, name: &str, args: &[u64]) -> u32 {
    let base = if abi == Abi::X32 { X32 } else { 0 };
    let nr = base
        + abi
            .number(name)
            .unwrap_or_else(|| panic!("{name} is not a call of {abi:?}"));
    run(program.instructions(), &Call::new(abi.audit(), nr, args))
}

fn plain() -> Program {
    program(Architecture::X86_64, &[], KERNEL)
}

#[test]
fn ordinary_calls_are_allowed_on_every_abi() {
    let (x86, arm) = (plain(), program(Architecture::Aarch64, &[], KERNEL));
    for name in [
        "read",
        "execve",
        "openat",
        "futex",
        "mkdirat",
        "statx",
        "getrandom",
        "mseal",
        "futex_waitv",
    ] {
        for (program, abi) in [
            (&x86, Abi::X86_64),
            (&x86, Abi::X86),
            (&x86, Abi::X32),
            (&arm, Abi::Aarch64),
            (&arm, Abi::Arm),
        ] {
            assert_eq!(ask(program, abi, name, &[]), ALLOW, "{name} on {abi:?}");
        }
    }
    assert_eq!(ask(&x86, Abi::X86, "socketcall", &[1]), ALLOW);
    assert_eq!(ask(&x86, Abi::X86, "clock_gettime64", &[]), ALLOW);
    assert_eq!(ask(&x86, Abi::X86_64, "uprobe", &[]), ALLOW);
    assert_eq!(ask(&x86, Abi::X86_64, "arch_prctl", &[]), ALLOW);
    assert_eq!(ask(&x86, Abi::X32, "ioctl", &[]), ALLOW);
    assert_eq!(ask(&arm, Abi::Arm, "cacheflush", &[]), ALLOW);
}

#[test]
fn dangerous_calls_are_refused() {
    let (x86, arm) = (plain(), program(Architecture::Aarch64, &[], KERNEL));
    for name in [
        "mount",
        "umount2",
        "setns",
        "unshare",
        "bpf",
        "keyctl",
        "add_key",
        "request_key",
        "io_uring_setup",
        "io_uring_enter",
        "userfaultfd",
        "perf_event_open",
        "kexec_load",
        "init_module",
        "reboot",
        "swapon",
        "fsopen",
        "pivot_root",
        "open_by_handle_at",
        "chroot",
        "acct",
        "settimeofday",
        "kcmp",
        "syslog",
        "quotactl",
        "move_pages",
        "open_tree_attr",
        "vhangup",
    ] {
        assert_eq!(ask(&x86, Abi::X86_64, name, &[]), errno(1), "{name}");
        assert_eq!(ask(&x86, Abi::X32, name, &[]), errno(1), "{name}");
        assert_eq!(ask(&arm, Abi::Aarch64, name, &[]), errno(1), "{name}");
    }
}

#[test]
fn capabilities_bring_their_calls() {
    for (capability, names) in [
        (
            Capability::SysAdmin,
            &[
                "mount",
                "setns",
                "unshare",
                "bpf",
                "fsopen",
                "clone3",
                "statmount",
            ][..],
        ),
        (Capability::SysPtrace, &["kcmp", "pidfd_getfd", "process_madvise"]),
        (Capability::SysChroot, &["chroot"]),
        (
            Capability::SysModule,
            &["init_module", "finit_module", "delete_module"],
        ),
        (Capability::SysTime, &["settimeofday", "clock_settime"]),
        (Capability::SysPacct, &["acct"]),
        (Capability::SysRawio, &["ioperm", "iopl"]),
        (Capability::DacReadSearch, &["open_by_handle_at"]),
        (Capability::Syslog, &["syslog"]),
        (Capability::Perfmon, &["perf_event_open"]),
        (Capability::Bpf, &["bpf"]),
        (Capability::SysBoot, &["reboot"]),
        (Capability::SysNice, &["mbind", "set_mempolicy_home_node"]),
        (Capability::SysTtyConfig, &["vhangup"]),
    ] {
        let with = program(Architecture::X86_64, &[capability], KERNEL);
        for name in names {
            assert_eq!(
                ask(&with, Abi::X86_64, name, &[]),
                ALLOW,
                "{name} with {capability:?}"
            );
            assert_ne!(
                ask(&plain(), Abi::X86_64, name, &[]),
                ALLOW,
                "{name} without {capability:?}"
            );
        }
    }
}

#[test]
fn clone_makes_no_namespaces_without_sys_admin() {
    let (without, with) = (
        plain(),
        program(Architecture::X86_64, &[Capability::SysAdmin], KERNEL),
    );
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        // What a C library passes for a thread, and for a fork.
        for flags in [0x003d_0f00, 0x0120_0011] {
            assert_eq!(ask(&without, abi, "clone", &[flags]), ALLOW);
        }
        for bit in [
            0x2_0000,
            0x0200_0000,
            0x0400_0000,
            0x0800_0000,
            0x1000_0000,
            0x2000_0000,
            0x4000_0000,
        ] {
            assert_eq!(
                ask(&without, abi, "clone", &[bit | 0x11]),
                errno(1),
                "{bit:#x} on {abi:?}"
            );
            assert_eq!(ask(&with, abi, "clone", &[bit | 0x11]), ALLOW);
        }
        assert_eq!(ask(&without, abi, "clone3", &[]), errno(38));
        assert_eq!(ask(&with, abi, "clone3", &[]), ALLOW);
    }
}

#[test]
fn socket_families_are_judged_by_the_word_the_kernel_reads() {
    let program = plain();
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        for family in 0..64_u64 {
            let expected = if family == 38 || family == 40 {
                errno(1)
            } else {
                ALLOW
            };
            assert_eq!(
                ask(&program, abi, "socket", &[family, 1]),
                expected,
                "{family} on {abi:?}"
            );
            let above = family | 0x1_0000_0000;
            assert_eq!(
                ask(&program, abi, "socket", &[above, 1]),
                expected,
                "{above:#x} on {abi:?}"
            );
        }
    }
}

#[test]
fn personality_takes_five_values() {
    let program = plain();
    for (value, expected) in [
        (0, ALLOW),
        (8, ALLOW),
        (0x2_0000, ALLOW),
        (0x2_0008, ALLOW),
        (0xffff_ffff, ALLOW),
        (0x4_0000, errno(1)),
        (1, errno(1)),
        (0x1_0000_0000, errno(1)),
    ] {
        assert_eq!(
            ask(&program, Abi::X86_64, "personality", &[value]),
            expected,
            "{value:#x}"
        );
    }
}

#[test]
fn ptrace_needs_a_kernel_that_filters_after_the_tracer() {
    let old = program(Architecture::X86_64, &[], KernelVersion::new(4, 7));
    assert_eq!(ask(&old, Abi::X86_64, "ptrace", &[]), errno(1));
    assert_eq!(ask(&plain(), Abi::X86_64, "ptrace", &[]), ALLOW);
    let with = program(
        Architecture::X86_64,
        &[Capability::SysPtrace],
        KernelVersion::new(4, 7),
    );
    assert_eq!(ask(&with, Abi::X86_64, "ptrace", &[]), ALLOW);
}

#[test]
fn newer_calls_do_not_exist() {
    let (x86, arm) = (plain(), program(Architecture::Aarch64, &[], KERNEL));
    for (program, arch, base) in [
        (&x86, X86_64, 0),
        (&x86, X86_64, X32),
        (&x86, I386, 0),
        (&arm, AARCH64, 0),
        (&arm, ARM, 0),
    ] {
        assert_eq!(
            run(program.instructions(), &Call::new(arch, base + 469, &[])),
            ALLOW
        );
        for nr in [470, 500, 100_000] {
            let answer = run(program.instructions(), &Call::new(arch, base + nr, &[]));
            assert_eq!(answer, errno(38), "{nr} on {arch:#x}");
        }
    }
    assert_eq!(
        run(x86.instructions(), &Call::new(AARCH64, 63, &[])),
        KILL_PROCESS
    );
    for name in ["statmount", "listmount"] {
        assert_eq!(ask(&x86, Abi::X86_64, name, &[]), errno(38));
    }
}

#[test]
fn every_name_is_a_system_call_and_stands_in_a_group_once() {
    let all: Vec<Capability> = GROUPS
        .iter()
        .filter_map(|group| {
            if let When::With(capability) = group.when {
                Some(capability)
            } else {
                None
            }
        })
        .collect();
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        assert_eq!(program(architecture, &all, KERNEL).unknown_syscalls(), [""; 0]);
        assert_eq!(program(architecture, &[], KERNEL).unknown_syscalls(), [""; 0]);
    }
    let mut always = HashSet::new();
    for name in GROUPS
        .iter()
        .filter(|group| matches!(group.when, When::Always))
        .flat_map(|group| group.names)
    {
        assert!(always.insert(*name), "{name} stands twice");
    }
    let others = GROUPS
        .iter()
        .filter(|group| !matches!(group.when, When::Always))
        .flat_map(|group| group.names);
    for name in others {
        assert!(!always.contains(name), "{name} is allowed to everybody already");
        assert!(table::numbers(name).is_some(), "{name}");
    }
}

#[test]
fn the_program_agrees_with_the_profile_on_every_number() {
    for caps in [&[][..], &[Capability::SysAdmin, Capability::SysTime]] {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            let capabilities: Capabilities = caps.iter().copied().collect();
            let profile = default_profile(&Target {
                architecture,
                capabilities: &capabilities,
                kernel: KERNEL,
            });
            let program = compile(&profile, architecture).unwrap();
            for arch in [X86_64, I386, AARCH64, ARM] {
                for nr in (0..600).chain(X32..X32 + 600).chain(0xf_0000..0xf_0008) {
                    let call = Call::new(arch, nr, &[1]);
                    let expected = evaluate(&profile, architecture, &call);
                    assert_eq!(run(program.instructions(), &call), expected, "{call:?}");
                }
            }
        }
    }
}

/// A tenth of the kernel's limit: every container has one, and the kernel keeps two copies.
#[test]
fn the_program_is_short() {
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let length = program(architecture, &[], KERNEL).instructions().len();
        assert!(length < 500, "{length} instructions on {architecture:?}");
    }
}
