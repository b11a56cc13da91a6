//! With the systemd of the node, where it runs the node and cgroup v2 is there.

use std::process::{Child, Command};

use super::*;
use crate::cgroups::{Cgroup, Cgroups, Driver, Limits};
use crate::config::CgroupDriver;
use crate::error::{ErrorKind, Kinded};

/// A process in a cgroup that systemd shall know of.
struct Ground {
    cgroup: Cgroup,
    child: Child,
    slice: String,
}

impl Ground {
    /// None where the test cannot run: it says so.
    fn new(name: &str) -> Option<Self> {
        let cgroups = match Cgroups::new(CgroupDriver::Systemd) {
            Ok(cgroups) => cgroups,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        assert_eq!(cgroups.driver(), Driver::Systemd);
        let slice = format!("pausatest{name}{}.slice", std::process::id());
        let path = cgroups.container_path(&slice, &format!("test-{name}")).unwrap();
        let cgroup = cgroups.create(&path, &Limits::default(), &[]).unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        cgroup.place(i32::try_from(child.id()).unwrap()).unwrap();
        Some(Self { cgroup, child, slice })
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn shows(&self, property: &str) -> String {
        let output = Command::new("systemctl")
            .args(["show", "--value", "-p", property, &self.cgroup.path.name])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        self.cgroup.remove().unwrap();
        Command::new("systemctl")
            .args(["stop", &self.slice])
            .status()
            .unwrap();
    }
}

fn setting(file: &str, value: &str) -> Setting {
    Setting {
        controller: "any",
        file: file.to_owned(),
        value: value.to_owned(),
        field: "any",
        optional: true,
        otherwise: None,
    }
}

fn refused(name: &str) -> BusError {
    BusError::Refused {
        name: format!("org.freedesktop.{name}"),
        text: "because".to_owned(),
    }
}

/// `systemctl daemon-reexec` cuts off what was asked meanwhile, and for a moment nobody is there.
#[test]
fn who_executes_itself_anew_is_asked_again() {
    let mut answers = vec![
        Ok(7),
        Err(refused("DBus.Error.Spawn.ChildExited")),
        Err(refused("DBus.Error.NoReply")),
    ];
    assert_eq!(retried(|| answers.pop().unwrap()).unwrap(), 7);
    // What systemd itself says is its answer.
    for name in ["systemd1.NoSuchUnit", "DBus.Error.PropertyReadOnly"] {
        let mut answers = vec![Ok(7), Err(refused(name))];
        assert!(retried(|| answers.pop().unwrap()).is_err(), "{name}");
        assert_eq!(answers.len(), 1, "{name} was asked again");
    }
}

#[test]
#[ignore = "needs root"]
fn a_scope_is_what_its_cgroup_is() {
    let Some(mut ground) = Ground::new("scope") else {
        return;
    };
    let limits = [
        setting("cpu.weight", "59"),
        setting("cpu.max", "33300 100000"),
        setting("cpuset.cpus", "0,9"),
        setting("memory.max", "67108864"),
    ];
    let path = ground.cgroup.path.clone();
    start(&path, &limits, ground.pid()).unwrap();
    let expected = [
        ("ActiveState", "active"),
        ("Slice", ground.slice.as_str()),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive-or-failed"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "340ms"),
        ("AllowedCPUs", "0 9"),
        ("MemoryMax", "67108864"),
        ("TasksMax", "infinity"),
    ];
    for (property, value) in expected {
        assert_eq!(ground.shows(property), value, "{property}");
    }
    assert_eq!(ground.shows("ControlGroup"), format!("/{}", path.relative()));
    // Announced again, as a retried operation does.
    let limits = [setting("memory.max", "max"), setting("pids.max", "7")];
    start(&path, &limits, ground.pid()).unwrap();
    assert_eq!(ground.shows("MemoryMax"), "infinity");
    set(&path, &[setting("pids.max", "8")]).unwrap();
    assert_eq!(ground.shows("TasksMax"), "8");
    assert_eq!(ground.shows("CPUWeight"), "59");
    ground.end();
    stop(&path).unwrap();
    stop(&path).unwrap();
    set(&path, &limits).unwrap();
    assert_eq!(ground.shows("LoadState"), "not-found");
}

#[test]
#[ignore = "needs root"]
fn who_has_ended_needs_no_scope() {
    let Some(mut ground) = Ground::new("ended") else {
        return;
    };
    ground.end();
    let none = Limits::default();
    ground.cgroup.register(ground.pid(), &none).unwrap();
    let error = start(&ground.cgroup.path, &[], ground.pid()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains(&ground.cgroup.path.name), "{error}");
}
