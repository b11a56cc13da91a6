//! `tuning`: sets sysctls of a pod's network namespace and attributes of its interface.
//!
//! The attributes that ADD replaces are saved in `<dataDir>/<container>_<interface>.json`, and DEL sets them back: the
//! interface may be one that outlives the pod. Sysctls go with the namespace. The binary leaves the file behind if the
//! interface is gone before DEL; here it goes. CHECK compares what the configuration sets, and nothing else.
//!
//! It must never write a sysctl outside of `net`, or one that the node's allowlist does not have.
//!
//! See <https://www.cni.dev/plugins/current/meta/tuning/>.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, remove_file};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use pausa_cni::{Call, Command, Delegate, Failure, InProcess};
use pausa_netlink::{Link, LinkChange, Netlink, Request, sysctl};
use pausa_sys::{Durability, replace_file};
use regex::bytes::{Regex, RegexBuilder};
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use crate::common::{
    arguments, chain, chained, configuration, failed, in_pod, invalid, netlink, netns, netns_if_any, parse,
    read_if_any,
};
use crate::interface::{find, mac_text, parse_mac};

const DATA_DIR: &str = "/run/cni/tuning";
/// Regular expressions, one a line. A sysctl that none of them matches somewhere is refused. Without the file, all of `net`
/// may be set.
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

#[derive(Debug)]
pub(crate) struct Tuning;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    data_dir: PathBuf,
    sysctl: BTreeMap<String, String>,
    mac: String,
    promisc: bool,
    mtu: u32,
    #[serde(rename = "txQLen")]
    tx_queue_length: Option<u32>,
    allmulti: Option<bool>,
    runtime_config: RuntimeConfig,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RuntimeConfig {
    mac: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Args {
    cni: Overrides,
}

/// What the runtime was asked for, in place of what the network has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Overrides {
    sysctl: BTreeMap<String, String>,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    #[serde(rename = "txQLen")]
    tx_queue_length: Option<u32>,
    allmulti: Option<bool>,
}

/// What one call sets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    sysctls: BTreeMap<String, String>,
    link: LinkChange,
}

/// What DEL sets back, as the binary saves it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Backup {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(default, rename = "txQLen", skip_serializing_if = "Option::is_none")]
    tx_queue_length: Option<u32>,
}

impl InProcess for Tuning {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        let Settings { sysctls, .. } = parse::<Config>(config)?.settings(None)?;
        if !sysctls.is_empty() {
            allowlist()?;
        }
        Ok(())
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        match call.command {
            Command::Add => add(call),
            Command::Check => check(call).map(|()| Value::Null),
            Command::Del => delete(call).map(|()| Value::Null),
            Command::Status | Command::Gc | Command::Version => Ok(Value::Null),
        }
    }
}

impl Config {
    /// Of the hardware addresses, the last one counts: the network's, that of `CNI_ARGS`, the capability's, the override.
    fn settings(self, mac_of_args: Option<&str>) -> Result<Settings, String> {
        let Overrides {
            sysctl,
            mac,
            promisc,
            mtu,
            tx_queue_length,
            allmulti,
        } = self.args.cni;
        let mut macs = vec![self.mac.as_str()];
        macs.extend(mac_of_args);
        macs.push(&self.runtime_config.mac);
        macs.retain(|mac| !mac.is_empty());
        // An empty override means: no hardware address.
        macs.extend(mac.as_deref());
        let mac = macs.pop().filter(|mac| !mac.is_empty());
        let mac = mac.map(|text| {
            parse_mac(text).ok_or_else(|| format!("{text:?} is not a hardware address of six bytes"))
        });
        let mtu = mtu.unwrap_or(self.mtu);
        let promisc = promisc.unwrap_or(self.promisc);
        let mut sysctls = self.sysctl;
        sysctls.extend(sysctl);
        Ok(Settings {
            sysctls,
            link: LinkChange {
                mac: mac.transpose()?,
                mtu: (mtu != 0).then_some(mtu),
                tx_queue_length: tx_queue_length.or(self.tx_queue_length),
                promiscuous: promisc.then_some(true),
                all_multicast: allmulti.or(self.allmulti),
            },
        })
    }

