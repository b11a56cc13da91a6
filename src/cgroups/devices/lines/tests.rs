use super::super::rule::{ALL, DENY_ALL};
use super::*;

#[test]
fn rules_are_lines() {
    let rule = |kind, major, minor, access| Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    };
    assert_eq!(lines(&DENY_ALL), ["a"]);
    let character = Some(Kind::Character);
    assert_eq!(lines(&rule(character, None, None, MAKE)), ["c *:* m"]);
    let block = Some(Kind::Block);
    assert_eq!(lines(&rule(block, Some(8), Some(0), READ)), ["b 8:0 r"]);
    assert_eq!(lines(&rule(character, Some(136), None, ALL)), ["c 136:* rwm"]);
    // `a 1:3 r` would be everything to the kernel.
    assert_eq!(lines(&rule(None, Some(1), Some(3), READ)), ["b 1:3 r", "c 1:3 r"]);
}
