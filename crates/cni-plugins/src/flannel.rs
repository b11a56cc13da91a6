//! `flannel`: configures another plugin, `bridge` unless the configuration says otherwise, with the node's subnet.
//!
//! The flannel daemon writes the subnet to a file of shell variables. It becomes the ranges of the IPAM plugin, and the
//! whole network becomes its routes. What the other plugin was given for ADD is saved as `<dataDir>/<container id>`: DEL
//! has to remove what was made, although the subnet may be another one by then. Until DEL has succeeded it stays, even
//! if ADD failed: without it the other plugin would not be called for DEL.
//!
//! The file is not synced to disk, since pods do not outlive a power cut. Addresses in files of an IPAM plugin do, so that
//! a saved configuration that was lost is made anew from the present one.
//!
//! See <https://github.com/flannel-io/cni-plugin>.

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use pausa_cni::{Call, Command, Delegate, Failure, InProcess, Route};
use pausa_sys::{AtomicFileError, Durability, replace_file};
use rustix::fs::CWD;
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::common::{configuration, failed, invalid, parse, read, read_if_any};
use crate::ipam_config::{Cidr, RouteConfig};

const DEFAULT_SUBNET_FILE: &str = "/run/flannel/subnet.env";
const DEFAULT_DATA_DIR: &str = "/var/lib/cni/flannel";
/// "The plugin is not available" of the specification, for STATUS.
const NOT_AVAILABLE: u32 = 50;

#[derive(Debug)]
pub(crate) struct Flannel;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    subnet_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    delegate: Option<Map<String, Value>>,
    /// For the other plugin, as a whole.
    runtime_config: Option<Map<String, Value>>,
}

/// `ipam`, of which only the routes are read. All other keys are for the IPAM plugin.
#[derive(Debug, Default, Deserialize)]
struct Ipam {
    routes: Option<Vec<RouteConfig>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What the daemon writes.
#[derive(Debug, PartialEq, Eq)]
struct SubnetEnv {
    /// Of both families, IPv4 first.
    networks: Vec<IpNet>,
    subnets: Vec<IpNet>,
    mtu: u32,
    ip_masq: bool,
}

/// What ADD left.
#[derive(Debug)]
enum Saved {
    Nothing,
    /// A file without a configuration, as a power cut may leave it, or too large to be one.
    Damaged,
    Complete(Map<String, Value>),
}

impl InProcess for Flannel {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse::<Config>(config)?;
        ipam(config).map(drop)
    }

    fn call(&self, call: &Call, delegate: &Delegate<'_>) -> Result<Value, Failure> {
        let config: Config = configuration(call)?;
        let path = config.saved_path(call);
        let run = |config: Map<String, Value>| run(delegate, call, config);
        match call.command {
            Command::Add => {
                let delegated = config.delegated(call, &config.subnet_env()?)?;
                save(&path, &delegated).map_err(failed(format!(
                    "cannot save the configuration as {}",
                    path.display()
                )))?;
                run(delegated)
            }
            Command::Del => del(&config, call, &path, delegate).map(|()| Value::Null),
            Command::Check => {
                let Saved::Complete(saved) = saved(&path)? else {
                    let path = path.display();
                    return Err(Failure::internal(format!("{path} has no saved configuration")));
                };
                run(with_previous(saved, call))
            }
            Command::Status => {
                let env = config.subnet_env().map_err(|failure| Failure {
                    code: NOT_AVAILABLE,
                    ..failure
                })?;
                run(config.delegated(call, &env)?)
            }
            Command::Version => Ok(Value::Null),
            Command::Gc => {
                let mut delegated = config.delegated(call, &config.subnet_env()?)?;
                for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
                    if let Some(valid) = call.config.get(key) {
                        delegated.insert(key.to_owned(), valid.clone());
                    }
                }
                run(delegated)
            }
        }
    }
}

fn del(config: &Config, call: &Call, path: &Path, delegate: &Delegate<'_>) -> Result<(), Failure> {
    let delegated = match saved(path)? {
        Saved::Nothing => return Ok(()),
        Saved::Complete(saved) => saved,
        Saved::Damaged => match config.subnet_env().and_then(|env| config.delegated(call, &env)) {
            Ok(delegated) => delegated,
            Err(failure) => {
                tracing::warn!(
                    container = call.container_id,
                    path = %path.display(),
                    error = failure.msg,
                    details = failure.details,
                    "flannel's saved configuration is damaged and cannot be made anew; what it made may stay"
                );
                return Ok(());
            }
        },
    };
    run(delegate, call, with_previous(delegated, call))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(failed(format!("cannot remove {}", path.display()))),
    }
}

/// Calls the other plugin with its configuration.
fn run(delegate: &Delegate<'_>, call: &Call, config: Map<String, Value>) -> Result<Value, Failure> {
    let plugin = config
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let call = Call {
        command: call.command,
        container_id: call.container_id.clone(),
        netns: call.netns.clone(),
        if_name: call.if_name.clone(),
        args: call.args.clone(),
        config,
    };
    delegate.run(&plugin, &call)
}

/// With the result of ADD, by which the other plugin knows what it made when the network namespace is gone.
fn with_previous(mut delegated: Map<String, Value>, call: &Call) -> Map<String, Value> {
    if let Some(previous) = call.config.get("prevResult") {
        delegated.insert("prevResult".to_owned(), previous.clone());
    }
    delegated
}

impl Config {
    fn saved_path(&self, call: &Call) -> PathBuf {
        let dir = self
            .data_dir
            .as_deref()
            .unwrap_or_else(|| Path::new(DEFAULT_DATA_DIR));
        dir.join(&call.container_id)
    }

