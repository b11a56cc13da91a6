//! What the plugins have in common: configurations, failures, network namespaces.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::Path;

use pausa_cni::{AddResult, Call, Dns, Failure};
use rustix::fs::fstatfs;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Keys of every plugin's configuration, which the specification has. `ipam` is the IPAM plugin's.
const COMMON_KEYS: [&str; 13] = [
    "capabilities",
    "cni.dev/attachments",
    "cni.dev/valid-attachments",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "dns",
    "ipam",
    "loadOnlyInlinedPlugins",
    "name",
    "prevResult",
    "type",
];
/// `NSFS_MAGIC` in `linux/magic.h`
const NAMESPACE_FILE_SYSTEM: i64 = 0x6e73_6673;

/// Parses the keys of a configuration that are a plugin's own. `T` denies unknown fields, which include other spellings:
/// the binaries read keys without regard to case, which nobody should rely on.
pub(crate) fn parse<T: DeserializeOwned>(config: &Map<String, Value>) -> Result<T, String> {
    let own = config
        .iter()
        .filter(|(key, _)| !COMMON_KEYS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    T::deserialize(Value::Object(own)).map_err(|error| error.to_string())
}

/// The same for a call, whose configuration has been understood before.
pub(crate) fn configuration<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    parse(&call.config).map_err(|error| Failure {
        code: INVALID_CONFIGURATION,
        ..Failure::internal(format!("invalid configuration: {error}"))
    })
}

/// "Invalid network config" of the specification.
pub(crate) const INVALID_CONFIGURATION: u32 = 7;

/// The result of the plugins before this one in the chain. The JSON itself is what a plugin passes on.
pub(crate) fn previous(call: &Call) -> Result<Option<(AddResult, &Value)>, Failure> {
    let Some(value) = call.config.get("prevResult") else {
        return Ok(None);
    };
    let result = AddResult::from_value(value).map_err(failed("cannot read prevResult"))?;
    Ok(Some((result, value)))
}

/// The same for a plugin that changes what another one has made.
pub(crate) fn chained(call: &Call) -> Result<(AddResult, &Value), Failure> {
    previous(call)?.ok_or_else(|| {
        Failure::internal(
            "there is no prevResult: this plugin changes what a plugin before it in the chain has made",
        )
    })
}

/// A failure of `step`, with the causes as details.
pub(crate) fn failed<E: Error>(step: impl Into<String>) -> impl FnOnce(E) -> Failure {
    move |error| Failure {
        details: chain(&error),
        ..Failure::internal(step)
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The network namespace of a call of ADD or CHECK.
pub(crate) fn netns(call: &Call) -> Result<File, Failure> {
    let path = call.netns.display();
    open_netns(&call.netns)
        .map_err(failed(format!("cannot open the network namespace {path}")))?
        .ok_or_else(|| Failure::internal(format!("{path} is not a network namespace")))
}

/// The network namespace of a call of DEL, if it is still there.
pub(crate) fn netns_if_any(call: &Call) -> Result<Option<File>, Failure> {
    if call.netns.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = call.netns.display();
    open_netns(&call.netns).map_err(failed(format!("cannot open the network namespace {path}")))
}

/// None if there is no file, or a file that is no longer the mount point of a namespace: a runtime that was killed between
/// unmounting and removing it leaves one.
fn open_netns(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let is_namespace = fstatfs(&file)?.f_type == NAMESPACE_FILE_SYSTEM;
    Ok(is_namespace.then_some(file))
}

/// The network's name.
pub(crate) fn network(call: &Call) -> &str {
    call.config
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The configuration's own name service settings, if it has any: they replace those of the IPAM plugin.
pub(crate) fn dns(call: &Call) -> Result<Option<Dns>, Failure> {
    let Some(value) = call.config.get("dns").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let dns = Dns::deserialize(value).map_err(failed("cannot read `dns`"))?;
    Ok(Some(dns).filter(|dns| *dns != Dns::default()))
}

/// A result as JSON.
pub(crate) fn value(result: &AddResult) -> Result<Value, Failure> {
    serde_json::to_value(result).map_err(failed("cannot write the result"))
}
