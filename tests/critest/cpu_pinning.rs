//! CPUs of their own for containers of Guaranteed pods: who runs where, as the kernel has it.
//!
//! The tests need two CPUs, and take more where there are more.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pausa::proto::v1;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

use crate::harness::cgroup::{file, is_v2, value};
use crate::harness::pod::monitor_of;
use crate::harness::slot::has_slices;
use crate::harness::terminal::{Screen, two_frames};
use crate::harness::{Container, Node, PATIENCE, Pod, eventually, on_own_node, strings};
use crate::silent_monitor::Stopped;

const PINNING: &str = "[cpu]\npinning = \"static\"\n";
const MIB: i64 = 1024 * 1024;

type Cpus = BTreeSet<usize>;

/// What a Guaranteed container has that asks for thousandths of CPUs.
fn guaranteed(milli: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_shares: milli * 1024 / 1000,
        cpu_quota: milli * 100,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 * MIB,
        ..Default::default()
    }
}

/// A container whose threads are always busy.
async fn spinning<'a>(pod: &'a Pod<'_>) -> Container<'a> {
    let spin = "trap 'exit 0' TERM; for i in 1 2 3; do (while :; do :; done) & done; wait";
    pod.start(|config| config.command = strings(&["sh", "-c", spin]))
        .await
}

fn parse(list: &str) -> Cpus {
    let ranges = list.trim().split(',').filter(|range| !range.is_empty());
    ranges
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().expect("a number")..=last.parse().expect("a number")
        })
        .collect()
}

/// The CPUs that this test may use, hence all containers together.
fn all() -> Cpus {
    of_task("/proc/self").expect("our own")
}

fn of_task(dir: &str) -> Option<Cpus> {
    let status = std::fs::read_to_string(format!("{dir}/status")).ok()?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Some(parse(list.expect("every task has CPUs")))
}

/// The CPUs of every task below a process: its own threads, its children and their threads.
fn of_tree(pid: i32) -> Vec<Cpus> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        found.extend(of_task(&task.path().display().to_string()));
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            found.extend(of_tree(child.parse().expect("a process id")));
        }
    }
    found
}

/// Waits until every task of a container runs on these CPUs.
async fn runs_on(container: &Container<'_>, cpus: &Cpus) {
    let pid = container.pid().await;
    let began = Instant::now();
    loop {
        let found = of_tree(pid);
        if !found.is_empty() && found.iter().all(|one| one == cpus) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{found:?} instead of {cpus:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn cpus_of(container: &Container<'_>) -> Cpus {
    of_task(&format!("/proc/{}", container.pid().await)).expect("it runs")
}

/// Runs a test with a daemon of its own, beside others that pin CPUs; alone if what it does takes CPUs from all of them.
fn on_cpus(operation: FlockOperation, test: impl AsyncFnOnce(&Node)) {
    let path = std::env::temp_dir().join("pausa-critest-cpus.lock");
    let file = std::fs::File::create(path).expect("a file to lock");
    flock(&file, operation).expect("a lock");
    on_own_node(test);
}

const SHARED: FlockOperation = FlockOperation::LockShared;
const ALONE: FlockOperation = FlockOperation::LockExclusive;

async fn pinning(node: &Node) {
    node.pull("base").await;
    node.restart_with(Some(PINNING)).await;
}

/// A pinned container has no quota, hence no burst; it gets one with its quota.
#[test]
#[ignore = "needs root"]
fn a_pinned_container_has_no_burst() {
    on_cpus(SHARED, async |node| {
        node.pull("base").await;
        let configuration = format!("{PINNING}[handlers.\"\"]\ncpu_burst = 50\n");
        node.restart_with(Some(&configuration)).await;
        let pod = node.pod().await;
        let container = pod.start_with(guaranteed(1000)).await;
        let pid = container.pid().await;
        let burst = || value(pid, "cpu", "cpu.cfs_burst_us", "cpu.max.burst");
        assert_eq!(burst(), "0");
        for (milli, expected) in [(500, "25000"), (1000, "0"), (1500, "75000")] {
            let resources = guaranteed(milli);
            let answer = container.try_update(resources).await;
            answer.expect("UpdateContainerResources");
            assert_eq!(burst(), expected, "{milli}");
        }
    });
}

/// A daemon that has just started gives nothing away that belongs to a container whose monitor has not answered yet.
#[test]
#[ignore = "needs root"]
fn cpus_of_a_pod_that_was_not_greeted_are_kept() {
    on_cpus(ALONE, async |node| {
        pinning(node).await;
        let (pod, other) = (node.pod().await, node.pod().await);
        let holder = pod.start_with(guaranteed(1000)).await;
        let held = cpus_of(&holder).await;
        assert_eq!(held.len(), 1);
        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        let new = other.start_with(guaranteed(1000)).await;
        let got = cpus_of(&new).await;
        assert!(!got.is_empty() && got.is_disjoint(&held), "{got:?}, {held:?}");
        drop(stopped);
        runs_on(&holder, &held).await;
        pod.remove().await;
        other.remove().await;
    });
}

/// The pool leaves the CPUs of a pinned container, with spinning threads and the pods' monitors, and gets them back.
#[test]
#[ignore = "needs root"]
fn a_guaranteed_container_has_its_cpus_for_itself() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let (crowd, pod) = (node.pod().await, node.pod().await);
        let pool = spinning(&crowd).await;
        for _ in 0..5 {
            let pinned = pod.start_with(guaranteed(1000)).await;
            let own = cpus_of(&pinned).await;
            assert_eq!(own.len(), 1);
            let rest = without(&all(), &own);
            // Before the container has started, nobody is left there.
            assert!(of_tree(pool.pid().await).iter().all(|one| *one == rest));
            for pod in [&crowd, &pod] {
                let monitor = monitor_of(node, pod).as_raw_nonzero();
                assert_eq!(of_task(&format!("/proc/{monitor}")), Some(rest.clone()));
            }
            let said = pinned.sh("grep Cpus_allowed_list /proc/self/status; nproc").await;
            let list = list(&own);
            assert_eq!(said, format!("Cpus_allowed_list:\t{list}\n1\n"), "a command");
            let info = pinned.details().await;
            let cpu = &info["runtimeSpec"]["linux"]["resources"]["cpu"];
            assert_eq!(cpu["cpus"], list);
            assert_eq!(
                cpu["quota"], -1,
                "nobody else can use the core: a quota would only waste it"
            );
            assert_eq!(info["cpuPinning"]["cpus"], list);
            let asked = pinned.resources().await;
            assert_eq!(
                asked.cpu_quota, 100_000,
                "kubelet compares the status with what it wants"
            );
            pinned.stop(1).await;
            runs_on(&pool, &all()).await;
            pinned.remove().await;
        }
    });
}