    fn subnet_env(&self) -> Result<SubnetEnv, Failure> {
        let path = self
            .subnet_file
            .as_deref()
            .unwrap_or_else(|| Path::new(DEFAULT_SUBNET_FILE));
        let bytes = read(path).map_err(failed(format!(
            "cannot read {}, which the flannel daemon writes; its log may say why it has not",
            path.display()
        )))?;
        SubnetEnv::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| Failure {
            details: error,
            ..Failure::internal(format!("{} is invalid", path.display()))
        })
    }

    /// The configuration of the other plugin.
    fn delegated(&self, call: &Call, env: &SubnetEnv) -> Result<Map<String, Value>, Failure> {
        let mut delegated = self.delegate.clone().unwrap_or_default();
        for key in ["name", "ipam"] {
            if delegated.contains_key(key) {
                return Err(invalid(format!(
                    "delegate has the key {key}, which is set by flannel"
                )));
            }
        }
        let mut unless_set = |key: &str, value: Value| {
            delegated.entry(key).or_insert(value);
        };
        unless_set("type", json!("bridge"));
        unless_set("ipMasq", json!(!env.ip_masq));
        unless_set("mtu", json!(env.mtu));
        let Some(plugin) = delegated.get("type").and_then(Value::as_str) else {
            return Err(invalid("the type of delegate is not a string"));
        };
        if plugin == "bridge" {
            delegated.entry("isGateway").or_insert(json!(true));
        }
        if let Some(runtime_config) = &self.runtime_config {
            delegated.insert("runtimeConfig".to_owned(), json!(runtime_config));
        }
        for key in ["name", "cniVersion"] {
            if let Some(value) = call.config.get(key) {
                delegated.insert(key.to_owned(), value.clone());
            }
        }
        let Ipam { routes, mut others } = ipam(&call.config).map_err(invalid)?;
        others.entry("type").or_insert(json!("host-local"));
        let ranges: Vec<Value> = env
            .subnets
            .iter()
            .map(|subnet| json!([{"subnet": subnet}]))
            .collect();
        others.insert("ranges".to_owned(), json!(ranges));
        let configured = routes
            .into_iter()
            .flatten()
            .map(|route| json!(Route::from(route)));
        let routes: Vec<Value> = configured
            .chain(env.networks.iter().map(|network| json!({"dst": network})))
            .collect();
        others.insert("routes".to_owned(), json!(routes));
        delegated.insert("ipam".to_owned(), Value::Object(others));
        Ok(delegated)
    }
}

fn ipam(config: &Map<String, Value>) -> Result<Ipam, String> {
    let ipam = config.get("ipam").map(Option::<Ipam>::deserialize);
    let ipam = ipam.transpose().map_err(|error| error.to_string())?;
    Ok(ipam.flatten().unwrap_or_default())
}

impl SubnetEnv {
    fn parse(text: &str) -> Result<Self, String> {
        let list = |value: &str| {
            let mut networks: Vec<IpNet> = Vec::new();
            for part in value.split(',') {
                let Cidr(network) = part.parse()?;
                if !networks.contains(&network.trunc()) {
                    networks.push(network.trunc());
                }
            }
            Ok::<_, String>(networks)
        };
        let one = |value: &str| value.parse().map(|Cidr(subnet)| Some(subnet.trunc()));
        let (mut networks, mut networks_v6) = (Vec::new(), Vec::new());
        let (mut subnet, mut subnet_v6) = (None, None);
        let (mut mtu, mut ip_masq) = (None, None);
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            match key {
                "FLANNEL_NETWORK" => networks = list(value)?,
                "FLANNEL_IPV6_NETWORK" => networks_v6 = list(value)?,
                "FLANNEL_SUBNET" => subnet = one(value)?,
                "FLANNEL_IPV6_SUBNET" => subnet_v6 = one(value)?,
                "FLANNEL_MTU" => {
                    mtu = Some(
                        value
                            .parse()
                            .map_err(|_| format!("FLANNEL_MTU is {value:?}, which is no number"))?,
                    );
                }
                "FLANNEL_IPMASQ" => ip_masq = Some(value == "true"),
                _ => {}
            }
        }
        networks.extend(networks_v6);
        let subnets: Vec<IpNet> = subnet.into_iter().chain(subnet_v6).collect();
        if networks.is_empty() {
            return Err("FLANNEL_NETWORK and FLANNEL_IPV6_NETWORK are missing".to_owned());
        }
        if subnets.is_empty() {
            return Err("FLANNEL_SUBNET and FLANNEL_IPV6_SUBNET are missing".to_owned());
        }
        Ok(Self {
            networks,
            subnets,
            mtu: mtu.ok_or("FLANNEL_MTU is missing")?,
            ip_masq: ip_masq.ok_or("FLANNEL_IPMASQ is missing")?,
        })
    }
}

fn save(path: &Path, config: &Map<String, Value>) -> Result<(), AtomicFileError> {
    let text = Value::from(config.clone()).to_string();
    let replace = || replace_file(CWD, path, text.as_bytes(), Durability::Process);
    match replace() {
        Err(error) if error.errno == Errno::NOENT => {
            let mut builder = DirBuilder::new();
            // What cannot be created is found by the next try.
            builder
                .recursive(true)
                .mode(0o700)
                .create(path.parent().unwrap_or(path))
                .ok();
            replace()
        }
        outcome => outcome,
    }
}

fn saved(path: &Path) -> Result<Saved, Failure> {
    let bytes = match read_if_any(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Saved::Nothing),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(Saved::Damaged),
        Err(error) => return Err(failed(format!("cannot read {}", path.display()))(error)),
    };
    match serde_json::from_slice::<Map<String, Value>>(&bytes) {
        Ok(saved) if saved.get("type").is_some_and(Value::is_string) => Ok(Saved::Complete(saved)),
        _ => Ok(Saved::Damaged),
    }
}
