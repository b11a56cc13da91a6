//! cgroup v2 on a directory that looks like one.

use std::fs;
use std::path::Path;

use pausa_monitor_protocol::FdRole;

use crate::cgroups::*;
use crate::error::{ErrorKind, Kinded};
use crate::proto::v1;

/// A directory that looks like a cgroup2 file system whose cgroup `c` is there already.
fn fake_v2(files: &[&str]) -> (tempfile::TempDir, Cgroups) {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join("kubepods/pod1/c");
    fs::create_dir_all(&group).unwrap();
    for dir in ["", "kubepods", "kubepods/pod1"] {
        let dir = root.path().join(dir);
        fs::write(dir.join("cgroup.controllers"), "cpu memory\n").unwrap();
        fs::write(dir.join("cgroup.subtree_control"), "cpu\n").unwrap();
    }
    for file in files {
        fs::write(group.join(file), "").unwrap();
    }
    let layout = Layout::V2 {
        mount_point: root.path().to_path_buf(),
        flags: Vec::new(),
    };
    let cgroups = Cgroups::with(Driver::Cgroupfs, layout).unwrap();
    (root, cgroups)
}

fn create_fake(cgroups: &Cgroups, cri: &v1::LinuxContainerResources) -> Result<Cgroup, CgroupError> {
    let path = cgroups.container_path("/kubepods/pod1", "c").unwrap();
    cgroups.create(&path, &cri.clone().into(), &[])
}

fn file(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn v2_limits_are_written_and_controllers_switched_on() {
    let (root, cgroups) = fake_v2(&[
        "cpu.max",
        "cpu.weight",
        "memory.max",
        "memory.swap.max",
        "memory.oom.group",
    ]);
    let cri = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 1024,
        memory_limit_in_bytes: 1 << 20,
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let cgroup = create_fake(&cgroups, &cri).unwrap();
    let group = root.path().join("kubepods/pod1/c");
    assert_eq!(file(&group, "cpu.max"), "20000 100000");
    assert_eq!(file(&group, "cpu.weight"), "100");
    assert_eq!(file(&group, "memory.max"), "1048576");
    assert_eq!(file(&group, "memory.swap.max"), "0");
    assert_eq!(file(&group, "memory.oom.group"), "1");
    // A real file would add up; what matters is that it was asked for, all the way down.
    assert!(file(root.path(), "kubepods/pod1/cgroup.subtree_control").starts_with("+memory"));
    let fds = cgroup.join_fds().unwrap();
    assert!(matches!(fds.as_slice(), [(FdRole::CgroupDir, _)]));
}

#[test]
fn v2_a_period_alone_keeps_the_quota() {
    let (root, cgroups) = fake_v2(&["cpu.max"]);
    let cpu = |cpu_quota, cpu_period| v1::LinuxContainerResources {
        cpu_quota,
        cpu_period,
        ..Default::default()
    };
    let cgroup = create_fake(&cgroups, &cpu(20_000, 100_000)).unwrap();
    let max = root.path().join("kubepods/pod1/c/cpu.max");
    // As the kernel says it; a real file is replaced by a write.
    fs::write(&max, "20000 100000\n").unwrap();
    cgroup.update(&cpu(0, 200_000).into()).unwrap();
    assert!(fs::read_to_string(&max).unwrap().starts_with("20000 200000"));
    fs::write(&max, "max 200000\n").unwrap();
    cgroup.update(&cpu(0, 100_000).into()).unwrap();
    assert!(fs::read_to_string(&max).unwrap().starts_with("max 100000"));
}

/// As systemd does on `daemon-reload`.
#[test]
fn v2_limits_that_somebody_else_has_written_over_are_restored() {
    let (root, cgroups) = fake_v2(&["cpu.max", "memory.max", "memory.swap.max", "memory.oom.group"]);
    let cri = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 33_300,
        memory_limit_in_bytes: 1 << 20,
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 0,
        }],
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let cgroup = create_fake(&cgroups, &cri).unwrap();
    let group = root.path().join("kubepods/pod1/c");
    fs::write(group.join("memory.oom.group"), "0\n").unwrap();
    fs::write(group.join("cpu.max"), "34000 100000\n").unwrap();
    fs::write(group.join("memory.max"), "1048576\n").unwrap();
    cgroup.restore(&cri.into()).unwrap();
    assert!(file(&group, "memory.oom.group").starts_with('1'));
    assert!(file(&group, "cpu.max").starts_with("33300 100000"));
    assert_eq!(
        file(&group, "memory.max"),
        "1048576\n",
        "what is right is not written"
    );
    assert!(
        !group.join("hugetlb.2MB.max").exists(),
        "nor what the kernel does not have"
    );
}

#[test]
fn v2_limits_of_unified_outlast_a_restore() {
    let (root, cgroups) = fake_v2(&["memory.max", "memory.swap.max"]);
    let cri = v1::LinuxContainerResources {
        memory_limit_in_bytes: 1 << 20,
        unified: [("memory.max".to_owned(), "2097152".to_owned())].into(),
        ..Default::default()
    };
    let cgroup = create_fake(&cgroups, &cri).unwrap();
    cgroup.restore(&cri.into()).unwrap();
    assert_eq!(
        file(&root.path().join("kubepods/pod1/c"), "memory.max"),
        "2097152"
    );
}

#[test]
fn v2_without_a_controller_names_the_field() {
    let (_root, cgroups) = fake_v2(&["cpu.max"]);
    let cri = v1::LinuxContainerResources {
        memory_limit_in_bytes: 1 << 20,
        ..Default::default()
    };
    let error = create_fake(&cgroups, &cri).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("memory_limit_in_bytes"), "{error}");
}

