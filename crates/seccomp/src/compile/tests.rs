use super::*;
use crate::error::{ErrorKind, Place};
use crate::testing::*;
use serde_json::{Value, json};

mod random;

fn seccomp(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// A profile on x86_64 alone with EPERM as default.
fn with_rules(rules: Value) -> LinuxSeccomp {
    let mut profile = json!({ "defaultAction": "SCMP_ACT_ERRNO" });
    profile["syscalls"] = rules;
    seccomp(profile)
}

fn answer(seccomp: &LinuxSeccomp, call: &Call) -> u32 {
    let program = compile(seccomp, Architecture::X86_64).unwrap();
    run(program.instructions(), call)
}

fn native(nr: u32, args: &[u64]) -> Call {
    Call::new(X86_64, nr, args)
}

#[test]
fn actions_become_the_kernels_values() {
    for (action, errno_ret, expected) in [
        ("SCMP_ACT_ALLOW", None, 0x7fff_0000_u32),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", Some(4095), 0x0005_0fff),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(0xffff), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", Some(7), 0x7ffc_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
    ] {
        let rule = json!({ "names": ["getpid", "write"], "action": action, "errnoRet": errno_ret });
        let profile = seccomp(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5, "syscalls": [rule],
        }));
        assert_eq!(answer(&profile, &native(39, &[])), expected, "{action}");
        assert_eq!(answer(&profile, &native(0, &[])), errno(5), "{action}");
    }
}

#[test]
fn notify_is_refused_with_its_place() {
    let rule = json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }, { "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }]);
    let error = compile(&with_rules(rule), Architecture::X86_64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        matches!(&error, Error::NotifyUnsupported { place: Place::Rule { index: 1, name } } if name == "mount")
    );
    assert!(error.to_string().contains("rule 1 (\"mount\")"), "{error}");

    let default = seccomp(json!({ "defaultAction": "SCMP_ACT_NOTIFY" }));
    let error = compile(&default, Architecture::X86_64).unwrap_err();
    assert!(matches!(
        error,
        Error::NotifyUnsupported {
            place: Place::DefaultAction
        }
    ));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let arg = json!({ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" });
    let rule = json!([{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [arg] }]);
    let error = compile(&with_rules(rule), Architecture::X86_64).unwrap_err();
    assert!(matches!(error, Error::ArgumentIndex { index: 6, .. }), "{error}");

    for (action, value, limit) in [("SCMP_ACT_ERRNO", 4096, 4095), ("SCMP_ACT_TRACE", 65536, 65535)] {
        let rule = json!([{ "names": ["read"], "action": action, "errnoRet": value }]);
        let error = compile(&with_rules(rule), Architecture::X86_64).unwrap_err();
        assert!(
            matches!(error, Error::ReturnValue { limit: l, .. } if l == limit),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_an_error() {
    let rule = |value: u64| {
        let arg = json!({ "index": 0, "value": value << 33, "op": "SCMP_CMP_EQ" });
        json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [arg] })
    };
    let rules: Vec<Value> = (0..2000).map(rule).collect();
    let error = compile(&with_rules(json!(rules)), Architecture::X86_64).unwrap_err();
    assert!(
        matches!(error, Error::ProgramTooLong { limit: 4096, instructions } if instructions > 8000),
        "{error}"
    );

    // As many as fit still work, over jumps much longer than 255.
    let rules: Vec<Value> = (0..1000).map(rule).collect();
    let profile = with_rules(json!(rules));
    for value in [0, 1, 499, 999] {
        assert_eq!(answer(&profile, &native(0, &[value << 33])), ALLOW);
    }
    assert_eq!(answer(&profile, &native(0, &[1000 << 33])), errno(1));
}

#[test]
fn unknown_names_are_ignored_and_reported() {
    let profile = with_rules(json!([
        { "names": ["read", "no_such_call", "another"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["another"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["cacheflush", "send"], "action": "SCMP_ACT_ALLOW" },
    ]));
    let program = compile(&profile, Architecture::X86_64).unwrap();
    assert_eq!(program.unknown_syscalls(), ["another", "no_such_call"]);
    assert_eq!(run(program.instructions(), &native(0, &[])), ALLOW);
}

#[test]
fn numbers_above_the_largest_named_are_enosys() {
    let profile = with_rules(json!([{ "names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW" }]));
    assert_eq!(answer(&profile, &native(1, &[])), errno(1));
    assert_eq!(answer(&profile, &native(437, &[])), ALLOW);
    assert_eq!(answer(&profile, &native(438, &[])), errno(38));
    assert_eq!(answer(&profile, &native(u32::MAX, &[])), errno(38));
    assert_eq!(answer(&profile, &native(X32, &[])), KILL_PROCESS);
    assert_eq!(answer(&profile, &native(u32::MAX - 1, &[])), KILL_PROCESS);

    for lenient in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let profile = seccomp(json!({
            "defaultAction": lenient,
            "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_KILL" }],
        }));
        assert_eq!(answer(&profile, &native(165, &[])), 0);
        assert_eq!(
            answer(&profile, &native(1000, &[])),
            profile.default_action().as_u32(None)
        );
    }
}

#[test]
fn an_empty_profile_is_its_default_action() {
    let profile = seccomp(json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS" }));
    assert_eq!(answer(&profile, &native(0, &[])), KILL_PROCESS);
    let profile = seccomp(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [] }));
    assert_eq!(answer(&profile, &native(9999, &[])), ALLOW);
    assert_eq!(answer(&profile, &Call::new(AARCH64, 0, &[])), KILL_PROCESS);
}

#[test]
fn the_first_rule_without_conditions_decides_alone() {
    let arg = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let profile = with_rules(json!([
        { "names": ["socket"], "action": "SCMP_ACT_TRAP", "args": arg },
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["socket"], "action": "SCMP_ACT_KILL" },
    ]));
    assert_eq!(answer(&profile, &native(41, &[1])), ALLOW);
    assert_eq!(answer(&profile, &native(41, &[2])), ALLOW);
}

