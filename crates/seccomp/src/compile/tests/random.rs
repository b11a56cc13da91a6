//! Random profiles and calls: the program against the evaluator.

use super::*;
use proptest::prelude::*;

/// Names with every kind of number: common, per ABI, multiplexed, private, unknown.
const NAMES: [&str; 24] = [
    "read",
    "write",
    "open",
    "ioctl",
    "ptrace",
    "clone",
    "clone3",
    "socket",
    "connect",
    "recv",
    "socketcall",
    "ipc",
    "semop",
    "shmat",
    "personality",
    "cacheflush",
    "set_tls",
    "waitid",
    "openat2",
    "mseal",
    "file_setattr",
    "getuid",
    "clock_gettime64",
    "no_such_call",
];

const VALUES: [u64; 14] = [
    0,
    1,
    3,
    21,
    40,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (prop::sample::select(&VALUES[..]), -1_i64..=1).prop_map(|(v, by)| v.wrapping_add_signed(by)),
        1 => any::<u64>(),
    ]
}

fn actions() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    let names = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_LOG",
    ];
    (prop::sample::select(names.to_vec()), prop::option::of(1_u32..40))
}

fn args() -> impl Strategy<Value = Value> {
    let ops = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
    let arg = (
        0..6_u32,
        values(),
        prop::option::of(values()),
        prop::sample::select(ops.to_vec()),
    );
    let arg = arg.prop_map(|(index, value, two, op)| {
        json!({ "index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{op}") })
    });
    prop::collection::vec(arg, 0..4).prop_map(Value::from)
}

fn profiles() -> impl Strategy<Value = LinuxSeccomp> {
    let rule = (prop::sample::subsequence(&NAMES[..], 1..4), actions(), args());
    let rule = rule.prop_map(|(names, (action, errno), args)| {
        json!({ "names": names, "action": action, "errnoRet": errno, "args": args })
    });
    let arches = ["X86_64", "X86", "X32", "AARCH64", "ARM", "S390X"].map(|arch| format!("SCMP_ARCH_{arch}"));
    let arches = prop::option::of(prop::sample::subsequence(arches.to_vec(), 0..=6));
    (actions(), arches, prop::collection::vec(rule, 0..30)).prop_map(|((action, errno), arches, rules)| {
        seccomp(json!({
            "defaultAction": action, "defaultErrnoRet": errno, "architectures": arches, "syscalls": rules,
        }))
    })
}

/// Numbers that are, or are next to, one that some ABI gives to a name.
fn numbers() -> impl Strategy<Value = u32> {
    let named: Vec<u32> = Abi::ALL
        .iter()
        .flat_map(|abi| NAMES.iter().filter_map(|name| abi.number(name)))
        .collect();
    let near = (prop::sample::select(named), -1_i32..=1).prop_map(|(n, by)| n.wrapping_add_signed(by));
    let edges = vec![
        0,
        469,
        470,
        511,
        512,
        548,
        0xf_0000,
        X32 - 1,
        X32,
        i32::MAX.unsigned_abs(),
        u32::MAX - 1,
        u32::MAX,
    ];
    let plain = prop_oneof![6 => near, 1 => prop::sample::select(edges), 1 => any::<u32>()];
    (plain, prop::bool::weighted(0.25)).prop_map(|(n, x32)| if x32 { n | X32 } else { n })
}

fn calls() -> impl Strategy<Value = Call> {
    let arch = prop::sample::select(vec![X86_64, X86_64, I386, AARCH64, ARM, 0x8000_0016]);
    (arch, numbers(), prop::array::uniform6(values())).prop_map(|(arch, nr, args)| Call { arch, nr, args })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_program_says_what_the_profile_says(
        profile in profiles(),
        calls in prop::collection::vec(calls(), 200),
    ) {
        for native in [Architecture::X86_64, Architecture::Aarch64] {
            let program = compile(&profile, native).unwrap();
            for call in &calls {
                let expected = evaluate(&profile, native, call);
                prop_assert_eq!(run(program.instructions(), call), expected, "{:?} {:?}", native, call);
            }
        }
    }

    /// Each rule's own values, so that conditions are met and not only missed.
    #[test]
    fn rules_are_hit_at_their_boundaries(profile in profiles()) {
        let program = compile(&profile, Architecture::X86_64).unwrap();
        for rule in profile.syscalls().iter().flatten() {
            for name in rule.names() {
                for (abi, base) in [(Abi::X86_64, 0), (Abi::X86, 0), (Abi::X32, X32)] {
                    let Some(nr) = abi.number(name) else { continue };
                    for by in [-1, 0, 1] {
                        let mut call = Call::new(abi.audit(), base + nr, &[]);
                        for arg in rule.args().iter().flatten() {
                            let value = arg.value_two().filter(|_| {
                                arg.op() == oci_spec::runtime::LinuxSeccompOperator::ScmpCmpMaskedEq
                            });
                            call.args[arg.index()] = value.unwrap_or_else(|| arg.value()).wrapping_add_signed(by);
                        }
                        let expected = evaluate(&profile, Architecture::X86_64, &call);
                        prop_assert_eq!(run(program.instructions(), &call), expected, "{:?}", call);
                    }
                }
            }
        }
    }
}
