//! systemd as the cgroup driver: a scope for every cgroup.
//!
//! ```text
//!   directory made, limits written ─▶ process born in it ─▶ start: scope around both ─▶ limits written again
//!                                                             │ set: limits changed
//!                                                             └▶ stop; or systemd, when nobody is in it any more
//! ```
//!
//! systemd makes scopes only around a process that exists. The directory is therefore made first, the process born in
//! it, and the scope announced after: systemd finds it where it would have made it. The scope is delegated, and gets
//! the limits as properties: what systemd knows of it and what is in the files is the same.

mod bus;
mod message;
mod properties;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use self::bus::BusError;

use self::bus::Bus;
use self::message::{Body, Call, Malformed, Property, Value};
use self::properties::properties;
use super::error::CgroupError;
use super::path::CgroupPath;
use super::settings::Setting;

/// How long systemd may take with what it has begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may be away: `daemon-reexec` with very many units.
const ABSENCE: Duration = Duration::from_secs(30);

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Whether systemd runs this node: sd_booted(3).
pub(super) fn booted() -> bool {
    Path::new("/run/systemd/system")
        .symlink_metadata()
        .is_ok_and(|found| found.is_dir())
}

/// Makes the process's cgroup a scope with these limits. The process is in it already.
pub(super) fn start(path: &CgroupPath, settings: &[Setting], pid: i32) -> Result<(), CgroupError> {
    let limits = properties(settings);
    let properties = [scope(path, pid), limits.clone()].concat();
    let begin = |bus: &mut Bus| {
        let body = Body::default().text(&path.name).text("replace");
        let body = body.properties(&properties).no_units();
        match bus.call(&manager("StartTransientUnit"), &body) {
            // An attempt before this one, whose answer was lost.
            Err(error) if error.is(UNIT_EXISTS) => change(bus, &path.name, &limits),
            other => other.map(drop),
        }
    };
    let started = patiently(|| {
        let mut bus = Bus::open()?;
        begin(&mut bus)?;
        settle(&mut bus, &path.name)
    });
    started.map_err(failed("start", path))
}

/// Changes limits. A cgroup that is no scope has nothing to change here.
pub(super) fn set(path: &CgroupPath, settings: &[Setting]) -> Result<(), CgroupError> {
    let limits = properties(settings);
    if limits.is_empty() {
        return Ok(());
    }
    let changed = patiently(|| {
        let mut bus = Bus::open()?;
        change(&mut bus, &path.name, &limits)?;
        settle(&mut bus, &path.name)
    });
    match changed {
        Err(error) if error.is(NO_SUCH_UNIT) => Ok(()),
        other => other.map_err(failed("change", path)),
    }
}

/// Stops the scope, if it is still there; its directory goes with it.
pub(super) fn stop(path: &CgroupPath) -> Result<(), CgroupError> {
    let stopped = patiently(|| {
        let mut bus = Bus::open()?;
        let body = Body::default().text(&path.name).text("replace");
        bus.call(&manager("StopUnit"), &body)?;
        settle(&mut bus, &path.name)
    });
    match stopped {
        Err(error) if error.is(NO_SUCH_UNIT) => Ok(()),
        other => other.map_err(failed("stop", path)),
    }
}

/// Asks again while systemd is away, as it is for a moment when it executes itself anew. All that is asked here may
/// be asked twice.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, BusError>) -> Result<T, BusError> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        match ask() {
            Err(error) if error.is_passing() && began.elapsed() < ABSENCE => sleep(pause),
            answer => return answer,
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// What a scope is beside its limits.
fn scope(path: &CgroupPath, pid: i32) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    let slice = path.slice.as_deref().unwrap_or("-.slice");
    vec![
        ("Description", Value::Text(format!("pausa {}", path.id))),
        ("Slice", text(slice)),
        ("PIDs", Value::Numbers(vec![pid.unsigned_abs()])),
        ("Delegate", Value::Flag(true)),
        // When the machine goes down, pods are not ended before those who would end them.
        ("DefaultDependencies", Value::Flag(false)),
        // One whose last process was killed is forgotten like others.
        ("CollectMode", text("inactive-or-failed")),
        ("CPUAccounting", Value::Flag(true)),
        ("MemoryAccounting", Value::Flag(true)),
        ("IOAccounting", Value::Flag(true)),
        ("TasksAccounting", Value::Flag(true)),
        // Else systemd has a limit of its own. One among the limits comes later and wins.
        ("TasksMax", Value::Number(u64::MAX)),
    ]
}

fn change(bus: &mut Bus, unit: &str, limits: &[Property]) -> Result<(), BusError> {
    // Not for longer than the unit, nor the next boot.
    let body = Body::default().text(unit).flag(true).properties(limits);
    bus.call(&manager("SetUnitProperties"), &body).map(drop)
}

/// Waits until systemd has nothing more to do with a unit. It answers only after it has written what was changed
/// before, so that one question suffices where there is no job.
fn settle(bus: &mut Bus, unit: &str) -> Result<(), BusError> {
    let path = message::unit_path(unit);
    let get = Call {
        path: &path,
        interface: "org.freedesktop.DBus.Properties",
        ..manager("Get")
    };
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let question = Body::default().text("org.freedesktop.systemd1.Unit").text("Job");
        let job = bus.call(&get, &question)?;
        if message::job(&job).map_err(|Malformed| bus.malformed())? == 0 {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(BusError::Slow(PATIENCE));
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// A method of systemd's manager.
fn manager(member: &str) -> Call<'_> {
    Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
    }
}

fn failed(step: &'static str, path: &CgroupPath) -> impl Fn(BusError) -> CgroupError {
    let unit = path.name.clone();
    move |source| CgroupError::Systemd {
        step,
        unit: unit.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
