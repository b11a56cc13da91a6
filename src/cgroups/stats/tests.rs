use std::fs;

use super::parse::{keyed, limit};
use super::*;
use crate::cgroups::{Cgroups, Driver, Layout};

#[test]
fn the_kernels_forms() {
    assert_eq!(limit("max"), None);
    assert_eq!(limit("9223372036854771712"), None);
    assert_eq!(limit("4096"), Some(4096));
    let stat = "nr_periods 5\nnr_throttled 2\nnr 9";
    assert_eq!(
        (keyed(stat, "nr_throttled"), keyed(stat, "nr"), keyed(stat, "x")),
        (2, 9, 0)
    );
}

#[test]
fn v2_numbers_from_files() {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join("pod/c");
    fs::create_dir_all(&group).unwrap();
    for (file, text) in [
        (
            "cpu.stat",
            "usage_usec 7\nnr_periods 3\nnr_throttled 1\nthrottled_usec 2\n",
        ),
        ("memory.current", "1000\n"),
        (
            "memory.stat",
            "anon 300\nfile 600\ninactive_file 400\npgfault 5\npgmajfault 1\n",
        ),
        ("memory.max", "max\n"),
        ("memory.swap.current", "10\n"),
        ("memory.swap.max", "20\n"),
        ("memory.events", "oom 2\noom_kill 1\n"),
        ("pids.current", "4\n"),
        ("pids.max", "100\n"),
    ] {
        fs::write(group.join(file), text).unwrap();
    }
    let layout = Layout::V2 {
        mount_point: root.path().to_path_buf(),
        flags: Vec::new(),
    };
    let cgroups = Cgroups::with(Driver::Cgroupfs, layout).unwrap();
    let path = cgroups.container_path("/pod", "c").unwrap();
    let cgroup = cgroups.open(&path).unwrap();
    let stats = cgroup.stats().unwrap();
    let cpu = stats.cpu.unwrap();
    assert_eq!(
        (cpu.usage_ns, cpu.throttled_periods, cpu.throttled_ns),
        (7000, 1, 2000)
    );
    let memory = stats.memory.unwrap();
    assert_eq!((memory.usage, memory.working_set, memory.rss), (1000, 600, 300));
    assert_eq!(
        (memory.limit, memory.swap, memory.swap_limit),
        (None, 10, Some(20))
    );
    assert_eq!((memory.page_faults, memory.oom_kills), (5, 1));
    let pids = stats.pids.unwrap();
    assert_eq!((pids.current, pids.limit), (4, Some(100)));
}

#[test]
fn pressure_files() {
    let text =
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7";
    let pressure = pressure::parse(text).unwrap();
    let some = pressure.some.unwrap();
    assert_eq!((some.avg10, some.avg60, some.total_ns), (1.5, 0.25, 12_000));
    assert_eq!(pressure.full.unwrap().total_ns, 7_000);
    assert_eq!(
        pressure::parse("some avg10=nan total=-1").unwrap().some,
        Some(Stalls::default())
    );
    assert_eq!(pressure::parse("something else\nfullest x=1"), None);
    assert_eq!(pressure::parse(""), None);
}

#[test]
fn v2_pressure_where_the_kernel_has_it() {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join("pod/c");
    fs::create_dir_all(&group).unwrap();
    fs::write(
        group.join("memory.pressure"),
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
    )
    .unwrap();
    let layout = Layout::V2 {
        mount_point: root.path().to_path_buf(),
        flags: Vec::new(),
    };
    let cgroups = Cgroups::with(Driver::Cgroupfs, layout).unwrap();
    let path = cgroups.container_path("/pod", "c").unwrap();
    let pressures = cgroups.open_counters(&path).unwrap().pressures();
    assert_eq!(pressures.memory.unwrap().some.unwrap().total_ns, 3000);
    assert_eq!((pressures.cpu, pressures.io), (None, None));
    let pod = path.parent().unwrap();
    assert_eq!(
        cgroups.open_counters(&pod).unwrap().pressures(),
        Pressures::default()
    );
}
