//! AppArmor and SELinux.

use std::fs;

use serde_json::Value;

use super::finding::{Check, Finding, Verdict};
use crate::config::Config;
use crate::lsm::apparmor::{self, OWN_PROFILE};
use crate::lsm::selinux::SeLinux;
use crate::tool;

#[derive(Debug)]
pub(super) struct Lsm {
    pub(super) apparmor: bool,
    pub(super) has_parser: bool,
    /// The default profile, and whether it is loaded; none if that cannot be read.
    pub(super) profile: String,
    pub(super) is_configured: bool,
    pub(super) loaded: Option<bool>,
    /// As `Status` shows it.
    pub(super) selinux: Value,
}

pub(super) fn read(config: &Config) -> Lsm {
    let configured = config.apparmor.default_profile.as_deref();
    let profile = configured.unwrap_or(OWN_PROFILE);
    Lsm {
        apparmor: apparmor::is_enabled(),
        has_parser: tool::find("apparmor_parser").is_some(),
        profile: profile.to_owned(),
        is_configured: configured.is_some(),
        loaded: fs::read_to_string(apparmor::PROFILES)
            .ok()
            .map(|list| apparmor::names(&list).contains(profile)),
        selinux: SeLinux::open(config.enable_selinux).describe(),
    }
}

/// `runs` says whether the daemon does: it loads the profile when it starts.
pub(super) fn decide(lsm: &Lsm, runs: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    let profile = &lsm.profile;
    let (verdict, found) = match lsm.loaded {
        _ if !lsm.apparmor => (Verdict::Ok, "AppArmor is not enabled in this kernel".to_owned()),
        Some(true) => (Verdict::Ok, format!("the profile {profile} is loaded")),
        None => (Verdict::Unknown, format!("{} cannot be read", apparmor::PROFILES)),
        Some(false) if lsm.is_configured => {
            (Verdict::Problem, format!("the profile {profile} is not loaded"))
        }
        Some(false) if !lsm.has_parser => (
            Verdict::Warning,
            "AppArmor is enabled, and there is no apparmor_parser to load a profile with".to_owned(),
        ),
        Some(false) if runs => (
            Verdict::Warning,
            format!("the profile {profile} is not loaded; the daemon loads it with the next container"),
        ),
        Some(false) => (
            Verdict::Ok,
            format!("the daemon loads the profile {profile} when it starts"),
        ),
    };
    add(Check::LsmAppArmor, verdict, found);
    let is = |key: &str| lsm.selinux[key].as_bool().unwrap_or(false);
    let (verdict, found) = match (is("enabled"), is("labelsContainers")) {
        (false, _) => (Verdict::Ok, "SELinux is not enabled in this kernel".to_owned()),
        (true, true) => (
            Verdict::Ok,
            "SELinux is enabled, and containers are labelled".to_owned(),
        ),
        (true, false) => {
            let reason = lsm.selinux["reason"].as_str().unwrap_or_default();
            (
                Verdict::Warning,
                format!("SELinux is enabled, and containers are not labelled: {reason}"),
            )
        }
    };
    add(Check::LsmSelinux, verdict, found);
    findings
}
