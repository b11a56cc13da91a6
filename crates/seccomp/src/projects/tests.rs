use oci_spec::runtime::{Capabilities, LinuxSeccomp};
use serde_json::json;

use super::*;
use crate::testing::{ALLOW, Call, I386, KILL_PROCESS, X32, X86_64, errno, run};
use crate::{KernelVersion, Target, compile, default_profile};

const TCGETS: u64 = 0x5401;
/// The numbers of ioctl(2) on x86_64 and on 32-bit x86, and of file_setattr(2).
const NUMBERS: [u32; 3] = [16, 54, 469];

fn answer(seccomp: Option<LinuxSeccomp>, arch: u32, nr: u32, command: u64) -> u32 {
    let kept = keep_projects(seccomp, Architecture::X86_64);
    let program = compile(&kept, Architecture::X86_64).unwrap();
    run(program.instructions(), &Call::new(arch, nr, &[3, command, 0]))
}

fn runtime_default() -> LinuxSeccomp {
    default_profile(&Target {
        architecture: Architecture::X86_64,
        capabilities: &Capabilities::new(),
        kernel: "6.18".parse::<KernelVersion>().unwrap(),
    })
}

#[test]
fn projects_cannot_be_changed_and_everything_else_is_as_before() {
    let [ioctl, old_ioctl, file_setattr] = NUMBERS;
    for seccomp in [None, Some(runtime_default())] {
        for command in COMMANDS {
            // The kernel does not look at the upper half.
            for command in [command, command | 0xdead_beef << 32] {
                for (arch, nr) in [(X86_64, ioctl), (I386, old_ioctl)] {
                    assert_eq!(
                        answer(seccomp.clone(), arch, nr, command),
                        errno(EOPNOTSUPP),
                        "{command:x}"
                    );
                }
            }
        }
        assert_eq!(
            answer(seccomp.clone(), X86_64, file_setattr, 0),
            errno(EOPNOTSUPP)
        );
        for (arch, nr) in [(X86_64, ioctl), (I386, old_ioctl)] {
            assert_eq!(answer(seccomp.clone(), arch, nr, TCGETS), ALLOW);
            assert_eq!(answer(seccomp.clone(), arch, nr, COMMANDS[0] + 1), ALLOW);
        }
        // write(2)
        assert_eq!(answer(seccomp.clone(), X86_64, 1, TCGETS), ALLOW);
        // On x32, ioctl(2) has a number of its own.
        assert_eq!(
            answer(seccomp.clone(), X86_64, X32 + 514, COMMANDS[0]),
            errno(EOPNOTSUPP)
        );
    }
    // mount(2)
    assert_eq!(answer(Some(runtime_default()), X86_64, 165, 0), errno(EPERM));
    assert_eq!(answer(None, X86_64, 165, 0), ALLOW);
    assert_eq!(answer(None, 0xdead, 165, 0), KILL_PROCESS);
}

#[test]
fn a_profile_of_ones_own_stays_as_strict() {
    let ioctl = NUMBERS[0];
    let profile = |default: serde_json::Value, rules: serde_json::Value| -> Option<LinuxSeccomp> {
        let mut profile = default;
        profile["syscalls"] = rules;
        Some(serde_json::from_value(profile).unwrap())
    };
    // The default says what the rule would say.
    let default = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EOPNOTSUPP });
    let allow = json!([{ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW" }]);
    let filter = profile(default, allow);
    assert_eq!(answer(filter.clone(), X86_64, ioctl, COMMANDS[0]), errno(EPERM));
    assert_eq!(answer(filter, X86_64, ioctl, TCGETS), ALLOW);
    // Rules of its own for this call.
    let rules = json!([
        { "names": ["ioctl"], "action": "SCMP_ACT_KILL_PROCESS",
          "args": [{ "index": 1, "value": TCGETS, "op": "SCMP_CMP_EQ" }] },
        { "names": ["ioctl", "read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7 },
    ]);
    let filter = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW" }), rules);
    // Without conditions on the other argument's side, the later rule decided alone; it still does.
    assert_eq!(answer(filter.clone(), X86_64, ioctl, 1), errno(7));
    assert_eq!(
        answer(filter.clone(), X86_64, ioctl, COMMANDS[1]),
        errno(EOPNOTSUPP)
    );
    assert_eq!(answer(filter, X86_64, 0, 1), errno(7));
}
