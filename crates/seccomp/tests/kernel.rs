//! The default profile under a real kernel.
//!
//! This crate may not install a filter itself (no `unsafe`), so Python does it in a process of its own and
//! reports the errno of some system calls before and after.

use oci_spec::runtime::Capabilities;
use pausa_seccomp::{Architecture, KernelVersion, Target, compile, default_profile};
use std::process::Command;

/// argv: file with the program, directory to work in, flags, then numbers of keyctl, mount and mkdirat.
const CHILD: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
code = open(sys.argv[1], "rb").read()
program = Program(len(code) // 8, code)
flags, seccomp, keyctl, mount, mkdirat = map(int, sys.argv[3:])
def call(*args):
    ctypes.set_errno(0)
    libc.syscall(*[ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args])
    return ctypes.get_errno()
def probe(name):
    directory = os.path.join(sys.argv[2], name).encode()
    return [
        call(mkdirat, -100, directory, 0o755),
        call(mount, None, None, None, 0, None),
        call(keyctl, 0, -99, 0),
        call(4000),
    ]
print(*probe("before"))
assert libc.prctl(38, 1, 0, 0, 0) == 0
error = call(seccomp, 1, flags, ctypes.byref(program))
assert error == 0, os.strerror(error)
print(*probe("after"))
"#;

const EPERM: i32 = 1;
const EFAULT: i32 = 14;
const ENOSYS: i32 = 38;

#[test]
fn the_kernel_takes_the_default_profile_and_does_what_it_says() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: needs python3");
        return;
    }
    let Some(architecture) = Architecture::current() else {
        println!("skipped: needs x86_64 or aarch64");
        return;
    };
    let capabilities = Capabilities::new();
    let target = Target {
        architecture,
        capabilities: &capabilities,
        kernel: KernelVersion::new(6, 18),
    };
    let program = compile(&default_profile(&target), architecture).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("program");
    std::fs::write(&file, program.to_bytes()).unwrap();

    let numbers = match architecture {
        Architecture::X86_64 => [317, 250, 165, 258],
        Architecture::Aarch64 => [277, 219, 40, 34],
    };
    let output = Command::new("python3")
        .arg("-c")
        .arg(CHILD)
        .arg(&file)
        .arg(directory.path())
        .arg(program.flags().to_string())
        .args(numbers.map(|number| number.to_string()))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);

    let stdout = String::from_utf8(output.stdout).unwrap();
    let errnos = |line: &str| {
        line.split(' ')
            .map(|errno| errno.parse::<i32>().unwrap())
            .collect::<Vec<_>>()
    };
    let lines: Vec<Vec<i32>> = stdout.lines().map(errnos).collect();
    let [before, after] = lines.as_slice() else {
        panic!("{stdout}")
    };
    assert_eq!(after, &[0, EPERM, EPERM, ENOSYS]);
    // Without the filter the kernel looks at the arguments, if the caller is root, and there is a keyring.
    assert_eq!((before[0], before[3]), (0, ENOSYS));
    if before[1] != EPERM {
        assert_eq!(before[1], EFAULT);
    }
    assert!(directory.path().join("after").is_dir());
}