    fn backup_path(&self, call: &Call) -> PathBuf {
        let dir = if self.data_dir.as_os_str().is_empty() {
            Path::new(DATA_DIR)
        } else {
            &self.data_dir
        };
        dir.join(format!("{}_{}.json", call.container_id, call.if_name))
    }
}

impl Backup {
    fn of(before: &LinkChange) -> Self {
        Self {
            mac: before.mac.map(mac_text).unwrap_or_default(),
            promisc: before.promiscuous,
            mtu: before.mtu,
            allmulti: before.all_multicast,
            tx_queue_length: before.tx_queue_length,
        }
    }

    fn change(&self) -> LinkChange {
        LinkChange {
            mac: parse_mac(&self.mac),
            mtu: self.mtu.filter(|mtu| *mtu != 0),
            tx_queue_length: self.tx_queue_length,
            promiscuous: self.promisc,
            all_multicast: self.allmulti,
        }
    }

    fn save(&self, path: &Path) -> Result<(), Failure> {
        let saving = || format!("cannot save what the interface had in {}", path.display());
        if let Some(dir) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(failed(format!("cannot create {}", dir.display())))?;
        }
        let mut bytes = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b" "));
        self.serialize(&mut serializer).map_err(failed(saving()))?;
        replace_file(CWD, path, &bytes, Durability::Process).map_err(failed(saving()))
    }
}

fn settings(call: &Call, config: Config) -> Result<Settings, Failure> {
    let mac = arguments(call, &["MAC"])?.remove("MAC");
    config.settings(mac).map_err(invalid)
}

/// The expressions of the allowlist, if there is one. Those that only Go knows are an error: then the binary decides.
fn allowlist() -> Result<Option<Vec<Regex>>, String> {
    let bytes =
        read_if_any(Path::new(ALLOWLIST)).map_err(|error| format!("cannot read {ALLOWLIST}: {error}"))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| format!("{ALLOWLIST}: {error}"))?;
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        // Classes such as \w are those of ASCII in Go.
        .map(|line| RegexBuilder::new(line).unicode(false).build())
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(|error| format!("{ALLOWLIST}: {error}"))
}

fn check_allowed(sysctls: &BTreeMap<String, String>) -> Result<(), Failure> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let Some(allowed) = allowlist().map_err(Failure::internal)? else {
        return Ok(());
    };
    let refused = sysctls
        .keys()
        .find(|key| !allowed.iter().any(|regex| regex.is_match(key.as_bytes())));
    match refused {
        Some(key) => Err(Failure::internal(format!(
            "{ALLOWLIST} does not allow the sysctl {key}"
        ))),
        None => Ok(()),
    }
}

/// The path of a sysctl below `/proc/sys/net`. Dots separate as slashes do; `IFNAME` is the pod's interface, whose dots do
/// not.
fn sysctl_path(key: &str, interface: &str) -> Result<String, Failure> {
    let path = key.replace('.', "/").replacen("IFNAME", interface, 1);
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let below: Vec<&str> = match parts.next() {
        Some("net") => parts.collect(),
        _ => Vec::new(),
    };
    if below.is_empty() || below.contains(&"..") {
        return Err(Failure::internal(format!("{key:?} is not a sysctl of net")));
    }
    Ok(below.join("/"))
}

/// What a link has of what `change` changes.
fn current(link: &Link, change: &LinkChange) -> LinkChange {
    LinkChange {
        mac: change.mac.and(link.mac),
        mtu: change.mtu.map(|_| link.mtu),
        tx_queue_length: change.tx_queue_length.map(|_| link.tx_queue_length),
        promiscuous: change.promiscuous.map(|_| link.promiscuity != 0),
        all_multicast: change.all_multicast.map(|_| link.all_multicast),
    }
}