#[test]
fn conditions_on_one_argument_are_alternatives_and_on_several_are_not() {
    let arg = |index: u32, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let profile = with_rules(json!([
        { "names": ["dup2"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, 1), arg(0, 2)] },
        { "names": ["dup3"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, 1), arg(5, 2)] },
    ]));
    assert_eq!(answer(&profile, &native(33, &[1])), ALLOW);
    assert_eq!(answer(&profile, &native(33, &[2])), ALLOW);
    assert_eq!(answer(&profile, &native(33, &[3])), errno(1));
    assert_eq!(answer(&profile, &native(292, &[1, 0, 0, 0, 0, 2])), ALLOW);
    assert_eq!(answer(&profile, &native(292, &[1, 0, 0, 0, 0, 3])), errno(1));
    assert_eq!(answer(&profile, &native(292, &[0, 0, 0, 0, 0, 2])), errno(1));
}

#[test]
fn a_rule_for_a_socket_call_covers_socketcall_on_x86() {
    let profile = seccomp(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{ "names": ["connect", "shmat"], "action": "SCMP_ACT_ERRNO" }],
    }));
    for (nr, arg, expected) in [
        (362, 0, errno(1)),
        (102, 3, errno(1)),
        (102, 1, ALLOW),
        (117, 21, errno(1)),
        (117, 0x1_0015, errno(1)),
        (117, 24, ALLOW),
    ] {
        assert_eq!(
            answer(&profile, &Call::new(I386, nr, &[arg])),
            expected,
            "{nr} {arg}"
        );
    }
    assert_eq!(answer(&profile, &native(102, &[3])), ALLOW, "102 is getuid there");
}

#[test]
fn a_rule_with_conditions_covers_socketcall_only_if_it_is_stricter() {
    for (default, action, expected) in [
        ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", errno(1)),
        ("SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", errno(1)),
        ("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", KILL_PROCESS),
    ] {
        let arg = json!({ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" });
        let profile = seccomp(json!({
            "defaultAction": default,
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{ "names": ["socket"], "action": action, "args": [arg] }],
        }));
        assert_eq!(
            answer(&profile, &Call::new(I386, 102, &[1])),
            expected,
            "{action}"
        );
    }
}

#[test]
fn flags_become_bits() {
    let bits = |flags: Value| {
        let profile = seccomp(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags }));
        compile(&profile, Architecture::X86_64).unwrap().flags()
    };
    assert_eq!(bits(Value::Null), 4);
    assert_eq!(bits(json!([])), 0);
    assert_eq!(
        bits(json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"])),
        2
    );
    assert_eq!(
        bits(json!([
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
        ])),
        6
    );
}

#[test]
fn bytes_are_the_kernels_structure() {
    let profile = seccomp(json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    let program = compile(&profile, Architecture::X86_64).unwrap();
    let bytes = program.to_bytes();
    assert_eq!(bytes.len(), program.instructions().len() * 8);
    assert_eq!(bytes[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(bytes[8..10], [0x15, 0]);
    assert_eq!(bytes[12..16], [0x3e, 0, 0, 0xc0]);
}
