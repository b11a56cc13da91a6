//! Registries: whether their configuration is right, and whether each of their servers answers.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use pausa_distribution::{Proxies, Reached, Reference, Registries, explain, reach};

use super::dns;
use super::finding::{Check, Finding, Verdict};
use crate::config::{Config, DEFAULT_REGISTRIES_CONF};
use crate::error::chain;

/// For DNS, TCP, TLS and the answer of a server.
const PATIENCE: Duration = Duration::from_secs(6);
/// Asked if nothing is configured.
const DEFAULT: &str = "docker.io/library/pausa";

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Mistakes of files.
    pub(super) mistakes: Vec<String>,
    /// Registries that are blocked on purpose.
    pub(super) blocked: Vec<String>,
    /// The servers of each registry.
    pub(super) registries: Vec<(String, Vec<Server>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) host: String,
    pub(super) is_mirror: bool,
    pub(super) by_proxy: bool,
    /// The HTTP status, or why there is none.
    pub(super) outcome: Result<u16, String>,
}

impl From<Reached> for Server {
    fn from(reached: Reached) -> Self {
        Self {
            url: reached.url,
            host: reached.host,
            is_mirror: reached.is_mirror,
            by_proxy: reached.by_proxy,
            outcome: reached.outcome.map_err(|error| chain(&error)),
        }
    }
}

impl Facts {
    /// The hosts that this node itself has to find: those behind a proxy are the proxy's business.
    pub(super) fn hosts(&self) -> BTreeSet<String> {
        let servers = self.registries.iter().flat_map(|(_, servers)| servers);
        let direct = servers.filter(|server| !server.by_proxy);
        direct.map(|server| server.host.clone()).collect()
    }

    /// Names of hosts that only stand beside others that answer.
    pub(super) fn spare(&self) -> BTreeSet<String> {
        let has_way = |servers: &[Server]| servers.iter().any(Server::answers);
        let names = |wanted: bool| -> BTreeSet<String> {
            let registries = self
                .registries
                .iter()
                .filter(|(_, servers)| has_way(servers) == wanted);
            let servers = registries.flat_map(|(_, servers)| servers);
            servers.filter_map(|server| dns::name(&server.host)).collect()
        };
        &names(true) - &names(false)
    }
}

impl Server {
    fn answers(&self) -> bool {
        matches!(self.outcome, Ok(200 | 401))
    }
}

/// The configuration is read in any case; servers are asked unless `offline`.
pub(super) async fn read(config: &Config, more: &[String], offline: bool) -> Facts {
    let mut facts = Facts::default();
    let mut registries = Registries::new([config.registry_config_dir.clone()]);
    let conf = &config.registries_conf;
    if !conf.as_os_str().is_empty() {
        let required = conf.as_path() != Path::new(DEFAULT_REGISTRIES_CONF);
        registries = registries.with_conf(conf.clone(), required);
    }
    let mut samples = match registries.samples() {
        Ok(samples) => samples,
        Err(error) => {
            facts.mistakes.push(chain(&error));
            return facts;
        }
    };
    if samples.is_empty() {
        samples.extend(DEFAULT.parse::<Reference>());
    }
    for host in more {
        match format!("{host}/pausa").parse::<Reference>() {
            Ok(sample) if sample.host() == host => samples.push(sample),
            _ => facts
                .mistakes
                .push(format!("--registry {host:?} is not a host with an optional port")),
        }
    }
    let proxies = Proxies::from_env();
    if offline {
        // Nothing is asked, but the files are read.
        for sample in &samples {
            match explain(&registries, &sample.to_string(), &proxies) {
                Ok(explanation) => {
                    for reference in explanation.references {
                        match reference.refused {
                            Some(_) if reference.blocked => facts.blocked.push(registry(sample)),
                            Some(mistake) => facts.mistakes.push(mistake),
                            None => facts.registries.push((registry(sample), Vec::new())),
                        }
                    }
                }
                Err(error) => facts.mistakes.push(chain(&error)),
            }
        }
        return facts;
    }
    let answers = samples
        .iter()
        .map(|sample| reach(&registries, sample, &proxies, PATIENCE));
    for (sample, answer) in samples.iter().zip(join_all(answers).await) {
        match answer {
            Ok(servers) => {
                let servers = servers.into_iter().map(Server::from).collect();
                facts.registries.push((registry(sample), servers));
            }
            Err(pausa_distribution::Error::Blocked { .. }) => {
                facts.blocked.push(registry(sample));
            }
            Err(error) => facts.mistakes.push(chain(&error)),
        }
    }
    facts
}

/// What a sample stands for.
fn registry(sample: &Reference) -> String {
    let name = sample.name();
    let name = name.trim_end_matches("/pausa");
    name.trim_end_matches("/library").to_owned()
}

/// `unknown` are names that were not found: what follows from that is not said again.
pub(super) fn decide(facts: &Facts, unknown: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    let mistakes: BTreeSet<&String> = facts.mistakes.iter().collect();
    for mistake in &mistakes {
        add(Check::RegistryConfig, Verdict::Problem, (*mistake).clone());
    }
    if mistakes.is_empty() {
        let mut found = format!(
            "{} registries are configured or asked for",
            facts.registries.len()
        );
        if !facts.blocked.is_empty() {
            found = format!("{found}, {} are blocked", facts.blocked.join(", "));
        }
        add(Check::RegistryConfig, Verdict::Ok, found);
    }
    let mut seen = BTreeSet::new();
    for (registry, servers) in &facts.registries {
        let has_way = servers.iter().any(Server::answers);
        for server in servers {
            let is_unknown = dns::name(&server.host).is_some_and(|name| unknown.contains(&name));
            if is_unknown && !server.by_proxy {
                continue;
            }
            if !seen.insert((&server.url, registry)) {
                continue;
            }
            let way = match server.by_proxy {
                true => " through a proxy",
                false => "",
            };
            let at = match server.is_mirror {
                true => format!("{registry}: mirror {}{way}", server.url),
                false => format!("{registry}: {}{way}", server.url),
            };
            // A mirror that fails, or a registry with a mirror, costs time and no image.
            let failed = match has_way {
                true => Verdict::Warning,
                false => Verdict::Problem,
            };
            match &server.outcome {
                Ok(status @ (200 | 401)) => add(
                    Check::RegistryReachable,
                    Verdict::Ok,
                    format!("{at} answers {status}"),
                ),
                Ok(status) => add(
                    Check::RegistryReachable,
                    failed,
                    format!("{at} answers {status}, where a registry answers 200 or 401"),
                ),
                Err(error) => add(Check::RegistryReachable, failed, format!("{at}: {error}")),
            }
        }
    }
    findings
}