/// Fractions, bursts, and containers without a limit stay in the pool.
#[test]
#[ignore = "needs root"]
fn only_whole_cpus_of_guaranteed_pods_are_pinned() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let fraction = guaranteed(500);
        let burst = v1::LinuxContainerResources {
            cpu_shares: 512,
            ..guaranteed(1000)
        };
        let no_memory = v1::LinuxContainerResources {
            memory_limit_in_bytes: 0,
            ..guaranteed(1000)
        };
        for resources in [fraction, burst, no_memory, v1::LinuxContainerResources::default()] {
            let pod = node.pod().await;
            let container = pod.start_with(resources.clone()).await;
            assert_eq!(cpus_of(&container).await, all(), "{resources:?}");
        }
    });
}

/// The class shows in the verbose status, and a debug container beside a pinned one takes no CPU.
#[test]
#[ignore = "needs root"]
fn the_class_of_a_pod_is_shown() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let pod = node.pod().await;
        let class = async || {
            let info = pod.details().await;
            info["qosClass"].as_str().expect("a class").to_owned()
        };
        assert_eq!(class().await, "BestEffort");
        let pinned = pod.start_with(guaranteed(1000)).await;
        assert_eq!(class().await, "Guaranteed");
        let rest = without(&all(), &cpus_of(&pinned).await);
        let debug = pod.start_with(v1::LinuxContainerResources::default()).await;
        assert_eq!(cpus_of(&debug).await, rest);
        assert_eq!(class().await, "Burstable");
        assert_eq!(cpus_of(&pinned).await.len(), 1, "it keeps what it has");
    });
}

/// What kubelet pins stays where it is, and is not given away a second time.
#[test]
#[ignore = "needs root"]
fn the_clients_cpuset_wins() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let mut cpus = all().into_iter();
        let (first, others) = (cpus.next().expect("a CPU"), cpus.collect::<Cpus>());
        let pod = node.pod().await;
        let given = v1::LinuxContainerResources {
            cpuset_cpus: first.to_string(),
            ..guaranteed(1000)
        };
        let given = pod.start_with(given).await;
        let pinned = pod.start_with(guaranteed(1000)).await;
        let own = cpus_of(&pinned).await;
        assert!(own.len() == 1 && own.is_subset(&others), "{own:?}");
        runs_on(&given, &Cpus::from([first])).await;
        let info = given.details().await;
        let cpu = &info["runtimeSpec"]["linux"]["resources"]["cpu"];
        assert_eq!(
            (&cpu["cpus"], &cpu["quota"]),
            (&first.to_string().into(), &100_000.into())
        );
    });
}

