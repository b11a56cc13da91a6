//! The seccomp filter: loading it, and asking beforehand what it permits.

use pausa_sys::{AUDIT_ARCHITECTURE, SeccompError};

use crate::error::{Error, Step};

/// A program (`struct sock_filter`s in the machine's byte order) and the flags of seccomp(2), as in the plan.
pub(super) type Filter = (Vec<u8>, u32);

const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;

pub(super) fn load((program, flags): &Filter) -> Result<(), Error> {
    match pausa_sys::load_seccomp(program, *flags) {
        Ok(()) => Ok(()),
        Err(SeccompError::Malformed) => Err(Error::MalformedSeccomp),
        Err(SeccompError::Kernel(source)) => Err(Error::Call {
            step: Step::Seccomp,
            source,
        }),
    }
}

/// Whether a process under the filter can clone a bare child that then executes the command: all the calls that
/// `process::run` makes from loading the filter on.
pub(super) fn permits_bare_child((program, _): &Filter, terminal: bool) -> bool {
    let clone = u64::from(libc::CLONE_PARENT.unsigned_abs());
    let mut calls = vec![
        (libc::SYS_clone, [clone, 0, 0]),
        (libc::SYS_write, [3, 0, 0]),
        (libc::SYS_exit_group, [0; 3]),
        (libc::SYS_read, [3, 0, 1]),
        (libc::SYS_setsid, [0; 3]),
        (libc::SYS_execve, [0; 3]),
    ];
    if terminal {
        calls.push((libc::SYS_ioctl, [0, libc::TIOCSCTTY, 0]));
    }
    calls.iter().all(|(number, arguments)| {
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        verdict(program, number, *arguments) == Some(SECCOMP_RET_ALLOW)
    })
}

/// What a program returns for a system call; none if it has an instruction that pausa's compiler does not use.
fn verdict(program: &[u8], number: u32, arguments: [u64; 3]) -> Option<u32> {
    // `struct seccomp_data`: number, architecture, instruction pointer, arguments.
    let mut words = [0_u32; 16];
    words[0] = number;
    words[1] = AUDIT_ARCHITECTURE;
    for (pair, argument) in words[4..].chunks_exact_mut(2).zip(arguments) {
        let [a, b, c, d, e, f, g, h] = argument.to_ne_bytes();
        pair.copy_from_slice(&[u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]);
    }
    let (instructions, _) = program.as_chunks::<8>();
    let (mut at, mut accumulator) = (0, 0);
    // Jumps only lead forward, so this ends.
    loop {
        let [c0, c1, jump_true, jump_false, k0, k1, k2, k3] = *instructions.get(at)?;
        let operand = u32::from_ne_bytes([k0, k1, k2, k3]);
        at += 1;
        let holds = match u16::from_ne_bytes([c0, c1]) {
            // BPF_RET | BPF_K
            0x06 => return Some(operand),
            // BPF_LD | BPF_W | BPF_ABS
            0x20 => {
                accumulator = *words.get(usize::try_from(operand).ok()? / 4)?;
                continue;
            }
            // BPF_ALU | BPF_AND | BPF_K
            0x54 => {
                accumulator &= operand;
                continue;
            }
            // BPF_JMP | BPF_JA
            0x05 => {
                at = at.checked_add(usize::try_from(operand).ok()?)?;
                continue;
            }
            // BPF_JMP | BPF_JEQ, BPF_JGT, BPF_JGE | BPF_K
            0x15 => accumulator == operand,
            0x25 => accumulator > operand,
            0x35 => accumulator >= operand,
            _ => return None,
        };
        at += usize::from(if holds { jump_true } else { jump_false });
    }
}

#[cfg(test)]
mod tests;
