//! The `loopback` plugin in process: sets the loopback device of the namespace up.
//!
//! See <https://www.cni.dev/plugins/current/main/loopback/>. Where a conflist has it in a chain, the result of the
//! plugin before is passed on.

use std::path::Path;

use pausa_cni::{Call, Command, Failure, InProcess};
use serde_json::{Value, json};

use super::loopback_up;
use crate::error::chain;

/// CNI's code for a failed system operation of the plugin's own.
const FAILED: u32 = 100;

#[derive(Debug)]
pub(super) struct Loopback;

impl InProcess for Loopback {
    fn call(&self, call: &Call) -> Result<Value, Failure> {
        if call.command != Command::Add {
            // The device is deleted with its namespace: DEL, CHECK and STATUS have nothing to do.
            return Ok(Value::Null);
        }
        loopback_up(&call.netns).map_err(|error| Failure {
            code: FAILED,
            msg: "cannot set the loopback device up".to_owned(),
            details: chain(&error),
        })?;
        Ok(call
            .config
            .get("prevResult")
            .cloned()
            .unwrap_or_else(|| result(&call.netns)))
    }
}

fn result(netns: &Path) -> Value {
    json!({
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": netns}],
        "ips": [{"interface": 0, "address": "127.0.0.1/8"}, {"interface": 0, "address": "::1/128"}],
    })
}