/// Shared by default, with a line that says who has the CPUs; refused if that is configured, and then nothing is left.
#[test]
#[ignore = "needs root"]
fn a_shortage_names_who_has_the_cpus() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let pod = node.pod().await;
        let many = i64::try_from(all().len()).expect("few") * 1000;
        let holder = pod.start_with(guaranteed(1000)).await;
        let shared = pod.start_with(guaranteed(many)).await;
        let rest = without(&all(), &cpus_of(&holder).await);
        runs_on(&shared, &rest).await;
        let name = &pod.config.metadata.as_ref().expect("a name").name;
        let owner = format!("critest/{name}/");
        let log = node.daemon_log();
        assert!(
            log.contains("runs in the shared pool") && log.contains(&owner),
            "{log}"
        );
        shared.stop(0).await;

        node.restart_with(Some(&format!("{PINNING}on_shortage = \"refuse\"\n")))
            .await;
        let mut config = pod.container_config();
        config.linux.get_or_insert_default().resources = Some(guaranteed(many));
        let refused = pod.try_create(&config).await.expect_err("there are not enough");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains(&owner), "{refused}");
        runs_on(&holder, &without(&all(), &rest)).await;
    });
}

/// `reserved` is never given away, and part of the pool.
#[test]
#[ignore = "needs root"]
fn reserved_cpus_are_not_given_away() {
    on_cpus(SHARED, async |node| {
        node.pull("base").await;
        let first = all().into_iter().next().expect("a CPU");
        node.restart_with(Some(&format!("{PINNING}reserved = \"{first}\"\n")))
            .await;
        let pod = node.pod().await;
        let pinned = pod.start_with(guaranteed(1000)).await;
        assert!(!cpus_of(&pinned).await.contains(&first));
        let crowd = node.pod().await;
        let pool = crowd.start_with(v1::LinuxContainerResources::default()).await;
        assert!(cpus_of(&pool).await.contains(&first));
    });
}

/// UpdateContainerResources: from pinned to shared and back, and with more CPUs to more and fewer of them.
#[test]
#[ignore = "needs root"]
fn a_resize_takes_and_gives_cpus() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let (crowd, pod) = (node.pod().await, node.pod().await);
        let neighbour = spinning(&crowd).await;
        let container = pod.start_with(guaranteed(1000)).await;
        let mut steps = vec![1000, 500, 1000, 1500, 1000];
        if all().len() > 3 {
            steps.extend([3000, 2000, 3000, 1000]);
        }
        for milli in steps {
            container.try_update(guaranteed(milli)).await.expect("a resize");
            let own = cpus_of(&container).await;
            let spec = &container.details().await["runtimeSpec"]["linux"]["resources"]["cpu"];
            if milli % 1000 == 0 {
                assert_eq!(i64::try_from(own.len()).expect("few") * 1000, milli);
                runs_on(&neighbour, &without(&all(), &own)).await;
                assert_eq!(spec["quota"], -1);
                assert_eq!(parse(spec["cpus"].as_str().expect("a list")), own);
            } else {
                assert_eq!(own, all(), "in the pool");
                runs_on(&neighbour, &all()).await;
                assert_eq!(
                    (&spec["quota"], &spec["cpus"]),
                    (&(milli * 100).into(), &serde_json::Value::Null)
                );
            }
        }
        // Of a change that the kernel refuses nothing stays: not the CPUs either.
        let own = cpus_of(&container).await;
        let refused = v1::LinuxContainerResources {
            memory_limit_in_bytes: 4096,
            ..guaranteed(500)
        };
        let error = container.try_update(refused).await;
        error.expect_err("less memory than it uses");
        assert_eq!(cpus_of(&container).await, own);
        runs_on(&neighbour, &without(&all(), &own)).await;
    });
}

/// UpdateContainerResources of a container that was not started yet: it gives its CPUs back, gets others, or those that the
/// client names, and starts on them.
#[test]
#[ignore = "needs root"]
fn a_created_container_changes_its_cpus() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let (crowd, pod) = (node.pod().await, node.pod().await);
        let neighbour = spinning(&crowd).await;
        let create = async || {
            let mut config = pod.container_config();
            config.linux.get_or_insert_default().resources = Some(guaranteed(1000));
            pod.create(config).await
        };

        let shared = create().await;
        assert_eq!(cpus_of(&neighbour).await.len() + 1, all().len());
        shared.try_update(guaranteed(500)).await.expect("fewer");
        runs_on(&neighbour, &all()).await;
        assert_eq!(shared.resources().await.cpu_quota, 50_000);
        shared.try_update(guaranteed(1000)).await.expect("more");
        let spec = &shared.details().await["runtimeSpec"]["linux"]["resources"]["cpu"];
        let own = parse(spec["cpus"].as_str().expect("a list"));
        runs_on(&neighbour, &without(&all(), &own)).await;
        shared.start().await;
        runs_on(&shared, &own).await;
        shared.stop(0).await;
        shared.remove().await;
        runs_on(&neighbour, &all()).await;

        // A second one cannot have what the client has given away.
        let given = create().await;
        let first = all().into_iter().next().expect("a CPU");
        let change = v1::LinuxContainerResources {
            cpuset_cpus: first.to_string(),
            ..Default::default()
        };
        given.try_update(change).await.expect("a cpuset");
        let pinned = pod.start_with(guaranteed(1000)).await;
        assert!(!cpus_of(&pinned).await.contains(&first));
        given.start().await;
        runs_on(&given, &Cpus::from([first])).await;
    });
}

