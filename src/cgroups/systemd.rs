//! systemd as the cgroup driver: a scope for every cgroup.
//!
//! ```text
//!   directory made, limits written ─▶ process born in it ─▶ start: scope around both ─▶ limits written again
//!                                                             │ set: limits changed
//!                                                             └▶ stop; or systemd, when it is empty
//! ```
//!
//! systemd creates scopes only around an existing process. Therefore the directory is created first, the process is
//! started in it, and the scope is registered afterwards: systemd adopts the directory. The scope is delegated and gets
//! the limits as properties, so that systemd and the files agree.

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

/// How long a job of systemd may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long systemd may not answer: `daemon-reexec` with very many units.
const ABSENCE: Duration = Duration::from_secs(30);

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Whether systemd runs this node: sd_booted(3).
pub(super) fn booted() -> bool {
    Path::new("/run/systemd/system")
        .symlink_metadata()
        .is_ok_and(|found| found.is_dir())
}

/// Makes the cgroup, which has the process, a scope with these limits.
pub(super) fn start(path: &CgroupPath, settings: &[Setting], pid: i32) -> Result<(), CgroupError> {
    let limits = properties(settings);
    let properties = [scope(path, pid), limits.clone()].concat();
    let begin = |bus: &mut Bus| {
        let body = Body::default().text(&path.name).text("replace");
        let body = body.properties(&properties).no_units();
        match bus.call(&manager("StartTransientUnit"), &body) {
            // An earlier attempt, whose answer was lost.
            Err(error) if error.is(UNIT_EXISTS) => change(bus, &path.name, &limits),
            other => other.map(drop),
        }
    };
    let started = retried(|| {
        let mut bus = Bus::open()?;
        begin(&mut bus)?;
        settle(&mut bus, &path.name)
    });
    started.map_err(failed("start", path))
}

/// Changes limits. A cgroup that is not a scope is left alone.
pub(super) fn set(path: &CgroupPath, settings: &[Setting]) -> Result<(), CgroupError> {
    set_all([path], settings)
}

/// Gives many cgroups the same limits, over one connection.
pub(super) fn set_all<'a>(
    paths: impl IntoIterator<Item = &'a CgroupPath>,
    settings: &[Setting],
) -> Result<(), CgroupError> {
    let limits = properties(settings);
    if limits.is_empty() {
        return Ok(());
    }
    let mut connection = None;
    for path in paths {
        let changed = retried(|| {
            let bus = match &mut connection {
                Some(bus) => bus,
                None => connection.insert(Bus::open()?),
            };
            let changed = change(bus, &path.name, &limits).and_then(|()| settle(bus, &path.name));
            if changed.as_ref().is_err_and(BusError::is_transient) {
                connection = None;
            }
            changed
        });
        match changed {
            Err(error) if error.is(NO_SUCH_UNIT) => {}
            other => other.map_err(failed("change", path))?,
        }
    }
    Ok(())
}

/// Stops the scope, if it exists; systemd removes its directory.
pub(super) fn stop(path: &CgroupPath) -> Result<(), CgroupError> {
    let stopped = retried(|| {
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

/// Repeats a call while systemd does not answer, for example during a re-exec. All calls here can be repeated.
fn retried<T>(mut call: impl FnMut() -> Result<T, BusError>) -> Result<T, BusError> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        match call() {
            Err(error) if error.is_transient() && began.elapsed() < ABSENCE => sleep(pause),
            answer => return answer,
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// The properties of a scope beside its limits.
fn scope(path: &CgroupPath, pid: i32) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    let slice = path.scope.as_ref().map_or("-.slice", |scope| &scope.slice);
    vec![
        ("Description", Value::Text(format!("pausa {}", path.id))),
        ("Slice", text(slice)),
        ("PIDs", Value::Numbers(vec![pid.unsigned_abs()])),
        ("Delegate", Value::Flag(true)),
        // At shutdown, pods are not stopped before kubelet and pausa.
        ("DefaultDependencies", Value::Flag(false)),
        // A scope whose last process was killed is unloaded like others.
        ("CollectMode", text("inactive-or-failed")),
        ("CPUAccounting", Value::Flag(true)),
        ("MemoryAccounting", Value::Flag(true)),
        ("IOAccounting", Value::Flag(true)),
        ("TasksAccounting", Value::Flag(true)),
        // Otherwise systemd sets a default. A limit among the properties comes later and wins.
        ("TasksMax", Value::Number(u64::MAX)),
    ]
}

fn change(bus: &mut Bus, unit: &str, limits: &[Property]) -> Result<(), BusError> {
    // runtime = true: not beyond the unit and this boot.
    let body = Body::default().text(unit).flag(true).properties(limits);
    bus.call(&manager("SetUnitProperties"), &body).map(drop)
}

/// Waits until a unit has no job. systemd answers only after it has applied earlier changes, so one call suffices
/// without a job.
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

/// A method of the interface org.freedesktop.systemd1.Manager.
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
