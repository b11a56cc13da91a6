use proptest::prelude::*;

use super::super::rule::{DENY_ALL, MAKE, READ, WRITE};
use super::*;

/// What the kernel passes: one use of one device.
#[derive(Debug, Clone, Copy)]
struct Use {
    kind: Kind,
    major: u32,
    minor: u32,
    asked: u8,
}

impl Use {
    fn context(self) -> [u32; 3] {
        let kind = match self.kind {
            Kind::Block => 1,
            Kind::Character => 2,
        };
        [u32::from(self.asked) << 16 | kind, self.major, self.minor]
    }
}

/// Runs a program as the kernel would, as far as these programs go. It ends: nothing jumps back.
fn run(program: &[BpfInstruction], context: [u32; 3]) -> u32 {
    let mut registers: [Option<u64>; 8] = [None; 8];
    let mut at = 0;
    loop {
        let one = program[at];
        at += 1;
        let value = |register: u8| registers[usize::from(register)].expect("written before it is read");
        let low = |register: u8| value(register) & u64::from(u32::MAX);
        let immediate = u64::from(one.immediate.cast_unsigned());
        let skip = usize::try_from(one.offset).expect("forward");
        let target = usize::from(one.target);
        match one.code {
            LOAD => {
                assert!(one.source == CONTEXT && registers[1].is_none());
                registers[target] = Some(u64::from(context[skip / 4]));
            }
            MOVE => registers[target] = Some(immediate),
            MOVE_LONG => {
                let high = u64::from(program[at].immediate.cast_unsigned());
                at += 1;
                registers[target] = Some(high << 32 | immediate);
            }
            COPY => registers[target] = Some(low(one.source)),
            COPY_LONG => registers[target] = Some(value(one.source)),
            SHIFT_RIGHT => registers[target] = Some(low(one.target) >> immediate),
            SHIFT_LEFT_LONG => registers[target] = Some(value(one.target) << immediate),
            OR_LONG => registers[target] = Some(value(one.target) | value(one.source)),
            AND => registers[target] = Some(low(one.target) & immediate),
            SKIP_IF_NOT if low(one.target) != immediate => at += skip,
            SKIP_IF_OTHER if value(one.target) != value(one.source) => at += skip,
            SKIP_IF_SET if low(one.target) & immediate != 0 => at += skip,
            SKIP_IF_NOT | SKIP_IF_OTHER | SKIP_IF_SET => {}
            GO => at += skip,
            EXIT => return u32::try_from(low(ANSWER)).unwrap(),
            other => panic!("instruction {other:#x} at {at}"),
        }
    }
}

/// The rules read as they are meant: for each thing that is asked, the last rule about it decides.
fn allowed(rules: &[Rule], one: Use) -> bool {
    let fits = |rule: &&Rule, bit: u8| {
        rule.kind.is_none_or(|kind| kind == one.kind)
            && rule.major.is_none_or(|major| major == one.major)
            && rule.minor.is_none_or(|minor| minor == one.minor)
            && rule.access & bit != 0
    };
    [READ, WRITE, MAKE]
        .into_iter()
        .filter(|bit| one.asked & bit != 0)
        .all(|bit| {
            let last = rules.iter().rev().find(|rule| fits(rule, bit));
            last.is_some_and(|rule| rule.allow)
        })
}

fn decide(rules: &[Rule], one: Use) -> bool {
    compile(rules).is_none_or(|program| run(&program, one.context()) == 1)
}

fn rule(allow: bool, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule {
        allow,
        kind: Some(Kind::Character),
        major,
        minor,
        access,
    }
}

fn using(major: u32, minor: u32, asked: u8) -> Use {
    Use {
        kind: Kind::Character,
        major,
        minor,
        asked,
    }
}

#[test]
fn a_container_uses_what_it_was_given_and_makes_what_it_likes() {
    let rules = [
        DENY_ALL,
        rule(true, None, None, MAKE),
        rule(true, Some(1), Some(3), ALL),
        rule(true, Some(136), None, ALL),
        rule(true, Some(10), Some(200), READ),
    ];
    let decides = |one: Use, expected: bool| assert_eq!(decide(&rules, one), expected, "{one:?}");
    decides(using(1, 3, READ | WRITE), true);
    decides(using(1, 5, READ), false);
    decides(using(136, 77, READ | WRITE), true);
    decides(using(10, 200, READ), true);
    decides(using(10, 200, READ | WRITE), false);
    decides(using(250, 1, MAKE), true);
    let block = Use {
        kind: Kind::Block,
        ..using(1, 3, READ)
    };
    decides(block, false);
    // Whether it is there.
    decides(using(250, 1, 0), true);
}

#[test]
fn the_last_rule_has_the_last_word() {
    let rules = [
        DENY_ALL,
        rule(true, Some(1), None, ALL),
        rule(false, Some(1), Some(5), WRITE),
        rule(true, Some(1), Some(5), MAKE),
    ];
    assert!(decide(&rules, using(1, 5, READ)));
    assert!(!decide(&rules, using(1, 5, READ | WRITE)));
    assert!(decide(&rules, using(1, 5, READ | MAKE)));
    assert!(decide(&rules, using(1, 3, ALL)));
}

#[test]
fn numbers_of_the_upper_half_are_numbers() {
    let rules = [DENY_ALL, rule(true, Some(u32::MAX), Some(1 << 31), READ)];
    assert!(decide(&rules, using(u32::MAX, 1 << 31, READ)));
    assert!(!decide(&rules, using(u32::MAX, 0, READ)));
}

#[test]
fn who_may_use_everything_has_no_program() {
    let all = Rule {
        allow: true,
        ..DENY_ALL
    };
    assert_eq!(compile(&[all]), None);
    assert!(compile(&[all, rule(false, Some(8), None, WRITE)]).is_some());
}

prop_compose! {
    /// Few numbers, so that rules and uses meet.
    fn any_rule()(
        allow: bool,
        kind in prop::option::of(prop::sample::select(&[Kind::Block, Kind::Character][..])),
        major in prop::option::of(0_u32..3),
        minor in prop::option::of(0_u32..3),
        access in 1_u8..8,
    ) -> Rule {
        Rule { allow, kind, major, minor, access }
    }
}

proptest! {
    #[test]
    fn the_program_says_what_the_rules_say(rules in prop::collection::vec(any_rule(), 0..12)) {
        let rules = [vec![DENY_ALL], rules].concat();
        for number in 0..2_u32 * 4 * 4 * 8 {
            let one = Use {
                kind: if number & 1 == 0 { Kind::Block } else { Kind::Character },
                major: number >> 1 & 3,
                minor: number >> 3 & 3,
                asked: u8::try_from(number >> 5).unwrap(),
            };
            prop_assert_eq!(decide(&rules, one), allowed(&rules, one), "{:?}", one);
        }
    }
}
