//! Keys that are valid and have no effect, for `pausa config validate`.

use toml::Value;

use super::{Change, Config, ConfigError, CpuPinning, NetworkMode, changes};

type Unused = fn(&Config) -> bool;

/// A key, or with a dot or an underscore at the end the beginning of keys; when it has no effect; and why.
const UNUSED: [(&str, Unused, &str); 19] = [
    ("network.bridge.", is_cni, "network.mode is \"cni\""),
    ("network.in_process", is_bridge, "network.mode is \"bridge\""),
    ("cni.conf_dir", is_bridge, "network.mode is \"bridge\""),
    ("cni.bin_dir", is_bridge, "network.mode is \"bridge\""),
    (
        "cgroup_scope_prefix",
        |config| config.cgroup_driver == super::CgroupDriver::Cgroupfs,
        "only systemd has scopes, and cgroup_driver is \"cgroupfs\"",
    ),
    ("cpu.reserved", pins_nobody, "cpu.pinning is \"none\""),
    ("cpu.on_shortage", pins_nobody, "cpu.pinning is \"none\""),
    ("cpu.isolation", pins_nobody, "cpu.pinning is \"none\""),
    ("cpu.move_interrupts", pins_nobody, "cpu.pinning is \"none\""),
    (
        "blockio.ignore_not_enabled",
        |config| config.blockio.config_file.is_none(),
        "blockio.config_file is not set",
    ),
    (
        "streaming.max_sessions_per_pod",
        |config| config.streaming.max_sessions_per_pod >= config.streaming.max_sessions,
        "streaming.max_sessions is not larger",
    ),
    (
        "tracing.sampling_ratio",
        |config| config.tracing.endpoint.is_empty(),
        "tracing.endpoint is empty",
    ),
    ("nri.disable_connections", no_nri, NRI),
    (
        "nri.socket_path",
        |config| !config.nri.enable || config.nri.disable_connections,
        "plugins cannot connect: nri.enable is false, or nri.disable_connections is true",
    ),
    ("nri.plugin_", no_nri, NRI),
    ("nri.default_validator.enable", no_nri, NRI),
    ("nri.default_validator.reject_", no_validator, VALIDATOR),
    ("nri.default_validator.required_plugins", no_validator, VALIDATOR),
    (
        "nri.default_validator.tolerate_missing_plugins_annotation",
        no_validator,
        VALIDATOR,
    ),
];
const NRI: &str = "nri.enable is false";
const VALIDATOR: &str = "nri.enable or nri.default_validator.enable is false";

fn is_cni(config: &Config) -> bool {
    config.network.mode == NetworkMode::Cni
}

fn is_bridge(config: &Config) -> bool {
    config.network.mode == NetworkMode::Bridge
}

fn pins_nobody(config: &Config) -> bool {
    config.cpu.pinning == CpuPinning::None
}

fn no_nri(config: &Config) -> bool {
    !config.nri.enable
}

fn no_validator(config: &Config) -> bool {
    no_nri(config) || !config.nri.default_validator.enable
}

impl Config {
    /// Keys that differ from their defaults and have no effect, each with the reason.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn without_effect(&self) -> Result<Vec<(Change, &'static str)>, ConfigError> {
        let changes = changes(&Self::default(), self)?;
        let found = changes.into_iter().filter_map(|change| {
            let covers = |known: &str| match known.ends_with(['.', '_']) {
                true => change.key.starts_with(known),
                false => change.key == known,
            };
            let rule = UNUSED
                .iter()
                .find(|(known, unused, _)| covers(known) && unused(self));
            // Turning something off that is off anyway is no mistake.
            let off = matches!(change.new, Some(Value::Boolean(false)));
            rule.filter(|_| !off).map(|(_, _, why)| (change, *why))
        });
        Ok(found.collect())
    }
}
