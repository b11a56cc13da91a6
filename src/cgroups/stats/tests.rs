use std::fs;

use super::parse::{Keyed, limit};
use super::*;
use crate::cgroups::{Cgroups, Driver, Hierarchy, Layout};

#[test]
fn the_kernels_forms() {
    assert_eq!(limit("max"), None);
    assert_eq!(limit("9223372036854771712"), None);
    assert_eq!(limit("4096"), Some(4096));
    let stat = Keyed::new("nr_periods 5\nnr_throttled 2\nnr 9");
    assert_eq!(
        (stat.count("nr_throttled"), stat.count("nr"), stat.count("x")),
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
            "usage_usec 7\nuser_usec 5\nsystem_usec 2\nnr_periods 3\nnr_throttled 1\nthrottled_usec 2\n",
        ),
        ("memory.current", "1000\n"),
        (
            "memory.stat",
            "anon 300\nfile 600\nkernel 50\nfile_mapped 20\ninactive_file 400\nactive_file 200\npgfault 5\npgmajfault 1\n",
        ),
        ("memory.max", "max\n"),
        ("memory.swap.current", "10\n"),
        ("memory.swap.max", "20\n"),
        ("memory.peak", "2000\n"),
        ("memory.events", "max 4\noom 2\noom_kill 1\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
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
    assert_eq!(cgroup.stats().unwrap().io, []);
    let stats = cgroup.detailed_stats().unwrap();
    let cpu = stats.cpu.unwrap();
    let (times, throttling) = (cpu.times.unwrap(), cpu.throttling.unwrap());
    assert_eq!((cpu.usage_ns, times.user_ns, times.system_ns), (7000, 5000, 2000));
    assert_eq!(
        (
            throttling.periods,
            throttling.throttled_periods,
            throttling.throttled_ns
        ),
        (3, 1, 2000)
    );
    assert_eq!(stats.io[0].bytes[1], (Operation::Write, 2));
    let memory = stats.memory.unwrap();
    assert_eq!(
        (memory.kernel, memory.peak, memory.limit_hits),
        (Some(50), Some(2000), Some(4))
    );
    assert_eq!(
        (memory.mapped_file, memory.active_file, memory.inactive_file),
        (Some(20), Some(200), Some(400))
    );
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
fn v2_without_controllers_tells_less() {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join("pod/c");
    fs::create_dir_all(&group).unwrap();
    for (file, text) in [
        ("cpu.stat", "usage_usec 7\nuser_usec 5\nsystem_usec 2\n"),
        ("memory.current", "1000\n"),
        // Linux 5.15 has no sum.
        (
            "memory.stat",
            "kernel_stack 1\npagetables 2\npercpu 3\nslab 4\nslab_x 9\n",
        ),
    ] {
        fs::write(group.join(file), text).unwrap();
    }
    let layout = Layout::V2 {
        mount_point: root.path().to_path_buf(),
        flags: Vec::new(),
    };
    let cgroups = Cgroups::with(Driver::Cgroupfs, layout).unwrap();
    let path = cgroups.container_path("/pod", "c").unwrap();
    let stats = cgroups
        .open_all_counters(&path)
        .unwrap()
        .detailed_stats()
        .unwrap();
    assert_eq!(stats.cpu.unwrap().throttling, None);
    let memory = stats.memory.unwrap();
    assert_eq!(
        (memory.kernel, memory.peak, memory.limit_hits),
        (Some(10), None, None)
    );
    assert_eq!((stats.io, stats.huge_pages), (Vec::new(), Vec::new()));
}

#[test]
fn v1_numbers_from_files() {
    let root = tempfile::tempdir().unwrap();
    let mut hierarchies = Vec::new();
    for (controller, files) in [
        (
            "cpuacct",
            &[("cpuacct.usage", "7\n"), ("cpuacct.stat", "user 5\nsystem 2\n")] as &[_],
        ),
        (
            "cpu",
            &[("cpu.stat", "nr_periods 3\nnr_throttled 1\nthrottled_time 2\n")],
        ),
        (
            "memory",
            &[
                ("memory.usage_in_bytes", "1000\n"),
                (
                    "memory.stat",
                    "pgfault 4\npgmajfault 0\ntotal_mapped_file 20\ntotal_pgfault 5\ntotal_pgmajfault 1\n\
                     total_inactive_file 400\ntotal_active_file 200\n",
                ),
                ("memory.max_usage_in_bytes", "2000\n"),
                ("memory.failcnt", "4\n"),
                ("memory.kmem.usage_in_bytes", "50\n"),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
                ),
            ],
        ),
        (
            "blkio",
            &[
                (
                    "blkio.throttle.io_service_bytes_recursive",
                    "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
                ),
                (
                    "blkio.throttle.io_serviced_recursive",
                    "8:0 Read 3\n8:0 Write 4\nTotal 7\n",
                ),
            ],
        ),
    ] {
        let mount_point = root.path().join(controller);
        let group = mount_point.join("pod/c");
        fs::create_dir_all(&group).unwrap();
        for (file, text) in files {
            fs::write(group.join(file), text).unwrap();
        }
        hierarchies.push(Hierarchy {
            controllers: vec![controller.to_owned()],
            mount_point,
        });
    }
    let cgroups = Cgroups::with(Driver::Cgroupfs, Layout::V1 { hierarchies }).unwrap();
    let path = cgroups.container_path("/pod", "c").unwrap();
    let stats = cgroups
        .open_all_counters(&path)
        .unwrap()
        .detailed_stats()
        .unwrap();
    let cpu = stats.cpu.unwrap();
    let (times, throttling) = (cpu.times.unwrap(), cpu.throttling.unwrap());
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    assert_eq!((times.user_ns, times.system_ns), (5 * tick, 2 * tick));
    assert_eq!((throttling.periods, throttling.throttled_ns), (3, 2));
    let memory = stats.memory.unwrap();
    assert_eq!(
        (memory.kernel, memory.peak, memory.limit_hits, memory.oom_kills),
        (Some(50), Some(2000), Some(4), 1)
    );
    assert_eq!((memory.own_page_faults, memory.page_faults), (4, 5));
    assert_eq!((memory.mapped_file, memory.active_file), (Some(20), Some(200)));
    assert_eq!(
        stats.io[0].requests,
        [(Operation::Read, 3), (Operation::Write, 4)]
    );
    // What stats do without is not read for them.
    let stats = cgroups.open_counters(&path).unwrap().stats().unwrap();
    assert_eq!(stats.cpu.unwrap().times, None);
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
