//! Between NRI and the OCI runtime spec: what plugins want is applied to it, and what it says is told to them.
//!
//! Pure functions. Names, numbers and paths are checked; what they stand for on the node is not looked at.

mod check;
mod linux;
mod message;
mod mounts;
mod resources;
mod seccomp;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oci_spec::runtime::{Hook, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Spec};

use crate::creation::bare;
use crate::owners::REMOVAL;
use crate::proto::{self, ContainerAdjustment, Hooks, KeyValue};

pub use check::SpecError;
use check::{invalid, parse, path, texts};
pub use message::container_message;

/// What a node allows.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether it has the hugetlb controller. Without that, limits of huge pages are left out, as of a pod.
    pub hugetlb: bool,
}

/// What is left to be done: the spec cannot say it, or the node has to be asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Names to resolve, `VENDOR/CLASS=DEVICE`.
    pub cdi_devices: Vec<String>,
    /// The class to use for block I/O. Empty: none, whatever the spec has.
    pub blockio_class: Option<String>,
    /// The class to use for RDT, which must exist. The spec has it already, with what the adjustment says about RDT
    /// itself. Empty: none.
    pub rdt_class: Option<String>,
    /// Sources of mounts with propagation. The kernel propagates nothing unless their own mounts do.
    pub propagated: Vec<Propagated>,
    /// Sources of mounts that want the container's SELinux label.
    pub relabel: Vec<PathBuf>,
    /// Flags of `process.scheduler` whose names oci-spec misspells in JSON, so that no OCI runtime knows them.
    pub scheduler_flags: Vec<&'static str>,
}

/// A source of a mount with propagation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagated {
    /// On the node.
    pub source: PathBuf,
    /// Its mount must be shared. If not, it may be a slave, too.
    pub shared: bool,
}

/// Applies what the plugins want. After an error the spec is useless.
///
/// # Errors
/// If a value is wrong, or the spec lacks `process` or `linux`.
pub fn apply(adjustment: &ContainerAdjustment, spec: &mut Spec, rules: Rules) -> Result<Rest, SpecError> {
    let mut rest = Rest::default();
    set_annotations(&adjustment.annotations, spec)?;
    let process = spec.process_mut().as_mut();
    let process = process.ok_or(SpecError::Missing { field: "process" })?;
    set_env(&adjustment.env, process)?;
    if !adjustment.args.is_empty() {
        process.set_args(Some(texts("args", &adjustment.args)?));
    }
    set_rlimits(&adjustment.rlimits, process)?;
    if let Some(wanted) = &adjustment.linux {
        linux::apply_process(wanted, process, &mut rest)?;
        let linux = spec.linux_mut().as_mut();
        let linux = linux.ok_or(SpecError::Missing { field: "linux" })?;
        linux::apply(wanted, linux, rules, &mut rest)?;
    }
    add_hooks(adjustment.hooks.as_ref(), spec)?;
    mounts::apply(&adjustment.mounts, spec, &mut rest)?;
    rest.cdi_devices = adjustment
        .cdi_devices
        .iter()
        .map(|device| device.name.clone())
        .collect();
    Ok(rest)
}

fn set_annotations(wanted: &BTreeMap<String, String>, spec: &mut Spec) -> Result<(), SpecError> {
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(key) = wanted.keys().find(|key| bare(key).is_empty()) {
        return Err(invalid("annotations", key, "a key that is not empty"));
    }
    let annotations = spec.annotations_mut().get_or_insert_default();
    annotations.retain(|key, _| !wanted.contains_key(&format!("{REMOVAL}{key}")));
    let set = wanted.iter().filter(|(key, _)| !key.starts_with(REMOVAL));
    annotations.extend(set.map(|(key, value)| (key.clone(), value.clone())));
    Ok(())
}

/// Each variable keeps its place, new ones come last.
fn set_env(wanted: &[KeyValue], process: &mut Process) -> Result<(), SpecError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut values = BTreeMap::new();
    for variable in wanted {
        let name = bare(&variable.key);
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(invalid("env.key", name, "a name, without `=` and NUL"));
        }
        if variable.value.contains('\0') {
            // Values are secrets.
            return Err(invalid("env", name, "a variable whose value is without NUL"));
        }
        let value = (name == variable.key).then(|| format!("{name}={}", variable.value));
        values.insert(name, value);
    }
    let mut placed = BTreeSet::new();
    let known = process.env_mut().take().unwrap_or_default().into_iter();
    let mut env: Vec<_> = known
        .filter_map(|text| {
            let name = text.split_once('=').map_or(text.as_str(), |(name, _)| name);
            match values.get_key_value(name) {
                None => Some(text),
                Some((name, value)) => value.clone().filter(|_| placed.insert(*name)),
            }
        })
        .collect();
    let new = wanted
        .iter()
        .filter(|variable| placed.insert(bare(&variable.key)));
    env.extend(new.filter_map(|variable| values.get(bare(&variable.key)).cloned().flatten()));
    process.set_env(Some(env));
    Ok(())
}

/// A limit replaces that of the same type.
fn set_rlimits(wanted: &[proto::PosixRlimit], process: &mut Process) -> Result<(), SpecError> {
    let mut limits: Vec<PosixRlimit> = process.rlimits().clone().unwrap_or_default();
    for limit in wanted {
        let expected = "a name of setrlimit(2), such as RLIMIT_NOFILE";
        let typ: PosixRlimitType = parse("rlimits.type", &limit.r#type, expected)?;
        if limit.soft > limit.hard {
            return Err(invalid("rlimits.soft", limit.soft, "at most the hard limit"));
        }
        let oci = PosixRlimitBuilder::default()
            .typ(typ)
            .hard(limit.hard)
            .soft(limit.soft);
        limits.retain(|known| known.typ() != typ);
        // Building fails only if a field is missing.
        limits.extend(oci.build());
    }
    if !wanted.is_empty() {
        process.set_rlimits(Some(limits));
    }
    Ok(())
}

fn add_hooks(wanted: Option<&Hooks>, spec: &mut Spec) -> Result<(), SpecError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let hooks = spec.hooks_mut().get_or_insert_default();
    add(hooks.prestart_mut(), &wanted.prestart)?;
    add(hooks.create_runtime_mut(), &wanted.create_runtime)?;
    add(hooks.create_container_mut(), &wanted.create_container)?;
    add(hooks.start_container_mut(), &wanted.start_container)?;
    add(hooks.poststart_mut(), &wanted.poststart)?;
    add(hooks.poststop_mut(), &wanted.poststop)
}

fn add(target: &mut Option<Vec<Hook>>, wanted: &[proto::Hook]) -> Result<(), SpecError> {
    for hook in wanted {
        let timeout = hook.timeout.map(|timeout| timeout.value);
        if let Some(timeout) = timeout.filter(|timeout| *timeout <= 0) {
            return Err(invalid("hooks.timeout", timeout, "more than 0 seconds"));
        }
        let mut oci = Hook::default();
        oci.set_path(path("hooks.path", &hook.path)?)
            .set_args(some(texts("hooks.args", &hook.args)?))
            .set_env(some(texts("hooks.env", &hook.env)?))
            .set_timeout(timeout);
        target.get_or_insert_default().push(oci);
    }
    Ok(())
}

/// As the spec leaves out lists that are empty.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}
