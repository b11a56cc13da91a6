use super::*;
use std::collections::HashMap;

#[test]
fn every_table_is_sorted_by_name_without_repetition() {
    for abi in Abi::ALL {
        assert!(abi.syscalls().is_sorted_by(|(a, _), (b, _)| a < b), "{abi:?}");
    }
}

/// On arm, two names of one call differ only in the order of arguments that C passes.
#[test]
fn a_number_has_one_name() {
    for abi in Abi::ALL {
        let mut seen = HashMap::new();
        for (name, number) in abi.syscalls() {
            if let Some(other) = seen.insert(number, name) {
                assert_eq!((abi, *number), (Abi::Arm, 341), "{other} and {name}");
            }
        }
    }
}

#[test]
fn well_known_numbers_are_right() {
    let expected = [
        ("read", [Some(0), Some(3), Some(0), Some(63), Some(3)]),
        ("mount", [Some(165), Some(21), Some(165), Some(40), Some(21)]),
        ("clone", [Some(56), Some(120), Some(56), Some(220), Some(120)]),
        ("openat", [Some(257), Some(295), Some(257), Some(56), Some(322)]),
        ("newfstatat", [Some(262), None, Some(262), Some(79), None]),
        ("ioctl", [Some(16), Some(54), Some(514), Some(29), Some(54)]),
        ("clock_gettime64", [None, Some(403), None, None, Some(403)]),
        ("socketcall", [None, Some(102), None, None, None]),
        ("cacheflush", [None, None, None, None, Some(0xf_0002)]),
        ("clone3", [Some(435); 5]),
        ("futex_waitv", [Some(449); 5]),
        ("mseal", [Some(462); 5]),
        ("file_setattr", [Some(469); 5]),
        ("uretprobe", [Some(335), None, Some(335), None, None]),
        ("uprobe", [Some(336), None, Some(336), None, None]),
        ("no_such_call", [None; 5]),
    ];
    for (name, numbers) in expected {
        assert_eq!(Abi::ALL.map(|abi| abi.number(name)), numbers, "{name}");
    }
}

/// From 5.1 on (but for the 32-bit variants below 424) a new call has the same number everywhere.
#[test]
fn calls_since_pidfd_send_signal_are_numbered_alike() {
    for (name, number) in Abi::Aarch64
        .syscalls()
        .iter()
        .filter(|(_, number)| *number >= 424)
    {
        for abi in Abi::ALL {
            if let Some(other) = abi.number(name) {
                assert_eq!(other, *number, "{name} on {abi:?}");
            }
        }
    }
}

#[test]
fn multiplexed_calls_exist() {
    for (name, _) in Abi::X86.syscalls() {
        if let Some(multiplexed) = multiplexed(name) {
            assert!(Abi::X86.number(multiplexed.through).is_some());
        }
    }
    assert_eq!(multiplexed("read"), None);
    assert_eq!(
        multiplexed("shmat").map(|m| (m.through, m.selector)),
        Some(("ipc", 21))
    );
}
