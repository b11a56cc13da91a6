//! What CRI's resource fields are in the files of a cgroup. Pure: nothing is read or written here.
//!
//! CRI says 0 or empty for "not given"; what is not given is left as it is (a new cgroup: as the kernel makes it).
//! Explicit values of kubelet are never improved on. `unified` comes last and so wins on v2.
//!
//! References: `Documentation/admin-guide/cgroup-v1/`, `cgroup-v2.rst`, KEP-2254 (shares to weight).

mod shared;
mod v1;
mod v2;

pub(crate) use v1::settings as v1;
pub(crate) use v2::settings as v2;

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Which controller has the file.
    pub(crate) controller: &'static str,
    /// The file.
    pub(crate) file: String,
    /// The value.
    pub(crate) value: String,
    /// The CRI field that asks for it.
    pub(crate) field: &'static str,
    /// Whether the container can do without, where the kernel does not have the file.
    pub(crate) optional: bool,
}

impl Setting {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers and texts alike"
    )]
    fn new(controller: &'static str, file: &str, value: impl ToString, field: &'static str) -> Self {
        Self {
            controller,
            file: file.to_owned(),
            value: value.to_string(),
            field,
            optional: false,
        }
    }

    fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

pub(crate) const QUOTA: &str = "linux.resources.cpu_quota";
pub(crate) const PERIOD: &str = "linux.resources.cpu_period";
pub(crate) const SHARES: &str = "linux.resources.cpu_shares";
pub(crate) const CPUS: &str = "linux.resources.cpuset_cpus";
pub(crate) const MEMS: &str = "linux.resources.cpuset_mems";
pub(crate) const MEMORY: &str = "linux.resources.memory_limit_in_bytes";
pub(crate) const SWAP: &str = "linux.resources.memory_swap_limit_in_bytes";
pub(crate) const HUGEPAGES: &str = "linux.resources.hugepage_limits";
pub(crate) const UNIFIED: &str = "linux.resources.unified";

#[cfg(test)]
mod tests;