fn add(call: &Call) -> Result<Value, Failure> {
    let config = configuration::<Config>(call)?;
    let backup_path = config.backup_path(call);
    let settings = settings(call, config)?;
    check_allowed(&settings.sysctls)?;
    let (_, result) = chained(call)?;
    let mut result = result.clone();
    let netns = netns(call)?;
    if settings == Settings::default() {
        return Ok(result);
    }
    in_pod(netns.as_fd(), || apply(call, &settings, &backup_path))?;
    let interfaces = result.get_mut("interfaces").and_then(Value::as_array_mut);
    for interface in interfaces.into_iter().flatten() {
        if interface.get("name").and_then(Value::as_str) != Some(&call.if_name) {
            continue;
        }
        let Some(interface) = interface.as_object_mut() else {
            continue;
        };
        if let Some(mac) = settings.link.mac {
            interface.insert("mac".to_owned(), json!(mac_text(mac)));
        }
        if let (Some(mtu), Some(known)) = (settings.link.mtu, interface.get_mut("mtu")) {
            *known = json!(mtu);
        }
    }
    Ok(result)
}

/// Runs in the pod's namespace.
fn apply(call: &Call, settings: &Settings, backup_path: &Path) -> Result<(), Failure> {
    for (key, value) in &settings.sysctls {
        let path = sysctl_path(key, &call.if_name)?;
        sysctl::write(&path, value).map_err(failed(format!("cannot set the sysctl {key} to {value:?}")))?;
    }
    let change = settings.link;
    if change == LinkChange::default() {
        return Ok(());
    }
    let mut netlink = netlink()?;
    let link = find(&mut netlink, &call.if_name)?;
    let before = current(&link, &change);
    Backup::of(&before).save(backup_path)?;
    let index = link.index;
    netlink
        .execute(&[Request::ChangeLink { index, change }])
        .map_err(|error| {
            // The kernel may have made some of the changes.
            let change = before;
            drop(netlink.execute(&[Request::ChangeLink { index, change }]));
            drop(remove_file(backup_path));
            failed(format!("cannot tune {}", call.if_name))(error)
        })
}

fn check(call: &Call) -> Result<(), Failure> {
    let settings = settings(call, configuration(call)?)?;
    chained(call)?;
    in_pod(netns(call)?.as_fd(), || {
        check_sysctls(&settings.sysctls, &call.if_name)?;
        check_link(&find(&mut netlink()?, &call.if_name)?, &settings.link)
    })
}

fn check_sysctls(sysctls: &BTreeMap<String, String>, interface: &str) -> Result<(), Failure> {
    for (key, expected) in sysctls {
        let found = sysctl::read(&sysctl_path(key, interface)?)
            .map_err(failed(format!("cannot read the sysctl {key}")))?;
        // The kernel separates numbers with tabs.
        if !found.split_whitespace().eq(expected.split_whitespace()) {
            return Err(Failure::internal(format!(
                "the sysctl {key} is {found:?} instead of {expected:?}"
            )));
        }
    }
    Ok(())
}

fn check_link(link: &Link, expected: &LinkChange) -> Result<(), Failure> {
    let found = current(link, expected);
    if found == *expected {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "{} has {found} instead of {expected}",
        link.name
    )))
}

fn delete(call: &Call) -> Result<(), Failure> {
    let backup_path = configuration::<Config>(call)?.backup_path(call);
    let path = backup_path.display();
    let backup = match read_if_any(&backup_path) {
        Ok(None) => return Ok(()),
        // Nothing can be set back by it.
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
        backup => backup
            .map_err(failed(format!("cannot read {path}")))?
            .unwrap_or_default(),
    };
    if let Some(netns) = netns_if_any(call)?
        && let Err(error) = restore(call, netns.as_fd(), &backup)
    {
        tracing::warn!(
            container = call.container_id,
            interface = call.if_name,
            error = chain(&*error),
            "attributes of a pod's interface cannot be set back to what they were before the pod; it keeps them"
        );
    }
    match remove_file(&backup_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(format!("cannot remove {path}"))(error))
        }
        _ => Ok(()),
    }
}

/// An interface that is gone has nothing to restore.
fn restore(call: &Call, netns: BorrowedFd<'_>, backup: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let change = serde_json::from_slice::<Backup>(backup)?.change();
    let mut netlink = Netlink::open_in(netns)?;
    if let Some(link) = netlink.link_by_name(&call.if_name)? {
        let index = link.index;
        netlink.execute(&[Request::ChangeLink { index, change }])?;
    }
    Ok(())
}
