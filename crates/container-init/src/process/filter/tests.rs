use super::*;

fn program(instructions: &[(u16, u8, u8, u32)]) -> Vec<u8> {
    let bytes = instructions
        .iter()
        .flat_map(|(code, jump_true, jump_false, operand)| {
            let [c0, c1] = code.to_ne_bytes();
            let [k0, k1, k2, k3] = operand.to_ne_bytes();
            [c0, c1, *jump_true, *jump_false, k0, k1, k2, k3]
        });
    bytes.collect()
}

/// Answers one system call with `verdict` and allows the rest.
fn except(number: libc::c_long, verdict: u32) -> Filter {
    let number = u32::try_from(number).unwrap();
    let instructions = [
        (0x20, 0, 0, 4),
        (0x15, 1, 0, AUDIT_ARCHITECTURE),
        (0x06, 0, 0, 0x8000_0000),
        (0x20, 0, 0, 0),
        (0x15, 0, 1, number),
        (0x06, 0, 0, verdict),
        (0x06, 0, 0, SECCOMP_RET_ALLOW),
    ];
    (program(&instructions), 0)
}

#[test]
fn a_filter_permits_a_bare_child_if_it_allows_all_of_its_calls() {
    assert!(permits_bare_child(&except(libc::SYS_mount, 0x0005_0001), true));
    for call in [
        libc::SYS_clone,
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_setsid,
        libc::SYS_execve,
    ] {
        // EPERM, and a notification, which is no plain permission either.
        for verdict in [0x0005_0001, 0x7fc0_0000] {
            assert!(!permits_bare_child(&except(call, verdict), false), "{call}");
        }
    }
    let no_ioctl = except(libc::SYS_ioctl, 0x0005_0001);
    assert!(permits_bare_child(&no_ioctl, false));
    assert!(!permits_bare_child(&no_ioctl, true));
}

#[test]
fn arguments_are_compared_as_the_kernel_compares_them() {
    // Refuses clone if any bit but CLONE_PARENT is set in the low half of the flags, or any in the high one.
    let low = if cfg!(target_endian = "little") { 16 } else { 20 };
    let instructions = [
        (0x20, 0, 0, low),
        (0x54, 0, 0, !0x8000),
        (0x15, 0, 1, 0),
        (0x06, 0, 0, SECCOMP_RET_ALLOW),
        (0x06, 0, 0, 1),
    ];
    let program = program(&instructions);
    assert_eq!(verdict(&program, 56, [0x8000, 0, 0]), Some(SECCOMP_RET_ALLOW));
    assert_eq!(verdict(&program, 56, [0x8001, 0, 0]), Some(1));
}

#[test]
fn a_strange_program_has_no_verdict() {
    for strange in [
        program(&[]),
        program(&[(0x07, 0, 0, 0)]),
        program(&[(0x05, 0, 0, u32::MAX)]),
        program(&[(0x20, 0, 0, 400)]),
        program(&[(0x15, 255, 255, 0)]),
    ] {
        assert_eq!(verdict(&strange, 0, [0; 3]), None);
    }
}
