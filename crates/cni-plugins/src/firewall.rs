//! `firewall`: lets the packets of a pod through the node's `FORWARD` chain, and keeps bridges apart (`ingressPolicy`).
//!
//! See <https://www.cni.dev/plugins/current/meta/firewall/>. `FORWARD` leads to `CNI-FORWARD`, which has two rules for
//! each address of a pod, behind a rule that leads to the administrator's own chain. The rules that keep bridges apart
//! are for each bridge; they stay when the pods are gone.
//!
//! With firewalld the rules are firewalld's business: that is left to the binary.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ipnet::IpNet;
use pausa_cni::{AddResult, Call, Command, Delegate, Failure, InProcess};
use pausa_netfilter::iptables::{Interface, Match, Network, Rule, Target};
use pausa_netfilter::{Family, Place};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::common::{chained, configuration, parse, previous, result_of_add};
use crate::iptables::{Iptables, Wanted};

const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
/// The names are those of the reference.
const PODS: &str = "CNI-FORWARD";
const DEFAULT_ADMIN: &str = "CNI-ADMIN";
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

#[derive(Debug)]
pub(crate) struct Firewall;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    backend: Backend,
    iptables_admin_chain_name: Option<String>,
    /// Of no use without firewalld.
    #[serde(rename = "firewalldZone")]
    _firewalld_zone: Option<String>,
    #[serde(default)]
    ingress_policy: IngressPolicy,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Backend {
    /// firewalld if it runs.
    #[default]
    #[serde(rename = "")]
    Any,
    Iptables,
    Firewalld,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum IngressPolicy {
    #[default]
    #[serde(alias = "")]
    Open,
    /// Connections from other bridges are dropped.
    SameBridge,
    /// Those from the same bridge too.
    Isolated,
}

impl Config {
    fn admin_chain(&self) -> &str {
        let name = self.iptables_admin_chain_name.as_deref();
        name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_ADMIN)
    }
}

impl InProcess for Firewall {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        let config: Config = parse(config)?;
        match config.backend {
            Backend::Firewalld => Err("the backend firewalld is for the binary".to_owned()),
            Backend::Any if firewalld_runs(Path::new("/run/firewalld.pid")) => {
                Err("firewalld runs, which the binary speaks with".to_owned())
            }
            // What iptables-restore reads is lines.
            _ if config
                .admin_chain()
                .contains(|c: char| c.is_whitespace() || c.is_control()) =>
            {
                Err("iptablesAdminChainName is not the name of a chain".to_owned())
            }
            Backend::Any | Backend::Iptables => Ok(()),
        }
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        let config: Config = configuration(call)?;
        match call.command {
            Command::Add => add(call, &config),
            Command::Check => check(call, &config).map(|()| Value::Null),
            Command::Del => del(call).map(|()| Value::Null),
            Command::Status | Command::Gc | Command::Version => Ok(Value::Null),
        }
    }
}

/// firewalld writes its process id there, and removes the file when it ends. If it was killed, the process is gone or
/// another one.
fn firewalld_runs(pid_file: &Path) -> bool {
    let read = |path: &Path| {
        let mut text = String::new();
        File::open(path)?.take(64).read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    };
    let Some(pid) = read(pid_file)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
    else {
        return false;
    };
    read(Path::new(&format!("/proc/{pid}/comm"))).is_ok_and(|name| name.trim_end() == "firewalld")
}

fn add(call: &Call, config: &Config) -> Result<Value, Failure> {
    let (result, value) = chained(call)?;
    let bridge = match config.ingress_policy {
        IngressPolicy::Open => None,
        _ => Some(bridge_of(&result)?),
    };
    for (family, nets) in families(&result) {
        let mut wanted = chains(config);
        wanted.extend(of_pod(&nets).map(|rule| Wanted::Rule(PODS.to_owned(), rule, Place::Last)));
        if let Some(bridge) = bridge {
            wanted.extend(isolation(
                bridge,
                config.ingress_policy == IngressPolicy::Isolated,
            ));
        }
        iptables(family)?.ensure(FILTER, &wanted)?;
    }
    Ok(value.clone())
}

fn check(call: &Call, config: &Config) -> Result<(), Failure> {
    let result = result_of_add(call)?;
    for (family, nets) in families(&result) {
        let rules = chains(config).into_iter().filter_map(|wanted| match wanted {
            Wanted::Rule(chain, rule, _) => Some((chain, rule)),
            _ => None,
        });
        let rules: Vec<_> = rules
            .chain(of_pod(&nets).map(|rule| (PODS.to_owned(), rule)))
            .collect();
        let wanted: Vec<_> = rules
            .iter()
            .map(|(chain, rule)| (chain.as_str(), rule.clone()))
            .collect();
        if let Some((chain, rule)) = iptables(family)?.missing(FILTER, &wanted)? {
            return Err(Failure::internal(format!(
                "chain {chain} of table filter does not have the rule {rule}"
            )));
        }
    }
    Ok(())
}