/// `kill -9` of the daemon: pinned stays pinned, and what has ended meanwhile is free.
#[test]
#[ignore = "needs root"]
fn pinned_containers_outlive_the_daemon() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let (crowd, pod) = (node.pod().await, node.pod().await);
        let pool = spinning(&crowd).await;
        let pinned = pod.start_with(guaranteed(1000)).await;
        let own = cpus_of(&pinned).await;
        let rest = without(&all(), &own);
        node.kill_and_restart_daemon().await;
        runs_on(&pinned, &own).await;
        runs_on(&pool, &rest).await;
        let late = spinning(&crowd).await;
        assert_eq!(cpus_of(&late).await, rest);
        // Without the policy nothing more is pinned; what is stays so until it ends.
        node.restart_with(None).await;
        runs_on(&pinned, &own).await;
        runs_on(&late, &rest).await;

        let pid = pinned.pid().await;
        node.daemon(crate::harness::daemon::Daemon::kill);
        kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("it runs");
        node.daemon(crate::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
        let again = spinning(&crowd).await;
        assert_eq!(cpus_of(&again).await, all());
    });
}

/// The cgroup that has a process's cpuset.
#[derive(Debug, Clone)]
struct Cpuset {
    dir: PathBuf,
    v2: bool,
}

impl Cpuset {
    async fn of(container: &Container<'_>) -> Self {
        let file = file(container.pid().await, "cpuset", "cpuset.cpus", "cpuset.cpus");
        Self {
            dir: file.parent().expect("a cgroup").to_owned(),
            v2: is_v2(),
        }
    }

    /// A file of v2; none on v1.
    fn file(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.dir.join(name)).ok();
        text.filter(|_| self.v2).map(|text| text.trim().to_owned())
    }

    /// The cgroup of all pods of the node's daemon, which is kubelet's for it.
    fn of_all_pods(&self) -> Self {
        let dir = self.dir.ancestors().nth(2).expect("a pod in a cgroup");
        Self {
            dir: dir.to_owned(),
            ..self.clone()
        }
    }

    fn write(&self, cpus: &Cpus) -> std::io::Result<()> {
        if !(self.v2 && has_slices()) {
            return std::fs::write(self.dir.join("cpuset.cpus"), list(cpus));
        }
        // systemd would overwrite what it does not know.
        let mut set = Command::new("systemctl");
        set.args(["set-property", "--runtime"])
            .args(self.dir.file_name())
            .arg(format!("AllowedCPUs={}", list(cpus)));
        assert!(set.status()?.success(), "{set:?}");
        Ok(())
    }

    /// Takes CPUs from everything in it, as an administrator does: on v1 from what is beneath first.
    async fn narrow(self, cpus: &Cpus) -> Narrow {
        fn beneath(dir: &Path, cpus: &Cpus) {
            for entry in std::fs::read_dir(dir).expect("a cgroup").flatten() {
                if entry.path().is_dir() {
                    beneath(&entry.path(), cpus);
                    // Refused where pausa has written something wider in between.
                    std::fs::write(entry.path().join("cpuset.cpus"), list(cpus)).ok();
                }
            }
        }
        if self.v2 {
            self.write(cpus).expect("v2 takes anything");
        } else {
            let refused = self.write(cpus).expect_err("containers have more");
            assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy);
            eventually("the cgroup is narrow", async || {
                beneath(&self.dir, cpus);
                self.write(cpus).ok()
            })
            .await;
        }
        Narrow(self)
    }
}

/// A cgroup that has fewer CPUs than the node. systemd remembers it longer than the cgroup is there.
struct Narrow(Cpuset);

impl Narrow {
    /// Gives it and the pods' cgroups in it more CPUs again.
    fn widen(&self, cpus: &Cpus) {
        let Self(Cpuset { dir, v2 }) = self;
        self.0.write(cpus).expect("more");
        for pod in std::fs::read_dir(dir).expect("a cgroup").flatten() {
            if pod.path().is_dir() && !v2 {
                std::fs::write(pod.path().join("cpuset.cpus"), list(cpus)).expect("more");
            }
        }
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        if self.0.v2 {
            self.0.write(&Cpus::new()).ok();
        }
    }
}

