//! `registries.conf` (containers-registries.conf(5), version 2): the repositories behind a name, blocked names, and the meaning
//! of short names. Also reads version 1.
//!
//! ```text
//!  name ──short?──▶ aliases, search registries ──▶ reference ──rule by prefix──▶ mirrors, location ──▶ hosts.toml ──▶ endpoints
//!                                                                   └─ blocked ──▶ refused
//! ```
//!
//! This file names the repositories, [`HostsDir`] says how to reach the servers of each. If both configure a host, the mirrors
//! named here come first, each reached as its own `hosts.toml` says, then those of the registry's `hosts.toml`.
//!
//! The files are small and read at every use. A drop-in replaces the search list, merges aliases and replaces rules of the
//! same prefix as a whole (containers-registries.conf.d(5)).

use std::path::{Path, PathBuf};

use crate::endpoint::{Endpoint, Fallback, Role};
use crate::error::Error;
use crate::hosts::HostsDir;
use crate::reference::Reference;
use crate::resolver::Resolver;

mod file;
mod rule;
mod short;

#[cfg(test)]
mod tests;

use rule::Rule;
use short::ShortNames;

/// The content of all files.
#[derive(Debug, Default)]
struct Loaded {
    rules: Vec<Rule>,
    short: ShortNames,
}

impl Loaded {
    /// The rule with the longest matching prefix, and where the prefix ends in the name.
    fn rule(&self, reference: &Reference) -> Option<(&Rule, usize)> {
        let name = rule::spelled(reference);
        let mut best: Option<(&Rule, usize)> = None;
        for rule in &self.rules {
            if let Some(end) = rule.matches(&name)
                && best.is_none_or(|(other, _)| rule.prefix.len() > other.prefix.len())
            {
                best = Some((rule, end));
            }
        }
        best
    }
}

/// Where `registries.conf` is.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    required: bool,
}

/// The resolver of a node: `registries.conf` over `hosts.toml`.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    hosts: HostsDir,
    conf: Option<Place>,
}

impl Registries {
    /// Reads only the `hosts.toml` files in `certs_d`, directories in containerd's layout.
    pub fn new(certs_d: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            hosts: HostsDir::new(certs_d),
            conf: None,
        }
    }

    /// Also reads the `registries.conf` at `path`, its drop-ins in `<path>.d`, and certificates from `certs.d` beside it. If it is
    /// `required`, a missing file is an error.
    #[must_use]
    pub fn with_conf(mut self, path: PathBuf, required: bool) -> Self {
        self.hosts.add_root(path.with_file_name("certs.d"));
        self.conf = Some(Place { path, required });
        self
    }

    /// The references that `text` may mean, in the order to try: more than one only for short names. May block on files.
    ///
    /// # Errors
    /// If `text` is not a name, if configuration does not allow the short name, or if it cannot be read.
    pub fn names(&self, text: &str) -> Result<Vec<Reference>, Error> {
        // Most names have a host, and then no file needs to be read.
        if self.conf.is_none() || !Reference::is_short(text) {
            return Ok(vec![text.parse()?]);
        }
        self.load()?.short.names(text)
    }

    /// A reference to each place that the files configure, without the wildcards: hosts of `certs.d`, prefixes and search
    /// registries of `registries.conf`. There need not be such an image. May block on files.
    ///
    /// # Errors
    /// If the files cannot be read or have a mistake.
    pub fn samples(&self) -> Result<Vec<Reference>, Error> {
        let loaded = self.load()?;
        let mut places = self.hosts.hosts()?;
        if let Some((search, _)) = &loaded.short.search {
            places.extend(search.iter().cloned());
        }
        let rules = loaded.rules.iter().map(|rule| rule.prefix.clone());
        places.extend(rules.filter(|prefix| !prefix.starts_with('*')));
        let mut samples: Vec<Reference> = Vec::new();
        for place in places {
            // A prefix may be a whole name with a tag.
            let sample = format!("{place}/pausa").parse().or_else(|_| place.parse());
            if let Ok(sample) = sample
                && !samples.contains(&sample)
            {
                samples.push(sample);
            }
        }
        Ok(samples)
    }

    fn load(&self) -> Result<Loaded, Error> {
        match &self.conf {
            Some(place) => file::load(&place.path, place.required),
            None => Ok(Loaded::default()),
        }
    }

    /// The endpoints for one repository in place of `reference`.
    fn reach(&self, target: &Target<'_>, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        let own = target.physical.host() == reference.host();
        let mut endpoints = self.hosts.endpoints_of(&target.physical, own)?;
        if target.insecure {
            endpoints = insecure(endpoints);
        }
        for endpoint in &mut endpoints {
            endpoint.registry = reference.host().to_owned();
            endpoint.tag = (target.physical.tag() != reference.tag())
                .then(|| target.physical.tag().map(str::to_owned))
                .flatten();
            if target.role == Role::Mirror {
                endpoint.role = Role::Mirror;
            }
            endpoint.source.rule = Some(format!("{}: {}", target.file.display(), target.key));
        }
        Ok(endpoints)
    }
}

struct Target<'a> {
    physical: Reference,
    insecure: bool,
    role: Role,
    file: &'a Path,
    key: String,
}

impl Resolver for Registries {
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        let loaded = self.load()?;
        let Some((rule, end)) = loaded.rule(reference) else {
            return self.hosts.endpoints(reference);
        };
        if rule.blocked {
            return Err(Error::Blocked {
                reference: reference.to_string(),
                path: rule.file.clone(),
                prefix: rule.prefix.clone(),
            });
        }
        let mut endpoints = Vec::new();
        for mirror in rule.mirrors.iter().filter(|mirror| mirror.serves(reference)) {
            let target = Target {
                physical: rule.rewrite(reference, end, Some(&mirror.location))?,
                insecure: mirror.insecure,
                role: Role::Mirror,
                file: &rule.file,
                key: format!("registry \"{}\", mirror \"{}\"", rule.prefix, mirror.location),
            };
            endpoints.extend(self.reach(&target, reference)?);
        }
        let target = Target {
            physical: rule.rewrite(reference, end, rule.location.as_deref())?,
            insecure: rule.insecure,
            role: Role::Registry,
            file: &rule.file,
            key: format!("registry \"{}\"", rule.prefix),
        };
        endpoints.extend(self.reach(&target, reference)?);
        Ok(endpoints)
    }
}

/// `insecure = true`: any certificate is accepted, and plain HTTP is used if no TLS connection can be made. The more specific
/// settings of a `hosts.toml` take precedence.
fn insecure(endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut found = Vec::with_capacity(endpoints.len() * 2);
    for mut endpoint in endpoints {
        if !endpoint.source.key.is_empty() || endpoint.fallback != Fallback::None {
            found.push(endpoint);
            continue;
        }
        endpoint.tls.skip_verify = true;
        let mut plain = endpoint.clone();
        found.push(endpoint);
        if plain.base.scheme() == "https" && plain.base.set_scheme("http").is_ok() {
            plain.fallback = Fallback::AfterNoConnection;
            found.push(plain);
        }
    }
    // On loopback the default endpoints have their plain twin already.
    found.dedup_by(|second, first| {
        second.base == first.base && second.fallback != Fallback::None && first.fallback != Fallback::None
    });
    found
}
