//! The IPAM plugin that an interface plugin delegates to.

use pausa_cni::{AddResult, Call, Command, Delegate, Failure};
use serde_json::Value;

use crate::common::failed;

/// The plugin's type, if the configuration names one.
pub(crate) fn of(call: &Call) -> Option<&str> {
    let plugin = call.config.get("ipam")?.get("type")?.as_str()?;
    Some(plugin).filter(|plugin| !plugin.is_empty())
}

/// Reserves addresses. The result has at least one.
///
/// # Errors
/// The plugin's; then nothing is reserved.
pub(crate) fn add(plugin: &str, call: &Call, delegate: &Delegate<'_>) -> Result<AddResult, Failure> {
    let value = delegate.run(plugin, call)?;
    let result = AddResult::from_value(&value).map_err(failed(format!(
        "cannot read the result of the IPAM plugin {plugin:?}"
    )));
    match result {
        Ok(result) if result.ips.is_empty() => {
            undo(plugin, call, delegate);
            Err(Failure::internal(format!(
                "the IPAM plugin {plugin:?} gave no address"
            )))
        }
        Ok(result) => Ok(result),
        Err(failure) => {
            undo(plugin, call, delegate);
            Err(failure)
        }
    }
}

/// Releases what [`add`] reserved. The DEL that follows a failed ADD tries it again, so an error is not the caller's.
pub(crate) fn undo(plugin: &str, call: &Call, delegate: &Delegate<'_>) {
    let undo = Call {
        command: Command::Del,
        ..call.clone()
    };
    if let Err(failure) = delegate.run(plugin, &undo) {
        tracing::debug!(
            plugin,
            container = call.container_id,
            error = failure.msg,
            "cannot release the addresses of a failed ADD; its DEL will"
        );
    }
}

/// Passes a call on: DEL, CHECK, STATUS and GC.
pub(crate) fn pass_on(call: &Call, delegate: &Delegate<'_>) -> Result<(), Failure> {
    match of(call) {
        Some(plugin) => delegate.run(plugin, call).map(|_: Value| ()),
        None => Ok(()),
    }
}
