use super::*;

fn of_file(file: &str, value: &str) -> Vec<Property> {
    properties(&[Setting {
        controller: "any",
        file: file.to_owned(),
        value: value.to_owned(),
        field: "any",
        optional: false,
        otherwise: None,
    }])
}

#[test]
fn limits_are_numbers() {
    assert_eq!(
        of_file("memory.max", "4096"),
        [("MemoryMax", Value::Number(4096))]
    );
    let unlimited = [("MemorySwapMax", Value::Number(u64::MAX))];
    assert_eq!(of_file("memory.swap.max", "max"), unlimited);
    assert_eq!(of_file("cpu.weight", "79"), [("CPUWeight", Value::Number(79))]);
    assert_eq!(of_file("pids.max", "100"), [("TasksMax", Value::Number(100))]);
}

#[test]
fn what_systemd_does_not_know_is_left_to_the_files() {
    assert!(of_file("hugetlb.2MB.max", "0").is_empty());
    assert!(of_file("memory.oom.group", "1").is_empty());
    assert!(of_file("memory.max", "a lot").is_empty());
}

#[test]
fn quotas_are_of_a_second_and_whole_percents() {
    for (value, of_second, period) in [
        ("20000 100000", 200_000, 100_000),
        ("max", u64::MAX, 100_000),
        ("max 50000", u64::MAX, 50_000),
        ("150000", 1_500_000, 100_000),
        // 33.3 % of a CPU.
        ("33300 100000", 340_000, 100_000),
        ("1000 1000000", 10_000, 1_000_000),
    ] {
        let expected = [
            ("CPUQuotaPerSecUSec", Value::Number(of_second)),
            ("CPUQuotaPeriodUSec", Value::Number(period)),
        ];
        assert_eq!(of_file("cpu.max", value), expected, "{value}");
    }
    assert!(of_file("cpu.max", "").is_empty());
    assert!(!of_file("cpu.max", &format!("{} 1", u64::MAX - 1)).is_empty());
}

#[test]
fn cpus_are_bits_from_the_lowest() {
    for (list, bits) in [
        ("0", Some(vec![1])),
        ("0-3,8", Some(vec![0b1111, 1])),
        ("17", Some(vec![0, 0, 2])),
        ("", Some(vec![])),
        ("3-1", None),
        ("0-8192", None),
        ("x", None),
    ] {
        let expected: Vec<Property> = bits
            .map(|bits| ("AllowedCPUs", Value::Bytes(bits)))
            .into_iter()
            .collect();
        assert_eq!(of_file("cpuset.cpus", list), expected, "{list}");
    }
}