/// The rules for the bridge stay: other pods may need them.
fn del(call: &Call) -> Result<(), Failure> {
    let Some((result, _)) = previous(call)? else {
        return Ok(());
    };
    for (family, nets) in families(&result) {
        if let Some(iptables) = Iptables::of(family) {
            let unwanted: Vec<_> = of_pod(&nets).map(|rule| (PODS, rule)).collect();
            iptables.remove_rules(FILTER, &unwanted)?;
        }
    }
    Ok(())
}

fn iptables(family: Family) -> Result<Iptables, Failure> {
    Iptables::of(family).ok_or_else(|| Failure::internal("the node has no iptables for the firewall plugin"))
}

/// The addresses of a result by family, without those that have none.
fn families(result: &AddResult) -> impl Iterator<Item = (Family, Vec<IpNet>)> {
    let of = |is_v4: bool| {
        let nets = result.ips.iter().map(|ip| ip.address);
        nets.filter(|net| net.addr().is_ipv4() == is_v4)
            .collect::<Vec<_>>()
    };
    let both = [(Family::V4, of(true)), (Family::V6, of(false))];
    both.into_iter().filter(|(_, nets)| !nets.is_empty())
}

fn comment(text: &str) -> Vec<Match> {
    vec![Match::Comment(text.to_owned())]
}

/// The chains that all pods share, and the rules that lead to them.
fn chains(config: &Config) -> Vec<Wanted> {
    let to_pods = Rule {
        matches: comment("CNI firewall plugin rules"),
        ..Rule::to(Target::Jump(PODS.to_owned()))
    };
    let admin = config.admin_chain();
    let to_admin = Rule {
        matches: comment("CNI firewall plugin admin overrides"),
        ..Rule::to(Target::Jump(admin.to_owned()))
    };
    vec![
        Wanted::Chain(PODS.to_owned()),
        Wanted::Chain(admin.to_owned()),
        Wanted::Rule(FORWARD.to_owned(), to_pods, Place::First),
        Wanted::Rule(PODS.to_owned(), to_admin, Place::First),
    ]
}

/// Answers may reach the pod, and the pod everything.
fn of_pod(nets: &[IpNet]) -> impl Iterator<Item = Rule> {
    let hosts = nets.iter().map(|net| Network::host(net.addr()));
    hosts.flat_map(|host| {
        let answers = Rule {
            destination: Some(host),
            matches: vec![Match::Established],
            ..Rule::to(Target::Accept)
        };
        let requests = Rule {
            source: Some(host),
            ..Rule::to(Target::Accept)
        };
        [answers, requests]
    })
}

fn bridge_of(result: &AddResult) -> Result<&str, Failure> {
    /// `IFNAMSIZ`, with the zero byte at the end
    const LONGEST: usize = 15;
    let name = result.interfaces.first().map(|interface| interface.name.as_str());
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
        Failure::internal("ingressPolicy needs a bridge, which the result of the plugin before does not name")
    })?;
    if name.len() > LONGEST || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(Failure::internal(format!("{name:?} is not the name of a bridge")));
    }
    Ok(name)
}

/// What leaves a bridge goes to the second stage, where nothing may enter another bridge that is kept apart.
fn isolation(bridge: &str, from_itself_too: bool) -> Vec<Wanted> {
    let every_policy = || comment("CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)");
    let this_policy = || {
        let policy = if from_itself_too {
            "isolated"
        } else {
            "same-bridge"
        };
        comment(&format!("CNI firewall plugin rules (ingressPolicy: {policy})"))
    };
    let interface = |negated| {
        Some(Interface {
            name: bridge.to_owned(),
            negated,
        })
    };
    let at = |chain: &str, rule, place| Wanted::Rule(chain.to_owned(), rule, place);
    let jump = |to: &str| Target::Jump(to.to_owned());
    let with = |matches, target| Rule {
        matches,
        ..Rule::to(target)
    };
    let mut wanted = vec![
        Wanted::Chain(STAGE_1.to_owned()),
        Wanted::Chain(STAGE_2.to_owned()),
        // Before the rules that let packets through.
        at(FORWARD, with(every_policy(), jump(STAGE_1)), Place::First),
        at(
            STAGE_1,
            Rule {
                in_interface: interface(false),
                out_interface: interface(true),
                ..with(this_policy(), jump(STAGE_2))
            },
            Place::First,
        ),
    ];
    if from_itself_too {
        let from_itself = Rule {
            in_interface: interface(false),
            out_interface: interface(false),
            ..with(this_policy(), Target::Drop)
        };
        wanted.push(at(STAGE_1, from_itself, Place::First));
    }
    let into = Rule {
        out_interface: interface(false),
        ..with(every_policy(), Target::Drop)
    };
    wanted.extend([
        at(STAGE_1, with(every_policy(), Target::Return), Place::Last),
        at(STAGE_2, into, Place::First),
        at(STAGE_2, with(every_policy(), Target::Return), Place::Last),
    ]);
    wanted
}
