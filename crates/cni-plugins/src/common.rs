//! What the plugins have in common: configurations, arguments, failures, network namespaces.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pausa_cni::{AddResult, Call, Dns, Failure};
use pausa_netlink::{Netlink, in_netns, open_netns};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
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
/// "Invalid network config" of the specification.
const INVALID_CONFIGURATION: u32 = 7;
/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Parses the keys of a configuration that are a plugin's own. `T` denies unknown fields, which include other spellings:
/// the binaries read keys without regard to case, which nobody should rely on.
pub(crate) fn parse<T: DeserializeOwned>(config: &Map<String, Value>) -> Result<T, String> {
    let own = config
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .filter(|(key, _)| !COMMON_KEYS.contains(key));
    let own = MapDeserializer::<_, serde_json::Error>::new(own);
    T::deserialize(own).map_err(|error| error.to_string())
}

/// The same for a call, whose configuration has been understood before.
pub(crate) fn configuration<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    parse(&call.config).map_err(invalid)
}

/// `CNI_ARGS`, of which the plugin knows `names`. As with the binaries, others are an error unless `IgnoreUnknown` is set.
pub(crate) fn arguments<'a>(call: &'a Call, names: &[&str]) -> Result<BTreeMap<&'a str, &'a str>, Failure> {
    const IGNORE: &str = "IgnoreUnknown";
    let refused = |why: String| Failure::internal(format!("invalid CNI_ARGS: {why}"));
    let mut arguments = BTreeMap::new();
    let mut unknown = None;
    let mut ignores_unknown = false;
    for (key, value) in &call.args {
        if value.contains('=') {
            return Err(refused(format!("{key} has a value with `=`")));
        }
        if key == IGNORE {
            ignores_unknown = match value.to_lowercase().as_str() {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return Err(refused(format!("{IGNORE} is {value:?}, which is not a boolean"))),
            };
        } else if names.contains(&key.as_str()) {
            arguments.insert(key.as_str(), value.as_str());
        } else {
            unknown.get_or_insert(key);
        }
    }
    match unknown {
        Some(key) if !ignores_unknown => Err(refused(format!("{key} is not known, and {IGNORE} is not set"))),
        _ => Ok(arguments),
    }
}

/// The result of the plugins before this one in the chain. The JSON itself is what a plugin passes on.
pub(crate) fn previous(call: &Call) -> Result<Option<(AddResult, &Value)>, Failure> {
    let Some(value) = call.config.get("prevResult") else {
        return Ok(None);
    };
    let result = AddResult::from_value(value).map_err(failed("cannot read prevResult"))?;
    Ok(Some((result, value)))
}

/// The result of ADD, in a call of CHECK.
pub(crate) fn result_of_add(call: &Call) -> Result<AddResult, Failure> {
    let previous = previous(call)?.map(|(result, _)| result);
    previous.ok_or_else(|| Failure::internal("there is no prevResult, which CHECK needs"))
}

/// [`previous`] for a plugin that changes what another one has made.
pub(crate) fn chained(call: &Call) -> Result<(AddResult, &Value), Failure> {
    previous(call)?.ok_or_else(|| {
        Failure::internal(
            "there is no prevResult: this plugin changes what a plugin before it in the chain has made",
        )
    })
}

/// A configuration that makes no sense.
pub(crate) fn invalid(why: impl Display) -> Failure {
    Failure {
        code: INVALID_CONFIGURATION,
        ..Failure::internal(format!("invalid configuration: {why}"))
    }
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

/// Does something in a pod's network namespace, on a thread that ends with it.
pub(crate) fn in_pod<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    in_netns(netns, work).map_err(failed("cannot enter the pod's network namespace"))?
}

/// A netlink socket of the calling thread's network namespace.
pub(crate) fn netlink() -> Result<Netlink, Failure> {
    Netlink::open().map_err(failed("cannot open a netlink socket"))
}

pub(crate) fn netlink_of_pod(netns: impl AsFd) -> Result<Netlink, Failure> {
    Netlink::open_in(netns.as_fd()).map_err(failed(
        "cannot open a netlink socket in the pod's network namespace",
    ))
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

/// The content of a file of at most a MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let read = file.take(MAX_FILE.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file has more than {MAX_FILE} bytes"),
        ));
    }
    Ok(bytes)
}

/// [`read`], or none if there is no file.
pub(crate) fn read_if_any(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}
