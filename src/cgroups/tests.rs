mod oracle;
mod v2;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use pausa_monitor_protocol::FdRole;

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::proto::v1;

/// What CRI asks for and nothing else.
impl From<v1::LinuxContainerResources> for Limits {
    fn from(resources: v1::LinuxContainerResources) -> Self {
        Self {
            resources,
            ..Self::default()
        }
    }
}

/// A parent of this test alone, on the node's own cgroups; gone at the end whatever happens.
struct Playground {
    cgroups: Cgroups,
    parent: String,
}

impl Playground {
    fn new(name: &str) -> Self {
        let cgroups = Cgroups::new(CgroupDriver::Cgroupfs).unwrap();
        let parent = format!("/pausa-test-{name}-{}", std::process::id());
        Self { cgroups, parent }
    }

    fn create(&self, id: &str, cri: &v1::LinuxContainerResources) -> Result<Cgroup, CgroupError> {
        let path = self.cgroups.container_path(&self.parent, id)?;
        self.cgroups.create(&path, &cri.clone().into(), &[])
    }

    /// What is in a file of a controller.
    fn read(&self, controller: &str, id: &str, file: &str) -> String {
        let root = self.root(controller);
        let path = root.join(&self.parent[1..]).join(id).join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn root(&self, controller: &str) -> PathBuf {
        match &self.cgroups.layout {
            Layout::V2 { mount_point, .. } => mount_point.clone(),
            Layout::V1 { hierarchies } => hierarchies
                .iter()
                .find(|one| one.controllers.iter().any(|name| name == controller))
                .unwrap()
                .mount_point
                .clone(),
        }
    }

    /// Whether this node has a controller: not on a v2 if it is another hierarchy's.
    fn has(&self, controller: &str) -> bool {
        match &self.cgroups.layout {
            Layout::V2 { mount_point, .. } => {
                let offered = fs::read_to_string(mount_point.join("cgroup.controllers")).unwrap();
                offered.split_whitespace().any(|name| name == controller)
            }
            Layout::V1 { hierarchies } => {
                let mut names = hierarchies.iter().flat_map(|one| &one.controllers);
                names.any(|name| name == controller)
            }
        }
    }

    /// Whether memory is limited and counted here.
    fn has_memory(&self) -> bool {
        self.has("memory")
    }

    fn is_v1(&self) -> bool {
        if self.cgroups.layout.is_v2() {
            println!("skipped: needs cgroup v1");
        }
        !self.cgroups.layout.is_v2()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        for root in &self.cgroups.roots {
            let removed = root.dir.remove(&self.parent[1..]).unwrap();
            assert!(removed || std::thread::panicking(), "{} is busy", self.parent);
        }
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

#[test]
#[ignore = "needs root"]
fn v1_limits_are_what_cri_said() {
    let Some(ground) = Some(Playground::new("limits")).filter(Playground::is_v1) else {
        return;
    };
    let cri = v1::LinuxContainerResources {
        cpu_period: 50_000,
        cpu_quota: 25_000,
        cpu_shares: 1,
        memory_limit_in_bytes: 64 << 20,
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 0,
        }],
        ..Default::default()
    };
    let cgroup = ground.create("c", &cri).unwrap();
    assert_eq!(ground.read("cpu", "c", "cpu.cfs_period_us"), "50000\n");
    assert_eq!(ground.read("cpu", "c", "cpu.cfs_quota_us"), "25000\n");
    assert_eq!(ground.read("cpu", "c", "cpu.shares"), "2\n");
    assert_eq!(ground.read("memory", "c", "memory.limit_in_bytes"), "67108864\n");
    assert_ne!(ground.read("cpuset", "c", "cpuset.cpus"), "\n");
    // The kernel would compute all scheduling domains anew for each container.
    assert_eq!(ground.read("cpuset", "c", "cpuset.sched_load_balance"), "0\n");
    let group = ground.root("pids").join(&ground.parent[1..]).join("c");
    fs::write(group.join("pids.max"), "100").unwrap();
    let stats = cgroup.stats().unwrap();
    assert_eq!(stats.memory.unwrap().limit, Some(64 << 20));
    assert_eq!(stats.pids.unwrap().limit, Some(100));
    cgroup.remove().unwrap();
    assert!(matches!(
        ground.cgroups.open(&cgroup.path),
        Err(CgroupError::NotFound { .. })
    ));
}

#[test]
#[ignore = "needs root"]
fn v1_limits_go_up_and_down() {
    let Some(ground) = Some(Playground::new("update")).filter(Playground::is_v1) else {
        return;
    };
    let memory = |limit: i64| v1::LinuxContainerResources {
        memory_limit_in_bytes: limit,
        ..Default::default()
    };
    let cgroup = ground.create("c", &memory(64 << 20)).unwrap();
    for limit in [128 << 20, 32 << 20, 256 << 20] {
        cgroup.update(&memory(limit).into()).unwrap();
        let now = ground.read("memory", "c", "memory.limit_in_bytes");
        assert_eq!(now.trim().parse::<i64>().unwrap(), limit);
    }
    cgroup.update(&memory(-1).into()).unwrap();
    assert_eq!(cgroup.stats().unwrap().memory.unwrap().limit, None);
    let cpu = |period, quota| v1::LinuxContainerResources {
        cpu_period: period,
        cpu_quota: quota,
        ..Default::default()
    };
    // The parent's limit makes the kernel check the ratio at each write.
    let parent = ground.root("cpu").join(&ground.parent[1..]);
    fs::write(parent.join("cpu.cfs_quota_us"), "50000").unwrap();
    for (period, quota) in [(100_000, 50_000), (10_000, 5_000), (100_000, 40_000)] {
        cgroup.update(&cpu(period, quota).into()).unwrap();
        assert_eq!(
            ground.read("cpu", "c", "cpu.cfs_period_us"),
            format!("{period}\n")
        );
        assert_eq!(ground.read("cpu", "c", "cpu.cfs_quota_us"), format!("{quota}\n"));
    }
    let error = cgroup.update(&cpu(100_000, 90_000).into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("linux.resources.cpu_quota"), "{error}");
}

/// The kernel refuses a burst above the quota at each write, so a wrong order fails here.
#[test]
#[ignore = "needs root"]
fn a_burst_follows_the_quota_up_and_down() {
    let ground = Playground::new("burst");
    let limits = |quota| Limits {
        resources: v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: quota,
            ..Default::default()
        },
        cpu_burst: Some(100),
        ..Limits::default()
    };
    let path = ground.cgroups.container_path(&ground.parent, "c").unwrap();
    let Ok(cgroup) = ground.cgroups.create(&path, &limits(20_000), &[]) else {
        println!("skipped: needs a cpu controller");
        return;
    };
    let (quota_file, burst_file) = match ground.cgroups.layout.is_v2() {
        true => ("cpu.max", "cpu.max.burst"),
        false => ("cpu.cfs_quota_us", "cpu.cfs_burst_us"),
    };
    let burst = || ground.read("cpu", "c", burst_file).trim_end().to_owned();
    let quota = || ground.read("cpu", "c", quota_file);
    assert_eq!(burst(), "20000");
    for (wanted, expected) in [(50_000, "50000"), (10_000, "10000"), (-1, "0"), (30_000, "30000")] {
        cgroup.update(&limits(wanted)).unwrap();
        assert_eq!(burst(), expected);
        assert!(wanted == -1 || quota().starts_with(expected), "{}", quota());
    }
    // Refused at its end, after both were lowered; what is written then are the limits of before.
    let mut refused = limits(10_000);
    refused.resources.cpuset_cpus = "4000".to_owned();
    cgroup.update(&refused).unwrap_err();
    cgroup.update(&limits(30_000)).unwrap();
    assert_eq!((burst().as_str(), &quota()[..5]), ("30000", "30000"));
    // Somebody else's.
    cgroup.update(&limits(5_000)).unwrap();
    cgroup.restore(&limits(30_000)).unwrap();
    assert_eq!((burst().as_str(), &quota()[..5]), ("30000", "30000"));
    cgroup.restore(&limits(5_000)).unwrap();
    assert_eq!((burst().as_str(), &quota()[..4]), ("5000", "5000"));
}