fn list(cpus: &Cpus) -> String {
    let numbers: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    numbers.join(",")
}

fn without(all: &Cpus, others: &Cpus) -> Cpus {
    all.difference(others).copied().collect()
}

/// Waits until the record of a container has other CPUs of its own than these, or none.
async fn pinned_elsewhere(container: &Container<'_>, before: &Cpus) -> Option<Cpus> {
    eventually("other CPUs", async || {
        let cpus = &container.details().await["cpuPinning"]["cpus"];
        let now = cpus.as_str().map(parse);
        (now.as_ref() != Some(before)).then_some(now)
    })
    .await
}

/// `isolation = "partition"`: nothing else of the node runs there. Where the kernel has no partitions, the log says so, and
/// the container has its CPUs all the same.
#[test]
#[ignore = "needs root"]
fn a_partition_keeps_the_rest_of_the_node_away() {
    on_cpus(ALONE, async |node| {
        node.pull("base").await;
        let before = all();
        let configuration = format!("{PINNING}isolation = \"partition\"\n");
        node.restart_with(Some(&configuration)).await;
        let (crowd, pod) = (node.pod().await, node.pod().await);
        let pool = spinning(&crowd).await;
        let pinned = pod.start_with(guaranteed(1000)).await;
        let own = cpus_of(&pinned).await;
        assert_eq!(own.len(), 1);
        let cpuset = Cpuset::of(&pinned).await;
        match cpuset.file("cpuset.cpus.exclusive") {
            None => {
                let log = node.daemon_log();
                assert!(
                    log.contains("cannot make a cpuset partition") && log.contains("Linux 6.7"),
                    "{log}"
                );
            }
            Some(exclusive) => {
                assert_eq!(parse(&exclusive), own);
                assert_eq!(cpuset.file("cpuset.cpus.partition").as_deref(), Some("isolated"));
                let rest = without(&before, &own);
                assert_eq!(all(), rest, "this test, which pausa does not run");
                let shown = pausa_cpus(node, &["-o", "json"]).output().expect("the program");
                let map: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
                assert_eq!(map["holders"][0]["partition"], "isolated");
                node.kill_and_restart_daemon().await;
                assert_eq!(cpuset.file("cpuset.cpus.partition").as_deref(), Some("isolated"));
                // A change of its limits ends and makes the partition again; one without CPUs of its own has none.
                for (milli, partition) in [(500, "member"), (1000, "isolated")] {
                    pinned.try_update(guaranteed(milli)).await.expect("a resize");
                    assert_eq!(cpuset.file("cpuset.cpus.partition").as_deref(), Some(partition));
                }
            }
        }
        pinned.stop(1).await;
        runs_on(&pool, &before).await;
        assert_eq!(all(), before);
    });
}

/// A cgroup above loses the CPU of a pinned container: v2 takes that, v1 only after the containers have lost it. The
/// container gets another one, and everybody else leaves that, as far as they can.
#[test]
#[ignore = "needs root"]
fn a_container_whose_cpu_was_taken_from_above_gets_another() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let (pod, crowd) = (node.pod().await, node.pod().await);
        let outside = node.pod_with(|config| config.linux.get_or_insert_default().cgroup_parent.clear());
        let outside = outside.await;
        let (near, far) = (spinning(&crowd).await, spinning(&outside).await);
        let pinned = pod.start_with(guaranteed(1000)).await;
        let own = cpus_of(&pinned).await;
        let above = Cpuset::of(&pinned).await.of_all_pods();
        let allowed = without(&all(), &own);
        let v2 = above.v2;
        let above = above.narrow(&allowed).await;

        let new = pinned_elsewhere(&pinned, &own).await.expect("others");
        assert!(
            new.len() == 1 && new.is_subset(&allowed),
            "{new:?} of {allowed:?}"
        );
        runs_on(&pinned, &new).await;
        runs_on(&far, &without(&all(), &new)).await;
        let rest = without(&allowed, &new);
        let alone = rest.is_empty();
        runs_on(&near, if alone { &allowed } else { &rest }).await;
        let log = node.daemon_log();
        assert!(log.contains("had lost CPUs of its own"), "{log}");
        if alone && !v2 {
            assert!(log.contains("the cgroup above has nothing of what"), "{log}");
        }

        above.widen(&all());
        pinned.stop(1).await;
        runs_on(&near, &all()).await;
        runs_on(&far, &all()).await;
    });
}

