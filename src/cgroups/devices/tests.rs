use super::*;

#[test]
fn rules_are_lines() {
    let rule = |allow, typ, numbers: (Option<i64>, Option<i64>), access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow)
            .set_typ(Some(typ))
            .set_major(numbers.0)
            .set_minor(numbers.1)
            .set_access(Some(access.to_owned()));
        let (file, line) = line(&rule);
        format!("{file} {line}")
    };
    let any = (None, None);
    assert_eq!(rule(false, LinuxDeviceType::A, any, "rwm"), "devices.deny a");
    assert_eq!(rule(true, LinuxDeviceType::C, any, "m"), "devices.allow c *:* m");
    let one = (Some(8), Some(0));
    assert_eq!(rule(true, LinuxDeviceType::B, one, "r"), "devices.allow b 8:0 r");
    let negative = (Some(136), Some(-1));
    assert_eq!(
        rule(true, LinuxDeviceType::C, negative, ""),
        "devices.allow c 136:* rwm"
    );
}