#[test]
#[ignore = "needs root"]
fn a_process_joins_is_counted_killed_and_gone() {
    let ground = Playground::new("process");
    let cgroup = ground
        .create("c", &v1::LinuxContainerResources::default())
        .unwrap();
    let mut child = sleeper();
    let pid = i32::try_from(child.id()).unwrap();
    cgroup.place(pid).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [pid]);
    assert_eq!(cgroup.oom_events().is_some(), ground.has_memory());
    assert!(matches!(cgroup.remove(), Err(CgroupError::Busy { pids, .. }) if pids == [pid]));
    cgroup.kill_all().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
    assert!(!ground.root("memory").join(&ground.parent[1..]).join("c").exists());
}

#[test]
#[ignore = "needs root"]
fn every_join_fd_takes_a_process() {
    let Some(ground) = Some(Playground::new("join")).filter(Playground::is_v1) else {
        return;
    };
    let cgroup = ground
        .create("c", &v1::LinuxContainerResources::default())
        .unwrap();
    let mut child = sleeper();
    let fds = cgroup.join_fds().unwrap();
    assert_eq!(fds.len(), ground.cgroups.roots.len());
    for (role, fd) in fds {
        assert_eq!(role, FdRole::CgroupTasks);
        rustix::io::write(&fd, child.id().to_string().as_bytes()).unwrap();
    }
    let of_child = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let here = format!("{}/c", ground.parent);
    let v1_lines = of_child.lines().filter(|line| !line.starts_with("0::"));
    assert!(v1_lines.clone().all(|line| line.ends_with(&here)), "{of_child}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "needs root"]
fn removal_takes_what_the_container_made_beneath() {
    let ground = Playground::new("beneath");
    let cgroup = ground
        .create("c", &v1::LinuxContainerResources::default())
        .unwrap();
    let beneath = ground.root("memory").join(&ground.parent[1..]).join("c/a/b");
    fs::create_dir_all(&beneath).unwrap();
    cgroup.remove().unwrap();
    assert!(!beneath.exists());
    ground.cgroups.remove(&cgroup.path).unwrap();
}

#[test]
#[ignore = "needs root"]
fn what_the_kernel_refuses_leaves_nothing_behind() {
    let Some(ground) = Some(Playground::new("refused")).filter(Playground::is_v1) else {
        return;
    };
    let cri = v1::LinuxContainerResources {
        cpuset_cpus: "4000".to_owned(),
        ..Default::default()
    };
    let error = ground.create("c", &cri).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error.to_string().contains("linux.resources.cpuset_cpus"),
        "{error}"
    );
    assert!(!ground.root("cpuset").join(&ground.parent[1..]).join("c").exists());
}

/// v1 refuses what v2 takes: a set that the cgroup above does not have all of, and one without what a cgroup beneath has.
#[test]
#[ignore = "needs root"]
fn a_pool_yields_to_what_is_around_it() {
    let ground = Playground::new("pool");
    let all = ground.cgroups.effective_cpus().unwrap().unwrap_or_default();
    if all.len() < 2 {
        println!("skipped: needs a cpuset controller and two CPUs");
        return;
    }
    let (first, second) = (all.first(1), all.difference(&all.first(1)).first(1));
    let cgroup = ground
        .create("c", &v1::LinuxContainerResources::default())
        .unwrap();
    let parent = ground.root("cpuset").join(&ground.parent[1..]);
    let effective = || {
        let cpus = ground.cgroups.effective_cpus_of(&cgroup.path);
        cpus.unwrap().unwrap()
    };
    let narrow = |cpus: &CpuSet| fs::write(parent.join("cpuset.cpus"), cpus.to_string());
    cgroup.set_pool(&first).unwrap();
    narrow(&first).unwrap();
    for wanted in [&all, &second, &first] {
        cgroup.set_pool(wanted).unwrap();
        assert_eq!(effective(), first, "{wanted}");
        ground
            .cgroups
            .move_all(std::slice::from_ref(&cgroup.path), wanted);
        assert_eq!(effective(), first, "{wanted}");
    }
    // An update says it with the other limits. What the client wants is not changed: v1 refuses it.
    let limits = |pool, cpuset_cpus: String| Limits {
        pool,
        resources: v1::LinuxContainerResources {
            cpuset_cpus,
            ..Default::default()
        },
        ..Limits::default()
    };
    let pool = cpus::Pool {
        cpus: all.clone(),
        mems: "0".parse().unwrap(),
    };
    cgroup.update(&limits(Some(pool), String::new())).unwrap();
    let refused = cgroup.update(&limits(None, all.to_string()));
    assert_eq!(refused.is_err(), !ground.cgroups.layout.is_v2());
    assert_eq!(effective(), first);

    // From one CPU to another, with a cgroup of the container's own beneath.
    narrow(&all).unwrap();
    cgroup.set_pool(&first).unwrap();
    let beneath = ground
        .cgroups
        .container_path(&cgroup.path.relative(), "own")
        .unwrap();
    let own = ground.cgroups.create(&beneath, &Limits::default(), &[]).unwrap();
    for wanted in [&second, &first, &all] {
        cgroup.set_pool(wanted).unwrap();
        assert_eq!(effective(), *wanted);
        let of_own = ground.cgroups.effective_cpus_of(&own.path).unwrap().unwrap();
        assert!(of_own.is_subset(wanted), "{of_own} of {wanted}");
    }
}

#[test]
#[ignore = "needs root"]
fn v1_device_rules_are_in_force() {
    let Some(ground) = Some(Playground::new("devices")).filter(Playground::is_v1) else {
        return;
    };
    let rule = |allow, typ, major| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow).set_typ(Some(typ)).set_major(major);
        rule
    };
    let devices = [
        rule(false, LinuxDeviceType::A, None),
        rule(true, LinuxDeviceType::C, Some(1)),
    ];
    let path = ground.cgroups.container_path(&ground.parent, "c").unwrap();
    let cri = v1::LinuxContainerResources::default();
    let cgroup = ground
        .cgroups
        .create(&path, &cri.clone().into(), &devices)
        .unwrap();
    assert_eq!(ground.read("devices", "c", "devices.list"), "c 1:* rwm\n");
    // Made again, as a retried operation does.
    ground.cgroups.create(&path, &cri.into(), &devices).unwrap();
    cgroup.remove().unwrap();
}

