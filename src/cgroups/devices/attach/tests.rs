//! On a cgroup of the node's own v2 hierarchy, be it the only one or beside v1.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::cgroups::devices::rule::{ALL, Kind, MAKE, READ};
use crate::cgroups::mountinfo;

/// A cgroup of this test alone, gone at the end.
struct Ground {
    dir: Dir,
    path: PathBuf,
}

impl Ground {
    /// None where the test cannot run: it says so.
    fn new(name: &str) -> Option<Self> {
        let mounts = mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap());
        let Some(v2) = mounts.into_iter().find(|mount| mount.fstype == "cgroup2") else {
            println!("skipped: no cgroup v2 is mounted");
            return None;
        };
        let path = v2
            .mount_point
            .join(format!("pausa-test-{name}-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&path) {
            println!("skipped: cannot make {}: {error}", path.display());
            return None;
        }
        let ground = Self {
            dir: Dir::root(&path).unwrap(),
            path,
        };
        if let Err(error) = probe(&ground.dir) {
            println!("skipped: {}", crate::error::chain(&error));
            return None;
        }
        Some(ground)
    }

    /// What a shell in the cgroup says.
    fn run(&self, script: &str) -> String {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read -r _; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.dir.write("cgroup.procs", &child.id().to_string()).unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Which of these can be opened there, for reading and writing alike.
    fn opens(&self, devices: &[&str]) -> Vec<String> {
        let tries: String = devices
            .iter()
            .map(|device| format!("(: < {device} > {device}) 2>&- && echo {device};"))
            .collect();
        self.run(&tries).lines().map(str::to_owned).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        fs::remove_dir(&self.path).unwrap();
    }
}

fn allow(major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule {
        allow: true,
        kind: Some(Kind::Character),
        major,
        minor,
        access,
    }
}

const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

#[test]
#[ignore = "needs root"]
fn rules_are_in_force_and_replaced_at_once() {
    let Some(ground) = Ground::new("rules") else {
        return;
    };
    if ground.opens(&DEVICES) != DEVICES {
        println!("skipped: the cgroup this test runs in forbids devices");
        return;
    }
    apply(&ground.dir, &[DENY_ALL, allow(Some(1), Some(3), ALL)]).unwrap();
    assert_eq!(ground.opens(&DEVICES), ["/dev/null"]);
    let next = [
        DENY_ALL,
        allow(Some(1), None, ALL),
        Rule {
            allow: false,
            ..allow(Some(1), Some(5), READ)
        },
    ];
    apply(&ground.dir, &next).unwrap();
    assert_eq!(ground.opens(&DEVICES), ["/dev/null", "/dev/full"]);
    assert_eq!(ours(&ground.dir).unwrap().len(), 1);
    let everything = Rule {
        allow: true,
        ..DENY_ALL
    };
    apply(&ground.dir, &[everything]).unwrap();
    assert_eq!(ground.opens(&DEVICES), DEVICES);
    assert_eq!(ours(&ground.dir).unwrap().len(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_node_that_may_be_made_can_still_not_be_opened() {
    let Some(ground) = Ground::new("mknod") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("zero");
    let script = format!(
        "mknod {0} c 1 5 && echo made; (: < {0}) && echo opened",
        node.display()
    );
    apply(&ground.dir, &[DENY_ALL, allow(Some(1), Some(3), ALL)]).unwrap();
    assert_eq!(ground.run(&script), "");
    apply(
        &ground.dir,
        &[DENY_ALL, allow(None, None, MAKE), allow(Some(1), Some(3), ALL)],
    )
    .unwrap();
    assert_eq!(ground.run(&script), "made\n");
}

#[test]
#[ignore = "needs root"]
fn what_others_have_attached_stays() {
    let Some(ground) = Ground::new("others") else {
        return;
    };
    let program = compile(&[DENY_ALL, allow(Some(1), None, ALL)]).unwrap();
    let foreign = sys::load_device_program("somebody", &program).unwrap();
    sys::attach_device_program(ground.dir.as_fd(), foreign.as_fd(), None).unwrap();
    for rules in [&[DENY_ALL, allow(None, None, ALL)][..], &[DENY_ALL]] {
        apply(&ground.dir, rules).unwrap();
        assert_eq!(ours(&ground.dir).unwrap().len(), 1);
        assert_eq!(sys::device_programs(ground.dir.as_fd()).unwrap().len(), 2);
    }
}

#[test]
#[ignore = "needs root"]
fn the_program_of_the_most_devices_is_small_enough() {
    let Some(ground) = Ground::new("many") else {
        return;
    };
    let many = (0..1024).map(|number| allow(Some(1000 + number), Some(number), READ));
    let rules: Vec<Rule> = [DENY_ALL, allow(Some(1), Some(3), ALL)]
        .into_iter()
        .chain(many)
        .collect();
    apply(&ground.dir, &rules).unwrap();
    assert_eq!(ground.opens(&DEVICES), ["/dev/null"]);
}
