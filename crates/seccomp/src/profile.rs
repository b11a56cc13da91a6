//! Profiles as people write them: Docker's JSON, or the plain OCI form, which is a subset of it.
//!
//! A profile in Docker's form depends on the container: each rule may name capabilities, architectures and a
//! kernel version that include or exclude it. [`Profile::resolve`] decides that for one [`Target`]. This is
//! the form that Kubernetes `Localhost` profiles, `docker run --security-opt seccomp=` and Podman use.
//!
//! Must never read a file, or silently skip an unknown value of a known field. Unknown fields are skipped, as in all other
//! readers of the format.

mod document;

use crate::architecture::Target;
use crate::error::Error;
use crate::kernel::KernelVersion;
use document::{Document, Filter, Rule};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSyscall};

/// The largest profile that is read, in bytes. Docker's default profile has 15 thousand.
pub const MAX_PROFILE_SIZE: usize = 1 << 20;

/// A parsed profile, to be resolved.
#[derive(Clone, Debug)]
pub struct Profile {
    document: Document,
    rules: Vec<Conditional>,
}

/// A rule and its conditions.
#[derive(Clone, Debug)]
struct Conditional {
    syscall: LinuxSyscall,
    includes: Filter,
    excludes: Filter,
    include_kernel: Option<KernelVersion>,
    exclude_kernel: Option<KernelVersion>,
}

impl Profile {
    /// Parses a profile.
    ///
    /// # Errors
    /// When it is larger than [`MAX_PROFILE_SIZE`], is not JSON of the expected form, or contradicts itself.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_PROFILE_SIZE {
            return Err(Error::ProfileTooLarge {
                size: json.len(),
                limit: MAX_PROFILE_SIZE,
            });
        }
        let mut document: Document =
            serde_json::from_slice(json).map_err(|source| Error::Syntax { source })?;
        if !document.architectures.is_empty() && !document.arch_map.is_empty() {
            return Err(Error::ArchitecturesTwice);
        }
        let rules = std::mem::take(&mut document.syscalls);
        let rules = rules
            .into_iter()
            .enumerate()
            .map(|(index, rule)| conditional(index, rule));
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            document,
        })
    }

    /// The profile for one container, in the OCI form.
    ///
    /// # Errors
    /// When an architecture that counts for this target is not in the OCI runtime spec.
    pub fn resolve(&self, target: &Target<'_>) -> Result<LinuxSeccomp, Error> {
        let applies = self.rules.iter().filter(|rule| rule.applies(target));
        let mut seccomp = LinuxSeccomp::default();
        seccomp
            .set_default_action(self.document.default_action)
            .set_default_errno_ret(self.document.default_errno_ret)
            .set_architectures(Some(self.architectures(target)?))
            .set_flags(self.document.flags.clone())
            .set_listener_path(self.document.listener_path.clone())
            .set_listener_metadata(self.document.listener_metadata.clone())
            .set_syscalls(Some(applies.map(|rule| rule.syscall.clone()).collect()));
        Ok(seccomp)
    }

    /// The architectures as listed, or the native one and its relatives from the map.
    fn architectures(&self, target: &Target<'_>) -> Result<Vec<Arch>, Error> {
        let mapped = self
            .document
            .arch_map
            .iter()
            .find(|map| target.architecture.is_called(&map.architecture));
        let names = match mapped {
            Some(map) => [&map.architecture]
                .into_iter()
                .chain(&map.sub_architectures)
                .collect(),
            None => self.document.architectures.iter().collect::<Vec<_>>(),
        };
        let parse = |name: &&String| {
            name.parse().map_err(|_| Error::UnknownArchitecture {
                name: name.chars().take(64).collect(),
            })
        };
        let mut architectures = names.iter().map(parse).collect::<Result<Vec<Arch>, _>>()?;
        if architectures.is_empty() {
            architectures.push(target.architecture.oci());
        }
        Ok(architectures)
    }
}

impl Conditional {
    /// Every condition of `includes` must hold, none of `excludes` may.
    fn applies(&self, target: &Target<'_>) -> bool {
        let here = |name: &String| target.architecture.is_called(name);
        let held =
            |name: &String| document::capability(name).is_some_and(|cap| target.capabilities.contains(&cap));
        let included = (self.includes.arches.is_empty() || self.includes.arches.iter().any(here))
            && self.includes.caps.iter().all(held)
            && self.include_kernel.is_none_or(|minimum| target.kernel >= minimum);
        let excluded = self.excludes.arches.iter().any(here)
            || self.excludes.caps.iter().any(held)
            || self
                .exclude_kernel
                .is_some_and(|minimum| target.kernel >= minimum);
        included && !excluded
    }
}

fn conditional(index: usize, rule: Rule) -> Result<Conditional, Error> {
    let kernel = |filter: &Filter| {
        let text = filter.min_kernel.as_deref().filter(|text| !text.is_empty());
        text.map(str::parse)
            .transpose()
            .map_err(|source| Error::MinKernel { rule: index, source })
    };
    let names = match rule.name.filter(|name| !name.is_empty()) {
        Some(name) if !rule.names.is_empty() => {
            return Err(Error::NamesTwice {
                rule: index,
                name: name.chars().take(64).collect(),
            });
        }
        Some(name) => vec![name],
        None => rule.names,
    };
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(names)
        .set_action(rule.action)
        .set_errno_ret(rule.errno_ret);
    if !rule.args.is_empty() {
        syscall.set_args(Some(rule.args));
    }
    Ok(Conditional {
        syscall,
        include_kernel: kernel(&rule.includes)?,
        exclude_kernel: kernel(&rule.excludes)?,
        includes: rule.includes,
        excludes: rule.excludes,
    })
}

#[cfg(test)]
mod tests;