#[test]
fn a_symlink_is_no_cgroup() {
    let (root, cgroups) = fake_v2(&[]);
    std::os::unix::fs::symlink("/", root.path().join("out")).unwrap();
    let path = cgroups.container_path("/out", "etc").unwrap();
    assert!(cgroups.open(&path).is_err());
}

/// What CRI says in `unified` comes before what the handler says.
#[test]
fn v2_a_handlers_limit_of_pids_is_written() {
    let (root, cgroups) = fake_v2(&["pids.max"]);
    let group = root.path().join("kubepods/pod1/c");
    let path = cgroups.container_path("/kubepods/pod1", "c").unwrap();
    let mut limits = Limits {
        pids: Some(70),
        ..Default::default()
    };
    cgroups.create(&path, &limits, &[]).unwrap();
    assert_eq!(file(&group, "pids.max"), "70");
    limits
        .resources
        .unified
        .insert("pids.max".to_owned(), "90".to_owned());
    cgroups.create(&path, &limits, &[]).unwrap();
    assert_eq!(file(&group, "pids.max"), "90");
}

/// What CRI says in `unified` comes before what the handler says; a kernel without bursts runs the container all the same.
#[test]
fn v2_a_handlers_burst_is_written() {
    let (root, cgroups) = fake_v2(&["cpu.max", "cpu.max.burst"]);
    let group = root.path().join("kubepods/pod1/c");
    let path = cgroups.container_path("/kubepods/pod1", "c").unwrap();
    let mut limits = Limits {
        resources: v1::LinuxContainerResources {
            cpu_quota: 30_000,
            ..Default::default()
        },
        cpu_burst: Some(50),
        ..Default::default()
    };
    cgroups.create(&path, &limits, &[]).unwrap();
    assert_eq!(file(&group, "cpu.max.burst"), "15000");
    limits
        .resources
        .unified
        .insert("cpu.max.burst".to_owned(), "12345".to_owned());
    cgroups.create(&path, &limits, &[]).unwrap();
    assert_eq!(file(&group, "cpu.max.burst"), "12345");
    limits.resources.unified.clear();
    fs::remove_file(group.join("cpu.max.burst")).unwrap();
    cgroups.create(&path, &limits, &[]).unwrap();
    assert!(!group.join("cpu.max.burst").exists());
}

/// Weights are in the kernel's own file where there is no BFQ, and what others write over is written again.
#[test]
fn v2_a_block_io_class_is_written_and_restored() {
    use crate::cgroups::blockio::{Device, Parameter};
    let (root, cgroups) = fake_v2(&["io.weight", "io.max"]);
    let group = root.path().join("kubepods/pod1/c");
    let path = cgroups.container_path("/kubepods/pod1", "c").unwrap();
    let disk = Some(Device { major: 8, minor: 0 });
    let rules = [(None, Parameter::Weight, 1000), (disk, Parameter::ReadBps, 4096)];
    let mut limits = Limits {
        block_io: rules
            .map(|(device, parameter, value)| Rule {
                device,
                parameter,
                value,
            })
            .into(),
        ..Default::default()
    };
    let cgroup = cgroups.create(&path, &limits, &[]).unwrap();
    let line = "8:0 rbps=4096 wbps=max riops=max wiops=max";
    assert_eq!(file(&group, "io.weight"), "default 10000");
    assert_eq!(file(&group, "io.max"), line);
    fs::write(group.join("io.weight"), "default 100  \n").unwrap();
    let kept = format!("7:0 rbps=1\n{line}\n");
    fs::write(group.join("io.max"), &kept).unwrap();
    cgroup.restore(&limits).unwrap();
    assert!(file(&group, "io.weight").starts_with("default 10000"));
    assert_eq!(file(&group, "io.max"), kept);

    limits
        .resources
        .unified
        .insert("io.max".to_owned(), "8:0 rbps=1".to_owned());
    fs::write(group.join("io.max"), "").unwrap();
    cgroups.create(&path, &limits, &[]).unwrap();
    assert_eq!(file(&group, "io.max"), "8:0 rbps=1");
    limits.resources.unified.clear();
    fs::remove_file(group.join("io.weight")).unwrap();
    let error = cgroups.create(&path, &limits, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let text = error.to_string();
    assert!(
        text.contains("io.weight") && text.contains("CONFIG_BFQ"),
        "{text}"
    );
}

/// A pod that has reached its limit of pids: nothing can be made in it.
#[test]
fn v2_births_are_outside_of_every_pod_and_small() {
    let (root, cgroups) = fake_v2(&[]);
    let group = root.path().join("pausa/pausa-exec-0123456789abc/exec");
    fs::create_dir_all(&group).unwrap();
    for name in ["pids.max", "memory.max", "memory.swap.max"] {
        fs::write(group.join(name), "").unwrap();
    }
    let cgroup = cgroups.create_birth("0123456789abcdef", "exec", &[]).unwrap();
    assert_eq!(cgroup.path.relative(), "pausa/pausa-exec-0123456789abc/exec");
    assert_eq!(file(&group, "pids.max"), "2");
    assert_eq!(file(&group, "memory.max"), "16777216");
    assert_eq!(file(&group, "memory.swap.max"), "0");
}

#[test]
fn monitors_are_in_the_pods_cgroup() {
    let (_root, cgroups) = fake_v2(&[]);
    let path = cgroups
        .monitor_path("/kubepods/pod1", "0123456789abcdef")
        .unwrap();
    assert_eq!(path.relative(), "kubepods/pod1/pausa-monitor-0123456789abcdef");
}