/// The same where no other CPU is left for it: it shares, with its quota, and the log says why.
#[test]
#[ignore = "needs root"]
fn a_container_whose_last_cpu_was_taken_from_above_shares() {
    on_cpus(SHARED, async |node| {
        node.pull("base").await;
        let last = all().into_iter().next_back().expect("a CPU");
        let reserved = without(&all(), &Cpus::from([last]));
        let configuration = format!("{PINNING}reserved = \"{}\"\n", list(&reserved));
        node.restart_with(Some(&configuration)).await;
        let pod = node.pod().await;
        let container = pod.start_with(guaranteed(1000)).await;
        let own = cpus_of(&container).await;
        assert_eq!(own, Cpus::from([last]));
        let above = Cpuset::of(&container).await.of_all_pods();
        let _above = above.narrow(&reserved).await;

        assert_eq!(pinned_elsewhere(&container, &own).await, None);
        runs_on(&container, &reserved).await;
        let spec = &container.details().await["runtimeSpec"]["linux"]["resources"]["cpu"];
        assert_eq!(spec["quota"], 100_000);
        let log = node.daemon_log();
        assert!(
            log.contains("it runs in the shared pool, with its quota"),
            "{log}"
        );
    });
}

/// The pool has CPUs that a cgroup above has not: containers are made, changed and moved all the same.
#[test]
#[ignore = "needs root"]
fn the_pool_yields_to_a_narrower_cpuset_above() {
    on_cpus(SHARED, async |node| {
        node.pull("base").await;
        let first = Cpus::from([all().into_iter().next().expect("a CPU")]);
        let reserved = without(&all(), &first);
        let configuration = format!("{PINNING}reserved = \"{}\"\n", list(&reserved));
        node.restart_with(Some(&configuration)).await;
        let pod = node.pod().await;
        let early = spinning(&pod).await;
        let above = Cpuset::of(&early).await.of_all_pods();
        let v2 = above.v2;
        let _above = above.narrow(&first).await;
        runs_on(&early, &first).await;

        let crowd = node.pod().await;
        let late = spinning(&crowd).await;
        early.try_update(guaranteed(500)).await.expect("a resize");
        for container in [&early, &late] {
            runs_on(container, &first).await;
        }
        let monitor = monitor_of(node, &crowd).as_raw_nonzero();
        assert_eq!(of_task(&format!("/proc/{monitor}")), Some(first.clone()));

        // From here on, the pool has nothing of it.
        let outside = node.pod_with(|config| config.linux.get_or_insert_default().cgroup_parent.clear());
        let outside = outside.await;
        let pinned = outside.start_with(guaranteed(1000)).await;
        assert_eq!(cpus_of(&pinned).await, first);
        let later = spinning(&crowd).await;
        for container in [&early, &late, &later] {
            container.try_update(guaranteed(500)).await.expect("a resize");
            runs_on(container, &first).await;
        }
        if !v2 {
            let log = node.daemon_log();
            assert!(log.contains("the cgroup above has nothing of what"), "{log}");
        }
        let far = spinning(&outside).await;
        runs_on(&far, &reserved).await;
    });
}

/// Why no CPU may go offline here. On v1, it would be missing in all cpusets of the machine after it is back.
fn no_hotplug(cpu: usize) -> Option<&'static str> {
    let writable = |path: &str| std::fs::OpenOptions::new().write(true).open(path).is_ok();
    if std::env::var_os("PAUSA_CRITEST_HOTPLUG").is_none() {
        return Some("takes a CPU offline, in the machine of scripts/vm-test.sh only");
    }
    if !is_v2() {
        return Some("needs cgroup v2");
    }
    if all().len() < 4 {
        return Some("needs four CPUs: VM_CPUS=4");
    }
    (!writable(&online(cpu))).then_some("this machine's CPUs cannot go offline")
}

fn online(cpu: usize) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}/online")
}

/// A CPU that is offline until this is dropped.
struct Offline(usize);

impl Offline {
    fn begin(cpu: usize) -> Self {
        std::fs::write(online(cpu), "0").expect("it goes offline");
        Self(cpu)
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        std::fs::write(online(self.0), "1").expect("it comes back");
    }
}

/// Hotplug: the pinned container gets another CPU, and the one that is back is the pool's.
#[test]
#[ignore = "needs root"]
fn a_cpu_that_goes_offline_is_replaced() {
    let before = all();
    let last = before.iter().next_back().copied().expect("a CPU");
    if let Some(why) = no_hotplug(last) {
        eprintln!("skipped: {why}");
        return;
    }
    on_cpus(ALONE, async |node| {
        node.pull("base").await;
        // The first CPU cannot go.
        let first = before.iter().next().expect("a CPU");
        let configuration = format!("{PINNING}reserved = \"{first}\"\n");
        node.restart_with(Some(&configuration)).await;
        let (pod, crowd) = (node.pod().await, node.pod().await);
        let pinned = pod.start_with(guaranteed(1000)).await;
        let pool = spinning(&crowd).await;
        let own = cpus_of(&pinned).await;
        let lost = own.iter().next().copied().expect("a CPU");

        let offline = Offline::begin(lost);
        let new = pinned_elsewhere(&pinned, &own).await.expect("others");
        assert!(new.len() == 1 && new != own, "{new:?}");
        runs_on(&pinned, &new).await;
        let rest = without(&before, &new);
        runs_on(&pool, &without(&rest, &own)).await;

        drop(offline);
        runs_on(&pool, &rest).await;
        runs_on(&pinned, &new).await;
        let log = node.daemon_log();
        let changes = log.matches("the CPUs of this node have changed").count();
        assert_eq!(changes, 2, "{log}");
        pinned.stop(1).await;
        runs_on(&pool, &before).await;
    });
    assert_eq!(all(), before);
}

