use super::*;

#[test]
fn a_command_line_has_a_name_and_arguments() {
    let process = parse(7, b"/usr/bin/kubelet\0--config=/a\0--v\x002\0").unwrap();
    assert_eq!(process.name, "kubelet");
    assert_eq!(process.arguments, ["--config=/a", "--v", "2"]);
    assert_eq!(parse(7, b""), None);
    assert_eq!(parse(7, b"\0"), None);
}
