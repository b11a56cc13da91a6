//! `static`: gives the addresses that the configuration or the caller names.
//!
//! It keeps no state. Addresses of `runtimeConfig.ips` are given instead of those of `args.cni.ips`, and these instead of
//! the configuration's and those of `CNI_ARGS`, which are given together. `GATEWAY` of `CNI_ARGS` applies to the
//! addresses beside it.
//!
//! See <https://www.cni.dev/plugins/current/ipam/static/>.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use pausa_cni::{AddResult, Call, Command, Delegate, Dns, Failure, InProcess, IpConfig, Route};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::common::{arguments, invalid, result_of_add};
use crate::ipam_config::{Args, Cidr, DnsConfig, RouteConfig, address, answer, configuration, parse};

#[derive(Debug)]
pub(crate) struct Static;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    ipam: Ipam,
    runtime_config: Option<RuntimeConfig>,
    args: Option<Args<Cidr>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ipam {
    addresses: Option<Vec<Address>>,
    routes: Option<Vec<RouteConfig>>,
    dns: Option<DnsConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    address: Cidr,
    #[serde(default, deserialize_with = "address")]
    gateway: Option<IpAddr>,
    /// The family, which old configurations say and nobody reads.
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeConfig {
    ips: Option<Vec<Cidr>>,
}

impl InProcess for Static {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse::<Config>(config).map(drop)
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        run(call)
    }
}

fn run(call: &Call) -> Result<Value, Failure> {
    match call.command {
        Command::Add => result(call).and_then(answer),
        Command::Check => check(call).map(|()| Value::Null),
        Command::Del | Command::Status | Command::Gc | Command::Version => Ok(Value::Null),
    }
}

fn result(call: &Call) -> Result<AddResult, Failure> {
    let config: Config = configuration(call)?;
    let by_caller = requested(call)?;
    let by_runtime = config.runtime_config.and_then(|config| config.ips);
    let by_args = config.args.as_ref().map(Args::addresses).unwrap_or_default();
    let instead = by_runtime.filter(|ips| !ips.is_empty());
    let instead = instead.as_deref().unwrap_or(by_args);
    let ips = if instead.is_empty() {
        let configured = config.ipam.addresses.into_iter().flatten();
        let configured = configured.map(|known| ip_config(known.address, known.gateway));
        configured.chain(by_caller).collect()
    } else {
        instead.iter().map(|address| ip_config(*address, None)).collect()
    };
    Ok(AddResult {
        ips,
        routes: config
            .ipam
            .routes
            .into_iter()
            .flatten()
            .map(Route::from)
            .collect(),
        dns: config.ipam.dns.map(Dns::from).unwrap_or_default(),
        ..AddResult::default()
    })
}

const fn ip_config(Cidr(address): Cidr, gateway: Option<IpAddr>) -> IpConfig {
    IpConfig {
        interface: None,
        address,
        gateway,
    }
}

/// The addresses of `CNI_ARGS`.
fn requested(call: &Call) -> Result<Vec<IpConfig>, Failure> {
    let arguments = arguments(call, &["IP", "GATEWAY"])?;
    let entries = |name| {
        let text: &str = arguments.get(name).copied().unwrap_or_default();
        text.split(',').map(str::trim).filter(move |_| !text.is_empty())
    };
    let mut ips = Vec::new();
    for text in entries("IP") {
        let address = text
            .parse()
            .map_err(|error: String| invalid(format!("IP in CNI_ARGS: {error}")))?;
        ips.push(ip_config(address, None));
    }
    for text in entries("GATEWAY") {
        let gateway: IpAddr = text
            .parse()
            .map_err(|_| invalid(format!("GATEWAY in CNI_ARGS: {text:?} is not an address")))?;
        let gateway = gateway.to_canonical();
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(&gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(ips)
}

/// As in the binary, an address that the result of ADD does not have is no failure.
fn check(call: &Call) -> Result<(), Failure> {
    let expected = result(call)?.ips;
    let found = result_of_add(call)?;
    let other_gateway = expected.iter().find(|ip| {
        let same = found
            .ips
            .iter()
            .find(|known| known.address.addr() == ip.address.addr());
        ip.gateway.is_some() && same.is_some_and(|known| known.gateway != ip.gateway)
    });
    other_gateway.map_or(Ok(()), |ip| {
        Err(Failure::internal(format!(
            "{} of interface {} has another gateway in prevResult",
            ip.address, call.if_name
        )))
    })
}
