//! `loopback`: sets the loopback device of a network namespace up.
//!
//! See <https://www.cni.dev/plugins/current/main/loopback/>. Where a conflist has it in a chain, the result of the plugin
//! before is passed on. The binary sets the device down again for DEL; the namespace is about to go with it, and what still
//! runs in it should not lose its connections to itself before it has ended, so DEL does nothing here.

use std::net::IpAddr;
use std::os::fd::AsFd;

use pausa_cni::{Call, Command, Delegate, Failure, InProcess};
use pausa_netlink::{LOOPBACK, Netlink, Request};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::common::{failed, netns, parse, previous};

const NAME: &str = "lo";

#[derive(Debug)]
pub(crate) struct Loopback;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl InProcess for Loopback {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse::<Config>(config).map(drop)
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        match call.command {
            Command::Add => add(call),
            Command::Check => check(call).map(|()| Value::Null),
            Command::Del | Command::Status | Command::Gc | Command::Version => Ok(Value::Null),
        }
    }
}

fn add(call: &Call) -> Result<Value, Failure> {
    let addresses = Netlink::open_in(netns(call)?.as_fd())
        .and_then(|mut netlink| {
            netlink.execute(&[Request::SetUp { index: LOOPBACK }])?;
            netlink.addresses(LOOPBACK)
        })
        .map_err(failed("cannot set the loopback device up"))?;
    if let Some(foreign) = addresses.iter().find(|known| !known.address.is_loopback()) {
        return Err(Failure::internal(format!(
            "the loopback device has the address {}, which is not a loopback address",
            foreign.address
        )));
    }
    if let Some((_, result)) = previous(call)? {
        return Ok(result.clone());
    }
    let first = |of_family: fn(&IpAddr) -> bool| {
        let known = addresses.iter().find(|known| of_family(&known.address))?;
        Some(json!({"interface": 0, "address": format!("{}/{}", known.address, known.prefix)}))
    };
    let ips: Vec<Value> = first(IpAddr::is_ipv4)
        .into_iter()
        .chain(first(IpAddr::is_ipv6))
        .collect();
    Ok(json!({
        "interfaces": [{"name": NAME, "mac": "00:00:00:00:00:00", "sandbox": call.netns}],
        "ips": ips,
        "dns": {},
    }))
}

fn check(call: &Call) -> Result<(), Failure> {
    let link = Netlink::open_in(netns(call)?.as_fd())
        .and_then(|mut netlink| netlink.link_by_name(NAME))
        .map_err(failed("cannot look the loopback device up"))?;
    match link {
        Some(link) if link.up => Ok(()),
        _ => Err(Failure::internal("the loopback device is down")),
    }
}
