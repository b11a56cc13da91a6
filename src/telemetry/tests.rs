use super::*;

#[test]
fn a_level_alone_is_about_pausa() {
    assert_eq!(directives("debug"), "warn,pausa=debug");
    assert_eq!(directives("ERROR"), "warn,pausa=ERROR");
    assert_eq!(directives("info,h2=trace"), "info,h2=trace");
    assert_eq!(directives("off"), "off");
}
