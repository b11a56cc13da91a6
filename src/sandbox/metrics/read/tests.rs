use super::*;

#[test]
fn a_spec_says_what_was_asked_for() {
    assert_eq!(spec(&v1::LinuxContainerResources::default()), Spec::default());
    let mut resources = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 2,
        memory_limit_in_bytes: 1 << 20,
        memory_swap_limit_in_bytes: -1,
        ..Default::default()
    };
    resources.unified.insert("memory.min".into(), "4096".into());
    let expected = Spec {
        cpu_period: Some(100_000),
        cpu_quota: None,
        cpu_shares: Some(2),
        memory_limit: 1 << 20,
        swap_limit: 0,
        memory_reservation: 4096,
    };
    assert_eq!(spec(&resources), expected);
    resources.unified.insert("memory.min".into(), "max".into());
    assert_eq!(spec(&resources).memory_reservation, 0);
}

#[test]
fn devices_have_the_names_of_their_nodes() {
    let mut devices = Devices::default();
    // No block device has this number.
    assert_eq!(devices.name(0, 4_000_000), "0:4000000");
    let Some(entry) = std::fs::read_dir("/sys/dev/block")
        .into_iter()
        .flatten()
        .find_map(Result::ok)
    else {
        return eprintln!("skipped: there is no block device");
    };
    let number = entry.file_name().into_string().unwrap();
    let (major, minor) = number.split_once(':').unwrap();
    let name = devices.name(major.parse().unwrap(), minor.parse().unwrap());
    assert!(name.starts_with("/dev/"), "{name}");
}
