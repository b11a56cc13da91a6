//! Attaches to process 1 as a debugger and makes it do a system call. Compiled by the test that runs it in a container: see
//! `attacks.rs`. Says what has come of it.

use std::ffi::{c_int, c_long, c_void};

const PTRACE_CONT: c_int = 7;
const PTRACE_SINGLESTEP: c_int = 9;
const PTRACE_GETREGS: c_int = 12;
const PTRACE_SETREGS: c_int = 13;
const PTRACE_ATTACH: c_int = 16;
const WALL: c_int = 0x4000_0000;

/// Places of registers in `struct user_regs_struct` of x86_64.
const RAX: usize = 10;
const RIP: usize = 16;
const ORIG_RAX: usize = 15;

/// unshare(2), with CLONE_NEWUSER in the first argument.
const UNSHARE: u64 = 272;
const RDI: usize = 14;
const CLONE_NEWUSER: u64 = 0x1000_0000;

unsafe extern "C" {
    fn ptrace(request: c_int, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

fn trace(request: c_int, data: *mut c_void) -> c_long {
    unsafe { ptrace(request, 1, std::ptr::null_mut(), data) }
}

/// The status of process 1 at its next stop or end.
fn wait() -> c_int {
    let mut status = 0;
    assert_eq!(unsafe { waitpid(1, &mut status, WALL) }, 1, "waitpid");
    status
}

fn main() {
    let null = std::ptr::null_mut();
    if trace(PTRACE_ATTACH, null) != 0 {
        println!("refused: {}", std::io::Error::last_os_error());
        return;
    }
    wait();
    let mut registers = [0_u64; 27];
    let data = (&raw mut registers).cast();
    assert_eq!(trace(PTRACE_GETREGS, data), 0);
    // It is in a system call, so the instruction before is `syscall`.
    registers[RIP] -= 2;
    registers[RAX] = UNSHARE;
    registers[ORIG_RAX] = u64::MAX;
    registers[RDI] = CLONE_NEWUSER;
    assert_eq!(trace(PTRACE_SETREGS, data), 0);
    println!("attached");
    trace(PTRACE_SINGLESTEP, null);
    let mut status = wait();
    while status & 0x7f == 0x7f {
        trace(PTRACE_GETREGS, data);
        if registers[RAX] != UNSHARE {
            println!("done: unshare returned {}", registers[RAX] as i64);
            return;
        }
        trace(PTRACE_CONT, ((status >> 8) & 0xff) as usize as *mut c_void);
        status = wait();
    }
    println!("killed by signal {}", status & 0x7f);
}
