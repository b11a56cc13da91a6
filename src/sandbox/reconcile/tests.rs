use super::monitors::pod_of;

/// Nothing but a monitor's own command line names a pod.
#[test]
fn a_monitor_is_known_by_its_arguments() {
    let id = "0123456789abcdef".repeat(4);
    let named = |command: String| pod_of(command.as_bytes()).map(|pod| pod.to_string());
    assert_eq!(named(format!("pausa-monitor\0{id}\0")), Some(id.clone()));
    for other in [
        String::new(),
        "pausa-monitor".to_owned(),
        "pausa-monitor\0".to_owned(),
        "pausa-monitor\0../../etc\0".to_owned(),
        format!("pausa\0pausa-monitor\0{id}\0"),
        format!("/bin/pausa-monitor\0{id}\0"),
        format!("pausa-monitor {id}"),
    ] {
        assert_eq!(named(other.clone()), None, "{other:?}");
    }
}
