use super::plain;

#[test]
fn output_is_one_plain_line() {
    assert_eq!(plain("\n no GPU\r\n\x1b[2J gone \n"), "no GPU;  [2J gone");
}
