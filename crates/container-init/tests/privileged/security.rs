//! no_new_privs and seccomp.

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    (
        "security::a_seccomp_filter_is_active_with_new_privileges",
        filter_with_new_privileges,
    ),
    (
        "security::a_seccomp_filter_is_active_without_new_privileges",
        filter_without_new_privileges,
    ),
    (
        "security::a_filter_that_forbids_exec_is_reported",
        filter_forbids_exec,
    ),
    ("security::a_malformed_filter_is_refused", malformed_filter),
    ("security::exec_loads_the_filter_too", exec_loads_the_filter),
    ("security::unknown_labels_are_named", unknown_labels),
];

/// A program that answers one system call with EPERM and allows the rest.
fn forbid(call: i64) -> (Vec<u8>, u32) {
    let call = u32::try_from(call).unwrap();
    let program: [(u16, u8, u8, u32); 4] = [
        (0x20, 0, 0, 0),           // load the number
        (0x15, 0, 1, call),        // equal?
        (0x06, 0, 0, 0x0005_0001), // SECCOMP_RET_ERRNO | EPERM
        (0x06, 0, 0, 0x7fff_0000), // SECCOMP_RET_ALLOW
    ];
    let mut bytes = Vec::new();
    for (code, jt, jf, k) in program {
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&[jt, jf]);
        bytes.extend_from_slice(&k.to_ne_bytes());
    }
    (bytes, 0)
}

/// Number of the call that `chmod` makes.
const CHMOD: i64 = if cfg!(target_arch = "x86_64") { 90 } else { 53 };
const EXECVE: i64 = if cfg!(target_arch = "x86_64") { 59 } else { 221 };

const SCRIPT: &str = "grep -e NoNewPrivs -e Seccomp: /proc/self/status; chmod 777 /tmp";

fn filtered(no_new_privs: bool) -> String {
    let world = World::new();
    let mut plan = shell(SCRIPT);
    plan.process.no_new_privs = no_new_privs;
    plan.process.seccomp = Some(forbid(CHMOD));
    plan.process.uid = 1000;
    world.run(&plan).unwrap().output
}

fn filter_with_new_privileges() {
    let output = filtered(false);
    assert_eq!(
        output,
        "NoNewPrivs:\t0\nSeccomp:\t2\nchmod: /tmp: Operation not permitted\n"
    );
}

fn filter_without_new_privileges() {
    let output = filtered(true);
    assert_eq!(
        output,
        "NoNewPrivs:\t1\nSeccomp:\t2\nchmod: /tmp: Operation not permitted\n"
    );
}

fn filter_forbids_exec() {
    let world = World::new();
    for no_new_privs in [false, true] {
        let mut plan = shell("");
        plan.process.no_new_privs = no_new_privs;
        plan.process.seccomp = Some(forbid(EXECVE));
        let failure = world.run(&plan).unwrap_err();
        assert!(
            failure.step.contains("execve(") && failure.errno == 1,
            "{failure}"
        );
    }
}

fn malformed_filter() {
    let world = World::new();
    let mut plan = shell("");
    plan.process.seccomp = Some((vec![0; 9], 0));
    assert!(world.run(&plan).unwrap_err().step.contains("malformed"));
    plan.process.seccomp = Some((vec![0xff; 16], 0));
    let failure = world.run(&plan).unwrap_err();
    assert!(
        failure.step.contains("load the seccomp filter") && failure.errno == 22,
        "{failure}"
    );
}

fn exec_loads_the_filter() {
    let world = World::new();
    let running = world.sleeper(|_| {});
    let mut process = process(&["sh", "-c", SCRIPT]);
    process.no_new_privs = true;
    process.seccomp = Some(forbid(CHMOD));
    process.uid = 1000;
    let output = running.exec(process).unwrap().output;
    assert_eq!(
        output,
        "NoNewPrivs:\t1\nSeccomp:\t2\nchmod: /tmp: Operation not permitted\n"
    );
}

fn unknown_labels() {
    let world = World::new();
    let mut plan = shell("");
    plan.process.apparmor = Some("no-such-profile".to_owned());
    let failure = world.run(&plan).unwrap_err();
    assert!(
        failure.step.contains("AppArmor profile no-such-profile") && failure.errno != 0,
        "{failure}"
    );
    let mut plan = shell("");
    plan.process.selinux = Some("no:such:label".to_owned());
    let failure = world.run(&plan).unwrap_err();
    assert!(
        failure.step.contains("SELinux label no:such:label") && failure.errno != 0,
        "{failure}"
    );
}