/// The CPUs of each interrupt that can be moved.
fn interrupts() -> Vec<(String, Cpus)> {
    let all = std::fs::read_dir("/proc/irq").expect("interrupts").flatten();
    all.filter_map(|entry| {
        let list = std::fs::read_to_string(entry.path().join("smp_affinity_list")).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), parse(&list)))
    })
    .collect()
}

async fn until_interrupts_are(expected: &[(String, Cpus)]) {
    let began = Instant::now();
    while interrupts() != expected {
        let now = interrupts();
        assert!(began.elapsed() < PATIENCE, "{now:?} instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `move_interrupts`: they leave pinned CPUs, and are as before when the last one is free, after a `kill -9` too, or when it
/// is turned off.
#[test]
#[ignore = "needs root"]
fn interrupts_leave_pinned_cpus() {
    on_cpus(SHARED, async |node| {
        node.pull("base").await;
        let before = interrupts();
        let moving = format!("{PINNING}move_interrupts = true\n");
        node.restart_with(Some(&moving)).await;
        let pod = node.pod().await;
        let pinned = pod.start_with(guaranteed(1000)).await;
        let own = cpus_of(&pinned).await;
        for ((name, was), (_, now)) in before.iter().zip(interrupts()) {
            let wanted = without(was, &own);
            // One that can be nowhere else stays, and so do those that the kernel manages.
            assert!(
                now == wanted || now == *was,
                "interrupt {name}: {was:?}, then {now:?}"
            );
        }
        if before.iter().any(|(_, cpus)| cpus.len() > 1) {
            assert_ne!(interrupts(), before, "none was moved");
        }
        let moved = interrupts();
        node.restart_with(Some(PINNING)).await;
        until_interrupts_are(&before).await;
        runs_on(&pinned, &own).await;
        node.restart_with(Some(&moving)).await;
        until_interrupts_are(&moved).await;
        node.kill_and_restart_daemon().await;
        pinned.stop(1).await;
        until_interrupts_are(&before).await;
    });
}

fn pausa_cpus(node: &Node, arguments: &[&str]) -> Command {
    let socket = format!("unix://{}", node.socket().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pausa"));
    command.args(["cpus", "--address", &socket]).args(arguments);
    command
}

/// `pausa cpus`: who has CPUs, as people and as programs read it.
#[test]
#[ignore = "needs root"]
fn the_map_of_the_node_says_who_runs_where() {
    on_cpus(SHARED, async |node| {
        node.pull("base").await;
        let first = all().into_iter().next().expect("a CPU");
        let configuration = format!("{PINNING}reserved = \"{first}\"\n");
        node.restart_with(Some(&configuration)).await;
        let (pod, crowd) = (node.pod().await, node.pod().await);
        let pinned = pod.start_with(guaranteed(1000)).await;
        let given = v1::LinuxContainerResources {
            cpuset_cpus: first.to_string(),
            ..Default::default()
        };
        let given = crowd.start_with(given).await;
        let _pool = crowd.start_with(guaranteed(500)).await;
        let own = cpus_of(&pinned).await;
        let rest = without(&all(), &own);
        let show = |arguments: &[&str]| {
            let output = pausa_cpus(node, arguments).output().expect("the program");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let map: serde_json::Value = serde_json::from_str(&show(&["-o", "json"])).expect("JSON");
        let holders = map["holders"].as_array().expect("a list");
        assert_eq!(holders.len(), 2);
        for (container, mode, cpus) in [(&pinned, "pinned", &own), (&given, "given", &Cpus::from([first]))] {
            let holder = holders
                .iter()
                .find(|holder| holder["containerId"] == container.id);
            let holder = holder.expect("the container");
            assert_eq!(
                (&holder["mode"], &holder["partition"]),
                (&mode.into(), &"".into())
            );
            assert_eq!(parse(holder["cpus"].as_str().expect("a list")), *cpus);
            assert!(!parse(holder["memoryNodes"].as_str().expect("a list")).is_empty());
        }
        assert_eq!(parse(map["pool"].as_str().expect("a list")), rest);
        assert_eq!(map["poolContainers"], 1);
        let cpus = map["cpus"].as_array().expect("a list");
        assert_eq!(cpus.len(), all().len());
        let reserved = cpus.iter().filter(|cpu| cpu["reserved"] == true);
        assert_eq!(reserved.map(|cpu| &cpu["cpu"]).collect::<Vec<_>>(), [&first]);
        assert_eq!(
            map["load"].as_object().map(serde_json::Map::len),
            Some(all().len())
        );

        let text = show(&[]);
        let name = |pod: &Pod<'_>, container: &Container<'_>| {
            let pod = &pod.config.metadata.as_ref().expect("a name").name;
            let container = &container.config.metadata.as_ref().expect("a name").name;
            format!("critest/{pod}/{container}")
        };
        for (owner, mode, container) in [
            (name(&pod, &pinned), "pinned", &pinned),
            (name(&crowd, &given), "given", &given),
        ] {
            // On the map and in the list.
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(&owner)).collect();
            assert_eq!(lines.len(), 2, "{text}");
            assert!(lines.iter().all(|line| line.contains(mode)), "{text}");
            assert!(lines[1].contains(&container.id[..13]), "{text}");
        }
        let pool = text.lines().find(|line| line.starts_with("Shared pool: "));
        assert!(pool.is_some_and(|line| line.ends_with("(1 container)")), "{text}");
        assert!(text.contains(&format!("\nReserved:    {first}\n")), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    });
}

/// `pausa cpus --watch`: in a pipe until its reader goes, on a terminal in place, within it, until Ctrl-C.
#[test]
#[ignore = "needs root"]
fn the_map_is_watched_until_somebody_ends_it() {
    on_cpus(SHARED, async |node| {
        pinning(node).await;
        let mut piped = pausa_cpus(node, &["--watch"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut reader = BufReader::new(piped.stdout.take().expect("a pipe")).lines();
        let mut heading = || {
            let mut lines = reader.by_ref().map(|line| line.expect("a line"));
            let heading = lines.find(|line| line.starts_with("SOCKET")).expect("a heading");
            // A column is as wide as what is in it, and the load changes.
            let names = heading.split_whitespace().map(str::to_owned);
            names.collect::<Vec<_>>()
        };
        assert_eq!(heading(), heading(), "again and again");
        drop(reader);
        assert!(ended(&mut piped).await.success());

        // A terminal with less than what there is to see.
        let (rows, columns) = (3, 20);
        let (mut watching, mut screen) = Screen::run(&mut pausa_cpus(node, &["--watch"]), rows, columns);
        for frame in two_frames(&mut screen) {
            let lines: Vec<&str> = frame.split("\r\n").collect();
            assert_eq!(lines.len(), usize::from(rows), "{frame:?}");
            let [heading, pool, note] = lines.as_slice() else {
                panic!("{frame:?}")
            };
            assert_eq!(*heading, "SOCKET   NODE   CAC…\x1b[K");
            assert!(pool.starts_with("     0 "), "{pool:?}");
            assert!(
                note.starts_with("… ") && note.ends_with(" more lines\x1b[K\x1b[J"),
                "{note:?}"
            );
        }
        let pid = Pid::from_child(&watching);
        kill_process(pid, Signal::INT).expect("it runs");
        assert!(ended(&mut watching).await.success());
    });
}

/// The status of a process that is about to end.
async fn ended(child: &mut Child) -> ExitStatus {
    eventually("the process ends", async || child.try_wait().expect("a status")).await
}

/// Two CPUs of quota on one CPU are one: a quota says how much time, a cpuset where.
#[test]
#[ignore = "needs root"]
fn quota_and_cpuset_limit_together() {
    on_cpus(SHARED, async |node| {
        node.pull("base").await;
        let pod = node.pod().await;
        let first = all().into_iter().next().expect("a CPU");
        let container = spinning(&pod).await;
        let limits = v1::LinuxContainerResources {
            cpu_quota: 200_000,
            cpu_period: 100_000,
            cpuset_cpus: first.to_string(),
            ..Default::default()
        };
        container.try_update(limits).await.expect("limits");
        let used = async || {
            let request = v1::ContainerStatsRequest {
                container_id: container.id.clone(),
            };
            let stats = node.runtime().container_stats(request).await.expect("stats");
            let cpu = stats.into_inner().stats.and_then(|stats| stats.cpu).expect("CPU");
            cpu.usage_core_nano_seconds.expect("usage").value
        };
        let (began, before) = (Instant::now(), used().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (after, elapsed) = (used().await, began.elapsed());
        let cpus = (after - before) as f64 / elapsed.as_nanos() as f64;
        // No more than one, whatever else the machine does; a clock tick may be counted late.
        assert!(cpus > 0.05 && cpus < 1.1, "{cpus} CPUs");
    });
}
