use super::*;

#[test]
fn hardware_addresses_are_read_as_go_reads_them() {
    let expected = Some([0x0a, 0x58, 0, 0xff, 1, 2]);
    for text in ["0a:58:00:ff:01:02", "0A-58-00-FF-01-02", "0a58.00ff.0102"] {
        assert_eq!(parse_mac(text), expected, "{text}");
    }
    for text in [
        "",
        "0a:58:00:ff:01",
        "0a:58:00:ff:01:02:03",
        "a:58:0:ff:1:2",
        "0a:58-00:ff:01:02",
        "0a5800ff0102",
        "0g:58:00:ff:01:02",
        "+a:58:00:ff:01:02",
    ] {
        assert_eq!(parse_mac(text), None, "{text}");
    }
}

#[test]
fn only_names_that_are_made_here_are_random_names() {
    assert!(is_random(&random_name().unwrap()));
    for other in [
        "",
        "veth",
        "veth0000000",
        "veth000000000",
        "veth0000000g",
        "eth000000000",
        "cni0",
    ] {
        assert!(!is_random(other), "{other}");
    }
}
