use super::*;
use crate::architecture::Architecture;
use crate::compile::compile;
use crate::error::ErrorKind;
use crate::testing::{ALLOW, Call, X86_64, errno, run};
use oci_spec::runtime::{Capabilities, Capability, LinuxSeccompAction};
use proptest::prelude::*;
use serde_json::json;

fn resolve(
    json: &serde_json::Value,
    architecture: Architecture,
    caps: &[Capability],
    kernel: &str,
) -> LinuxSeccomp {
    let capabilities: Capabilities = caps.iter().copied().collect();
    let target = Target {
        architecture,
        capabilities: &capabilities,
        kernel: kernel.parse().unwrap(),
    };
    Profile::parse(json.to_string().as_bytes())
        .unwrap()
        .resolve(&target)
        .unwrap()
}

fn names(seccomp: &LinuxSeccomp) -> Vec<&str> {
    seccomp
        .syscalls()
        .iter()
        .flatten()
        .flat_map(LinuxSyscall::names)
        .map(String::as_str)
        .collect()
}

fn parse_error(json: &serde_json::Value) -> Error {
    Profile::parse(json.to_string().as_bytes()).unwrap_err()
}

/// Every field of the Docker form, as Docker writes them.
fn docker() -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] },
            { "architecture": "SCMP_ARCH_FUTURE", "subArchitectures": null },
        ],
        "syscalls": [
            { "names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {},
              "excludes": {} },
            { "name": "getpid", "names": null, "action": "SCMP_ACT_ALLOW", "args": null },
            { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
            { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN", "CAP_BPF"] } },
            { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64", "x32"] } },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 2114060288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" } ],
              "excludes": { "caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"] } },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
              "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "names": ["old"], "action": "SCMP_ACT_ALLOW", "excludes": { "minKernel": "5.0" } },
            { "names": ["odd"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_FROM_THE_FUTURE"] } },
        ],
    })
}

#[test]
fn rules_depend_on_capabilities_architecture_and_kernel() {
    let seccomp = resolve(&docker(), Architecture::X86_64, &[], "6.18.0");
    assert_eq!(
        names(&seccomp),
        [
            "read",
            "write",
            "getpid",
            "ptrace",
            "arch_prctl",
            "clone",
            "clone3"
        ]
    );
    let seccomp = resolve(&docker(), Architecture::Aarch64, &[], "4.4.0");
    assert_eq!(
        names(&seccomp),
        ["read", "write", "getpid", "clone", "clone3", "old"]
    );
    let seccomp = resolve(&docker(), Architecture::Aarch64, &[Capability::SysAdmin], "4.8");
    assert_eq!(
        names(&seccomp),
        ["read", "write", "getpid", "ptrace", "mount", "old"]
    );
    let both = [Capability::SysAdmin, Capability::Bpf];
    let seccomp = resolve(&docker(), Architecture::X86_64, &both, "5.15.0-91-generic");
    assert_eq!(
        names(&seccomp),
        ["read", "write", "getpid", "ptrace", "mount", "bpf", "arch_prctl"]
    );
}

#[test]
fn the_map_gives_the_native_architecture_and_its_relatives() {
    let seccomp = resolve(&docker(), Architecture::X86_64, &[], "6.18");
    let expected = vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
    assert_eq!(seccomp.architectures(), &Some(expected));
    let seccomp = resolve(&docker(), Architecture::Aarch64, &[], "6.18");
    assert_eq!(
        seccomp.architectures(),
        &Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm])
    );
    let none = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
    let seccomp = resolve(&none, Architecture::Aarch64, &[], "6.18");
    assert_eq!(seccomp.architectures(), &Some(vec![Arch::ScmpArchAarch64]));
}

#[test]
fn a_resolved_docker_profile_compiles_to_what_it_says() {
    let seccomp = resolve(&docker(), Architecture::X86_64, &[], "6.18");
    let program = compile(&seccomp, Architecture::X86_64).unwrap();
    let answer = |nr, args: &[u64]| run(program.instructions(), &Call::new(X86_64, nr, args));
    assert_eq!(answer(0, &[]), ALLOW);
    assert_eq!(answer(56, &[0x11]), ALLOW);
    assert_eq!(answer(56, &[0x1000_0011]), errno(1));
    assert_eq!(answer(435, &[]), errno(38));
    assert_eq!(answer(165, &[]), errno(1));
}

#[test]
fn the_oci_form_comes_out_as_it_went_in() {
    let oci = json!({
        "defaultAction": "SCMP_ACT_LOG",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_ARM"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent.sock",
        "listenerMetadata": "m",
        "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_KILL_PROCESS" },
            { "names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3, "args": [
                { "index": 1, "value": 18446744073709551615_u64, "op": "SCMP_CMP_NE" } ] },
        ],
    });
    let seccomp = resolve(&oci, Architecture::X86_64, &[], "6.18");
    assert_eq!(seccomp.default_action(), LinuxSeccompAction::ScmpActLog);
    assert_eq!(serde_json::to_value(&seccomp).unwrap(), oci);
}

#[test]
fn contradictions_are_refused() {
    let mut twice = docker();
    twice["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    assert!(matches!(parse_error(&twice), Error::ArchitecturesTwice));

    let rule = |rule: serde_json::Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    let error = parse_error(&rule(
        json!({ "name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW" }),
    ));
    assert!(matches!(&error, Error::NamesTwice { rule: 0, name } if name == "a"));
    let error = parse_error(&rule(
        json!({ "names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": { "minKernel": "new" } }),
    ));
    assert!(matches!(error, Error::MinKernel { rule: 0, .. }));
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn what_is_no_profile_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"defaultAction":"SCMP_ACT_NOPE"}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":-1}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"]}]}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_ABOUT"}]}]}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW"]}"#,
    ] {
        let error = Profile::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Syntax { .. }), "{text}: {error}");
    }
    let large = vec![b' '; MAX_PROFILE_SIZE + 1];
    assert_eq!(Profile::parse(&large).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn an_architecture_that_does_not_exist_is_named() {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X87"] });
    let profile = Profile::parse(profile.to_string().as_bytes()).unwrap();
    let capabilities = Capabilities::new();
    let kernel = KernelVersion::new(6, 18);
    let target = Target {
        architecture: Architecture::X86_64,
        capabilities: &capabilities,
        kernel,
    };
    let error = profile.resolve(&target).unwrap_err();
    assert!(matches!(error, Error::UnknownArchitecture { name } if name == "SCMP_ARCH_X87"));
}

proptest! {
    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..2000) {
        drop(Profile::parse(&bytes));
        let text = docker().to_string();
        let mut damaged = text.into_bytes();
        damaged.truncate(cut);
        damaged.extend(bytes);
        drop(Profile::parse(&damaged));
    }
}
