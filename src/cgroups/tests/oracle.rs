//! The same limits by pausa and by libcgroups, youki's library: what is in the files of two cgroups must be the same.
//! Differences are explained in [`EXPECTED`], or mended. What each of the two finds mounted must be the same, too.
//!
//! libcgroups is in tests only: see `docs/design/0002-cgroups.md`.

mod cases;
mod expected;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libcgroups::common::{self, AnyCgroupManager, CgroupConfig, CgroupManager, CgroupSetup, ControllerOpt};

use super::*;
use crate::oci;
use cases::Case;
use expected::{EXPECTED, Expected, like};

/// The container in each of the two pods.
const CONTAINER: &str = "c";

const OURS: &str = "ours";
const THEIRS: &str = "theirs";

/// Files that say nothing about limits.
const NOT_COMPARED: [(&str, &str); 16] = [
    ("cgroup.procs", "the processes are two"),
    ("cgroup.threads", "the processes are two"),
    ("tasks", "the processes are two"),
    ("cpuacct.*", "what they have used"),
    ("*io_serviced", "what they have used"),
    ("*io_service_bytes", "what they have used"),
    ("*io_*_recursive", "what they have used"),
    ("*usage_in_bytes", "what they use, and have used at the most"),
    ("*.current", "what they use"),
    ("*.peak", "what they have used at the most"),
    ("*numa_stat", "what they use"),
    ("*.stat", "what they use"),
    ("*.stat.local", "what they use"),
    ("*.events", "how often they have met a limit"),
    ("*.events.local", "how often they have met a limit"),
    ("*.pressure", "how long they have waited"),
];

/// A process that does nothing, until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Cgroups that are removed in every hierarchy there is, also in those that only one of the two has found.
struct Leftovers<'a>(&'a str);

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        for mount in mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap()) {
            // Those of containers come and go.
            if mount.fstype.starts_with("cgroup")
                && let Ok(root) = Dir::root(&mount.mount_point)
            {
                let removed = root.remove(self.0).unwrap();
                assert!(removed || std::thread::panicking(), "{} is busy", self.0);
            }
        }
    }
}

/// A file, or the end of a step, that is not the same.
struct Difference {
    step: usize,
    file: String,
    ours: String,
    theirs: String,
}

/// What was compared of a case.
#[derive(Default)]
struct Comparison {
    files: usize,
    differences: Vec<Difference>,
}

#[test]
#[ignore = "needs root"]
fn limits_are_as_libcgroups_writes_them() {
    let ground = Playground::new("oracle");
    if !ground.has_memory() {
        println!("skipped: needs a memory controller");
        return;
    }
    if !ground.cgroups.layout.is_v2() && !ground.root("memory").join("memory.memsw.limit_in_bytes").exists() {
        println!("skipped: needs swap accounting, without which libcgroups refuses every limit of memory");
        return;
    }
    let expected: Vec<_> = EXPECTED.iter().filter(|one| (one.when)(&ground)).collect();
    let mut used = BTreeSet::new();
    let mut text = String::new();
    let (mut files, mut steps) = (0, 0);
    for case in cases::all(&ground) {
        let compared = compare(&case);
        files += compared.files;
        steps += case.steps.len();
        for difference in compared.differences {
            let explains = expected.iter().position(|one| one.explains(&case, &difference));
            if let Some(index) = explains {
                used.insert(index);
                continue;
            }
            let Difference {
                step,
                file,
                ours,
                theirs,
            } = difference;
            let name = &case.name;
            writeln!(
                text,
                "{name}, step {step}: {file}\n  pausa {ours:?}\n  libcgroups {theirs:?}"
            )
            .unwrap();
        }
    }
    let unused = (0..expected.len()).filter(|index| !used.contains(index));
    for one in unused.map(|index| expected[index]) {
        let Expected { cases, file, why, .. } = one;
        writeln!(text, "no longer different: {cases:?}: {file} ({why})").unwrap();
    }
    let version = if ground.cgroups.layout.is_v2() { "v2" } else { "v1" };
    println!("compared with libcgroups' manager of cgroup {version}: {files} files after {steps} changes");
    assert!(text.is_empty(), "unexplained differences:\n{text}");
}

