//! Cgroups: whether they are mounted, with which controllers, and whether the configured driver works.

use std::collections::BTreeSet;
use std::fs;

use super::finding::{Check, Finding, Verdict};
use crate::cgroups::{self, Driver, Layout};
use crate::config::CgroupDriver;
use crate::error::chain;

/// Controllers that kubelet relies on.
const REQUIRED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

#[derive(Debug)]
pub(super) struct Cgroups {
    /// The hierarchies, or why there are none.
    pub(super) layout: Result<Layout, String>,
    pub(super) controllers: BTreeSet<String>,
    /// What the daemon would take, or why it would not start.
    pub(super) driver: Result<Driver, String>,
}

pub(super) fn read(configured: CgroupDriver) -> Cgroups {
    let layout = Layout::probe().map_err(|error| chain(&error));
    let controllers = match &layout {
        Ok(Layout::V1 { hierarchies }) => {
            let all = hierarchies.iter().flat_map(|one| one.controllers.iter());
            all.cloned().collect()
        }
        Ok(Layout::V2 { mount_point, .. }) => {
            let text = fs::read_to_string(mount_point.join("cgroup.controllers"));
            let text = text.unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        }
        Err(_) => BTreeSet::new(),
    };
    let driver = match &layout {
        Ok(layout) => cgroups::driver_here(configured, layout).map_err(|error| chain(&error)),
        Err(error) => Err(error.clone()),
    };
    Cgroups {
        layout,
        controllers,
        driver,
    }
}

pub(super) fn decide(cgroups: &Cgroups) -> Vec<Finding> {
    let layout = match &cgroups.layout {
        Err(error) => return vec![Finding::new(Check::CgroupsMounted, Verdict::Problem, error)],
        Ok(layout) => layout,
    };
    let version = match layout.is_v2() {
        true => "cgroup v2",
        false => "cgroup v1",
    };
    let mut findings = vec![Finding::new(
        Check::CgroupsMounted,
        Verdict::Ok,
        format!("{version} is mounted"),
    )];
    let verdict = match layout.is_v2() {
        true => Verdict::Ok,
        false => Verdict::Info,
    };
    findings.push(Finding::new(Check::CgroupsVersion, verdict, version));
    findings.push(match &cgroups.driver {
        Ok(driver) => Finding::new(
            Check::CgroupsDriver,
            Verdict::Ok,
            format!("the driver is {}", driver_name(*driver)),
        ),
        Err(error) => Finding::new(Check::CgroupsDriver, Verdict::Problem, error),
    });
    let missing: Vec<&str> = REQUIRED
        .into_iter()
        .filter(|name| !cgroups.controllers.contains(*name))
        .collect();
    let (verdict, found) = match missing.is_empty() {
        true => {
            let all: Vec<&str> = cgroups.controllers.iter().map(String::as_str).collect();
            (Verdict::Ok, all.join(", "))
        }
        false => (Verdict::Problem, format!("the node lacks {}", missing.join(", "))),
    };
    findings.push(Finding::new(Check::CgroupsControllers, verdict, found));
    findings
}

/// As kubelet's and pausa's configurations write it.
pub(super) const fn driver_name(driver: Driver) -> &'static str {
    match driver {
        Driver::Systemd => "systemd",
        Driver::Cgroupfs => "cgroupfs",
    }
}
