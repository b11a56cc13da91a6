use super::*;
use crate::testing::{Call, run};

/// A load of the number and a test for 7, with `filler` instructions before the answers. Of the two, the one
/// for no is the last instruction if `no_is_last`, so that each is the further one once.
fn far(filler: usize, no_is_last: bool) -> Vec<Instruction> {
    let mut asm = Assembler::default();
    let last = asm.push(RET, 0, 0, if no_is_last { 1 } else { 2 });
    let nearer = asm.push(RET, 0, 0, if no_is_last { 2 } else { 1 });
    for _ in 0..filler {
        asm.push(RET, 0, 0, 99);
    }
    let (yes, no) = if no_is_last {
        (nearer, last)
    } else {
        (last, nearer)
    };
    asm.branch(JEQ, 7, yes, no);
    asm.load(SECCOMP_DATA_NR);
    asm.finish()
}

#[test]
fn targets_at_every_distance_are_reached() {
    for filler in (0..10).chain(245..265).chain([4000]) {
        for no_is_last in [false, true] {
            let program = far(filler, no_is_last);
            assert_eq!(run(&program, &Call::new(0, 7, &[])), 2, "{filler}");
            assert_eq!(run(&program, &Call::new(0, 8, &[])), 1, "{filler}");
        }
    }
}

#[test]
fn stepping_stones_are_laid_only_where_needed() {
    assert_eq!(far(200, true).len(), 204);
    assert_eq!(far(300, true).len(), 306);
}

#[test]
fn a_near_return_is_shared_and_a_far_one_made_anew() {
    let mut asm = Assembler::default();
    let first = asm.ret(5);
    assert_eq!(asm.ret(5), first);
    for value in 100..100 + 300 {
        asm.ret(value);
    }
    assert_ne!(asm.ret(5), first);
}

#[test]
fn a_load_runs_into_a_target_that_is_elsewhere() {
    let mut asm = Assembler::default();
    let target = asm.ret(5);
    asm.ret(6);
    asm.follow_with(target);
    asm.load(SECCOMP_DATA_NR);
    assert_eq!(run(&asm.finish(), &Call::new(0, 0, &[])), 5);
}
