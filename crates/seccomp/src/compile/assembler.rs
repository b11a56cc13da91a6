//! An assembler for classic BPF that works backwards.
//!
//! Classic BPF only jumps forwards. Assembled from the last instruction to the first, every target is already
//! there when the jump to it is made: its distance is known and nothing needs patching. A conditional jump
//! reaches 255 instructions; a target further away gets an unconditional jump as a stepping stone.
//!
//! Invariant: nothing falls through but loads and `and`; each conditional jump names both its targets.

use crate::program::Instruction;
use std::collections::HashMap;

/// `offsetof(struct seccomp_data, nr)`.
pub(super) const SECCOMP_DATA_NR: u32 = 0;
/// `offsetof(struct seccomp_data, arch)`.
pub(super) const SECCOMP_DATA_ARCH: u32 = 4;
/// `offsetof(struct seccomp_data, args)`.
pub(super) const SECCOMP_DATA_ARGS: u32 = 16;

/// `BPF_LD | BPF_W | BPF_ABS`: load a word of `struct seccomp_data`.
const LD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JA: u16 = 0x05;
/// `BPF_RET | BPF_K`.
const RET: u16 = 0x06;
/// `BPF_JMP | BPF_JEQ | BPF_K`: equal.
pub(super) const JEQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`: greater, unsigned.
pub(super) const JGT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`: greater or equal, unsigned.
pub(super) const JGE: u16 = 0x35;

/// How far a shared return may be before another is made in place: well below 255, so that it is still in
/// reach when the jumps around it have been made.
const NEAR: usize = 200;

/// An instruction, counted from the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Last instruction first.
    backwards: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// The program in order.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.backwards.reverse();
        self.backwards
    }

    /// A return of `value`: one that is near, or a new one.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        if let Some(label) = self.returns.get(&value)
            && self.skips(*label) <= NEAR
        {
            return *label;
        }
        let label = self.push(RET, 0, 0, value);
        self.returns.insert(value, label);
        label
    }

    /// Loads the word at `offset` of `struct seccomp_data` and goes on with the instruction assembled before.
    pub(super) fn load(&mut self, offset: u32) -> Label {
        self.push(LD, 0, 0, offset)
    }

    /// Masks the loaded word and goes on with the instruction assembled before.
    pub(super) fn and(&mut self, mask: u32) -> Label {
        self.push(AND, 0, 0, mask)
    }

    /// Makes the next assembled instruction continue with `target`.
    pub(super) fn follow_with(&mut self, target: Label) {
        if self.skips(target) > 0 {
            self.jump(target);
        }
    }

    /// Tests the loaded word against `k`.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        // One less than what fits: the stepping stone for the other target would push this one out of reach.
        let no = if self.skips(no) > 254 { self.jump(no) } else { no };
        let yes = if self.skips(yes) > 255 {
            self.jump(yes)
        } else {
            yes
        };
        let reach = |skips| u8::try_from(skips).expect("a further target has just got a stepping stone");
        let (jt, jf) = (reach(self.skips(yes)), reach(self.skips(no)));
        self.push(code, jt, jf, k)
    }

    fn jump(&mut self, target: Label) -> Label {
        let skips = u32::try_from(self.skips(target)).unwrap_or(u32::MAX);
        self.push(JA, 0, 0, skips)
    }

    /// How many instructions the next one would have to skip to get to `target`.
    fn skips(&self, target: Label) -> usize {
        self.backwards.len() - 1 - target.0
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.backwards.push(Instruction { code, jt, jf, k });
        Label(self.backwards.len() - 1)
    }
}

#[cfg(test)]
mod tests;