#[test]
#[ignore = "needs root"]
fn memory_below_use_is_refused_with_both_numbers() {
    let Some(ground) = Some(Playground::new("below")).filter(Playground::has_memory) else {
        println!("skipped: needs a memory controller");
        return;
    };
    let cgroup = ground
        .create("c", &v1::LinuxContainerResources::default())
        .unwrap();
    // 32 MiB of anonymous memory, then asleep.
    let script = "x=$(head -c 33554432 /dev/zero | tr '\\0' x); echo ready; read -r _";
    let mut child = Command::new("sh")
        .args(["-c", &format!("read -r _; {script}")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    cgroup.place(i32::try_from(child.id()).unwrap()).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"\n").unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let small = v1::LinuxContainerResources {
        memory_limit_in_bytes: 8 << 20,
        ..Default::default()
    };
    let error = cgroup.update(&small.into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(matches!(error, CgroupError::BelowUse { limit, used } if limit == 8 << 20 && used > 32 << 20));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "needs root"]
fn who_forks_while_being_killed_is_killed_too() {
    let ground = Playground::new("forks");
    let cgroup = ground
        .create("c", &v1::LinuxContainerResources::default())
        .unwrap();
    let script = "read -r _; while :; do sleep 1000 & sleep 0.01; done";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    cgroup.place(i32::try_from(child.id()).unwrap()).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    let start = std::time::Instant::now();
    while cgroup.pids().unwrap().len() < 5 {
        assert!(start.elapsed().as_secs() < 30, "the script does not fork");
        std::thread::yield_now();
    }
    cgroup.kill_all().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
}

#[test]
#[ignore = "needs root"]
fn the_default_parent_comes_and_goes_with_many_at_once() {
    let ground = Playground::new("default");
    let before = ground.root("memory").join("pausa").exists();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cgroups = &ground.cgroups;
            scope.spawn(move || {
                for round in 0..20 {
                    let id = format!("test-{}-{thread}-{round}", std::process::id());
                    let path = cgroups.container_path("", &id).unwrap();
                    let cri = v1::LinuxContainerResources::default();
                    cgroups
                        .create(&path, &cri.clone().into(), &[])
                        .unwrap()
                        .remove()
                        .unwrap();
                }
            });
        }
    });
    let after = ground.root("memory").join("pausa").exists();
    assert_eq!(before, after);
}

#[test]
fn without_a_devices_controller_only_the_privileged_start() {
    let root = tempfile::tempdir().unwrap();
    let hierarchies = vec![Hierarchy {
        controllers: vec!["pids".to_owned()],
        mount_point: root.path().to_path_buf(),
    }];
    let layout = Layout::V1 { hierarchies };
    let cgroups = Cgroups::with(Driver::Cgroupfs, layout).unwrap();
    let create = |id: &str, allow: bool| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow);
        let path = cgroups.container_path("/p", id).unwrap();
        cgroups.create(&path, &Limits::default(), &[rule])
    };
    create("privileged", true).unwrap();
    let error = create("other", false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("devices"), "{error}");
    assert!(!root.path().join("p/other").exists());
}