/// Applies a case's limits by both, each in a pod of its own, in which a process runs.
fn compare(case: &Case) -> Comparison {
    let ground = Playground::new("oracle");
    let _leftovers = Leftovers(&ground.parent[1..]);
    let [ours, theirs] = [OURS, THEIRS].map(|side| {
        let pod = format!("{}/{side}", ground.parent);
        ground.cgroups.container_path(&pod, CONTAINER).unwrap()
    });
    if let Some(quota) = case.quota_of_pod {
        for path in [&ours, &theirs] {
            let pod = ground.root("cpu").join(path.parent().unwrap().relative());
            fs::create_dir_all(&pod).unwrap();
            fs::write(pod.join("cpu.cfs_quota_us"), quota).unwrap();
        }
    }
    let processes = [Sleeper(sleeper()), Sleeper(sleeper())];
    // libcgroups takes process ids of another version of nix. It reads them itself.
    let list = tempfile::tempdir().unwrap();
    fs::write(list.path().join("cgroup.procs"), processes[1].pid().to_string()).unwrap();
    let pid = common::get_all_pids(list.path()).unwrap()[0];
    let manager = common::create_cgroup_manager(CgroupConfig {
        cgroup_path: theirs.spec_path().into(),
        systemd_cgroup: false,
        container_name: CONTAINER.to_owned(),
    });
    let manager = manager.unwrap();
    assert_eq!(
        matches!(manager, AnyCgroupManager::V2(_)),
        ground.cgroups.layout.is_v2()
    );
    let devices = oci::device_rules(&[], false);
    let by_us = |step, limits: &Limits| {
        if step > 0 {
            return ground.cgroups.open(&ours)?.update(limits);
        }
        ground
            .cgroups
            .create(&ours, limits, &devices)?
            .place(processes[0].pid())
    };
    let by_them = |step, limits: &Limits| {
        let resources = oci::limits(limits, devices.clone()).unwrap();
        if step == 0 {
            manager.add_task(pid)?;
        }
        manager.apply(&ControllerOpt {
            resources: &resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        })
    };
    let mut compared = Comparison::default();
    for (step, limits) in case.steps.iter().enumerate() {
        let us = by_us(step, limits).map_err(|error| chain(&error));
        let them = by_them(step, limits).map_err(|error| error.to_string());
        let refused = case.refused && step + 1 == case.steps.len();
        let as_expected = match (&us, &them) {
            (Ok(()), Ok(())) => {
                compared.files(&ground, step);
                !refused
            }
            // What was written before the refused value is not promised.
            (Err(_), Err(_)) => refused,
            _ => false,
        };
        let go_on = us.is_ok() && them.is_ok();
        if !as_expected {
            let [ours, theirs] = [us, them].map(|end| match end {
                Ok(()) => "done".to_owned(),
                Err(error) => format!("refused: {error}"),
            });
            let file = "outcome".to_owned();
            compared.differences.push(Difference {
                step,
                file,
                ours,
                theirs,
            });
        }
        if !go_on {
            break;
        }
    }
    compared
}

impl Comparison {
    /// Compares the cgroups of both pods and of both containers.
    fn files(&mut self, ground: &Playground, step: usize) {
        for root in &ground.cgroups.roots {
            let hierarchy = if root.controllers.is_empty() {
                "unified".to_owned()
            } else {
                root.controllers.join(",")
            };
            let parent = root.dir.path().join(&ground.parent[1..]);
            for (level, beneath) in [("pod", ""), ("container", CONTAINER)] {
                let [ours, theirs] = [OURS, THEIRS].map(|side| contents(&parent.join(side).join(beneath)));
                assert!(!ours.is_empty(), "{hierarchy} has no {level}");
                let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
                for name in names {
                    self.files += 1;
                    let [ours, theirs] = [(&ours, &theirs), (&theirs, &ours)]
                        .map(|(here, there)| only(here.get(name), there.get(name)));
                    if ours != theirs {
                        let file = format!("{hierarchy}/{level}/{name}");
                        self.differences.push(Difference {
                            step,
                            file,
                            ours,
                            theirs,
                        });
                    }
                }
            }
        }
    }
}

/// The lines that the first text has and the second has not.
fn only(text: Option<&String>, other: Option<&String>) -> String {
    let Some(text) = text else {
        return "missing".to_owned();
    };
    let others: Vec<&str> = other.map(|other| other.lines().collect()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !others.contains(line)).collect();
    lines.join(", ")
}

/// The files of a directory that can be read, by name. A directory that is missing has none.
fn contents(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
    let files = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        let metadata = entry.metadata().unwrap();
        let compared = metadata.is_file()
            && metadata.permissions().mode() & 0o444 != 0
            && !NOT_COMPARED.iter().any(|(file, _)| like(file, &name));
        let text = || fs::read_to_string(entry.path()).unwrap_or_else(|error| format!("unreadable: {error}"));
        compared.then(|| (name, text()))
    });
    files.collect()
}

/// Which version counts, where it is mounted, and with which controllers.
#[test]
#[ignore = "needs root"]
fn the_node_is_as_libcgroups_sees_it() {
    let layout = Layout::probe().unwrap();
    let setup = common::get_cgroup_setup().unwrap();
    println!("libcgroups sees a node whose cgroups are {setup}");
    assert_eq!(layout.is_v2(), matches!(setup, CgroupSetup::Unified));
    match &layout {
        Layout::V1 { hierarchies } => {
            let theirs = libcgroups::v1::util::list_supported_mount_points().unwrap();
            let theirs: BTreeMap<String, PathBuf> = theirs
                .into_iter()
                .map(|(controller, mount_point)| (controller.to_string(), mount_point))
                .collect();
            let ours = hierarchies.iter().flat_map(|one| {
                let controllers = one.controllers.iter().cloned();
                controllers.map(|controller| (controller, one.mount_point.clone()))
            });
            let unknown = |name: &str| name.starts_with("name=") || ["rdma", "misc"].contains(&name);
            let ours: BTreeMap<String, PathBuf> = ours.filter(|(name, _)| !unknown(name)).collect();
            assert_eq!(ours, theirs);
        }
        Layout::V2 { mount_point, .. } => {
            assert_eq!(
                *mount_point,
                libcgroups::v2::util::get_unified_mount_point().unwrap()
            );
            let theirs = libcgroups::v2::util::get_available_controllers(mount_point).unwrap();
            let theirs: BTreeSet<String> = theirs.iter().map(ToString::to_string).collect();
            let root = Dir::root(mount_point).unwrap();
            let offered = root.read("cgroup.controllers").unwrap().unwrap();
            let offered = offered.split(' ').filter(|name| V2_CONTROLLERS.contains(name));
            assert_eq!(offered.map(str::to_owned).collect::<BTreeSet<_>>(), theirs);
        }
    }
}
