//! Checks the values of a configuration that types cannot check.

use std::path::Path;

use tracing_subscriber::filter::Targets;

use super::{Config, ConfigError, InProcessPlugins, SecretFile};

/// Longest interface name in the kernel (IFNAMSIZ without the NUL).
const IFNAME_MAX: usize = 15;
/// Longest path of a unix socket (sun_path without the NUL), with room for the suffixes of files next to it.
const SOCKET_PATH_MAX: usize = 107 - ".lock".len();
/// Shorter lines would be mostly prefix; kubelet and log shippers do not read longer ones.
const LOG_LINE: std::ops::RangeInclusive<u32> = 256..=1024 * 1024;
/// IPv6 needs 1280; an IP packet has at most 65535.
const MTU: std::ops::RangeInclusive<u32> = 1280..=65_535;
/// The most that the kernel takes (PID_MAX_LIMIT).
const PIDS: u32 = 4 * 1024 * 1024;
/// The kernel takes no burst above the quota.
const CPU_BURST: u32 = 100;
const WARM: u16 = 1000;
/// A pod waits for a plugin that hangs for as long.
const PLUGIN_SECONDS: std::ops::RangeInclusive<u32> = 1..=60;
/// More parallel connections would only make registries throttle the node.
const DOWNLOADS: std::ops::RangeInclusive<u32> = 1..=64;

impl Config {
    /// # Errors
    /// [`ConfigError::Value`] for the first wrong value.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.wrong_values().into_iter().next().map_or(Ok(()), Err)
    }

    /// A [`ConfigError::Value`] for each wrong value.
    pub fn wrong_values(&self) -> Vec<ConfigError> {
        let mut wrong = Wrong::default();
        self.validate_paths(&mut wrong);
        self.validate_network(&mut wrong);
        self.validate_streaming(&mut wrong);
        self.validate_cadvisor(&mut wrong);
        self.validate_nri(&mut wrong);
        for (key, name) in [
            ("cgroup_scope_prefix", &self.cgroup_scope_prefix),
            ("runtime_name", &self.runtime_name),
        ] {
            wrong.check(
                is_name(name),
                key,
                name,
                "a name of at most 32 lower-case letters, digits and single dashes between them",
            );
        }
        let log_line = self.max_log_line;
        wrong.check(
            LOG_LINE.contains(&log_line),
            "max_log_line",
            &log_line,
            "256 to 1048576 bytes",
        );
        let warm = self.sandbox.warm;
        wrong.check(warm <= WARM, "sandbox.warm", &warm, "at most 1000");
        let downloads = self.images.max_parallel_downloads;
        wrong.check(
            DOWNLOADS.contains(&downloads),
            "images.max_parallel_downloads",
            &downloads,
            "1 to 64",
        );
        let stall = self.images.stall_timeout_seconds;
        wrong.check(
            stall > 0,
            "images.stall_timeout_seconds",
            &stall,
            "at least 1 second",
        );
        for handler in self.handlers.values() {
            wrong.check(
                handler.pids_limit <= PIDS,
                "handlers.NAME.pids_limit",
                &handler.pids_limit,
                "at most 4194304, or 0 for no limit",
            );
            wrong.check(
                handler.cpu_burst <= CPU_BURST,
                "handlers.NAME.cpu_burst",
                &handler.cpu_burst,
                "a percentage of the CPU quota from 0 to 100",
            );
            let of_pod = handler.pod_writable_layer_limit.map(String::from);
            wrong.check(
                of_pod.is_none() || handler.writable_layer_limit.is_none(),
                "handlers.NAME.pod_writable_layer_limit",
                &of_pod.unwrap_or_default(),
                "left out where writable_layer_limit is set: a file counts for one limit only",
            );
        }
        let endpoint = &self.tracing.endpoint;
        wrong.check(
            endpoint.is_empty() || is_endpoint(endpoint),
            "tracing.endpoint",
            endpoint,
            "http:// and the address and port of a collector, or empty",
        );
        let ratio = self.tracing.sampling_ratio;
        wrong.check(
            (0.0..=1.0).contains(&ratio),
            "tracing.sampling_ratio",
            &ratio,
            "a number from 0 to 1",
        );
        let profile = self.apparmor.default_profile.as_deref();
        wrong.check(
            profile.is_none_or(|name| !name.is_empty() && !name.contains(char::is_control)),
            "apparmor.default_profile",
            &profile.unwrap_or_default(),
            "the name of a profile",
        );
        wrong.check(
            self.log.level.parse::<Targets>().is_ok(),
            "log.level",
            &self.log.level,
            "error, warn, info, debug, trace or target=level directives",
        );
        wrong.0
    }

    fn validate_paths(&self, wrong: &mut Wrong) {
        let socket = self.socket();
        let fits = socket.as_os_str().len() <= SOCKET_PATH_MAX;
        wrong.check(
            socket.is_absolute() && fits && socket.file_name().is_some(),
            "listen",
            &self.listen,
            "unix:// and an absolute path of at most 102 bytes",
        );
        let profile = self.seccomp.default_profile.as_deref();
        let paths: [(&'static str, &Path); 7] = [
            ("root", &self.root),
            ("state", &self.state),
            ("registry_config_dir", &self.registry_config_dir),
            ("cni.conf_dir", &self.cni.conf_dir),
            ("cni.cache_dir", &self.cni.cache_dir),
            ("seccomp.localhost_root", &self.seccomp.localhost_root),
            ("rdt.mount_point", &self.rdt.mount_point),
        ];
        let dirs = [
            ("cni.bin_dir", &self.cni.bin_dir),
            ("hooks_dirs", &self.hooks_dirs),
            ("cdi_spec_dirs", &self.cdi_spec_dirs),
        ];
        let dirs = dirs
            .into_iter()
            .flat_map(|(key, dirs)| dirs.iter().map(move |dir| (key, dir.as_path())));
        let profile = profile.map(|path| ("seccomp.default_profile", path));
        let classes = self.blockio.config_file.as_deref();
        let classes = classes.map(|path| ("blockio.config_file", path));
        let conf = Some(self.registries_conf.as_path()).filter(|path| !path.as_os_str().is_empty());
        let conf = conf.map(|path| ("registries_conf", path));
        let secrets = [
            ("images.auth_file", &self.images.auth_file),
            ("streaming.cert", &self.streaming.cert),
            ("streaming.key", &self.streaming.key),
        ];
        let secrets = secrets.into_iter().filter_map(|(key, file)| match file {
            Some(SecretFile::Path(path)) => Some((key, path.as_path())),
            Some(SecretFile::Credential(_)) | None => None,
        });
        let files = [profile, classes, conf].into_iter().flatten().chain(secrets);
        for (key, path) in paths.into_iter().chain(dirs).chain(files) {
            wrong.check(path.is_absolute(), key, &path.display(), "an absolute path");
        }
        wrong.check(
            self.root != self.state,
            "state",
            &self.state.display(),
            "a directory other than root",
        );
    }

    fn validate_cadvisor(&self, wrong: &mut Wrong) {
        let path = &self.cadvisor.listen;
        let socket = path.is_absolute() && path.as_os_str().len() <= SOCKET_PATH_MAX;
        wrong.check(
            path.as_os_str().is_empty() || socket && path != self.socket(),
            "cadvisor.listen",
            &path.display(),
            "the absolute path of a socket of its own, of at most 102 bytes, or empty",
        );
    }

    fn validate_nri(&self, wrong: &mut Wrong) {
        let nri = &self.nri;
        let path = &nri.socket_path;
        wrong.check(
            path.is_absolute() && path.as_os_str().len() <= SOCKET_PATH_MAX && path != self.socket(),
            "nri.socket_path",
            &path.display(),
            "the absolute path of a socket of its own, of at most 102 bytes",
        );
        for (key, path) in [
            ("nri.plugin_path", &nri.plugin_path),
            ("nri.plugin_config_path", &nri.plugin_config_path),
        ] {
            wrong.check(path.is_absolute(), key, &path.display(), "an absolute path");
        }
        for (key, seconds) in [
            (
                "nri.plugin_registration_timeout_seconds",
                nri.plugin_registration_timeout_seconds,
            ),
            (
                "nri.plugin_request_timeout_seconds",
                nri.plugin_request_timeout_seconds,
            ),
        ] {
            wrong.check(
                PLUGIN_SECONDS.contains(&seconds),
                key,
                &seconds,
                "1 to 60 seconds",
            );
        }
    }

    fn validate_streaming(&self, wrong: &mut Wrong) {
        let streaming = &self.streaming;
        // The address is part of the URLs that clients get.
        wrong.check(
            !streaming.address.is_unspecified() && !streaming.address.is_multicast(),
            "streaming.address",
            &streaming.address,
            "the address of an interface",
        );
        let (key, missing) = match (&streaming.cert, &streaming.key) {
            (Some(_), None) => ("streaming.key", true),
            (None, Some(_)) => ("streaming.cert", true),
            _ => ("streaming.cert", false),
        };
        wrong.check(
            !missing,
            key,
            &"nothing",
            "a file: certificate and key go together",
        );
        wrong.check(
            streaming.idle_timeout_seconds > 0,
            "streaming.idle_timeout_seconds",
            &streaming.idle_timeout_seconds,
            "at least 1 second",
        );
        let limits = [
            ("streaming.max_sessions", streaming.max_sessions),
            ("streaming.max_sessions_per_pod", streaming.max_sessions_per_pod),
        ];
        for (key, limit) in limits {
            wrong.check(limit > 0, key, &limit, "at least 1");
        }
    }

    fn validate_network(&self, wrong: &mut Wrong) {
        let bridge = &self.network.bridge;
        // It is the network's name, too, for which CNI has rules.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let begins = bridge.name.is_empty() || bridge.name.starts_with(|c: char| c.is_ascii_alphanumeric());
        wrong.check(
            bridge.name.len() <= IFNAME_MAX && begins && bridge.name.chars().all(plain),
            "network.bridge.name",
            &bridge.name,
            "at most 15 letters, digits, `_`, `.` and `-`, beginning with a letter or digit",
        );
        wrong.check(
            (8..=29).contains(&bridge.subnet.prefix_len()),
            "network.bridge.subnet",
            &bridge.subnet,
            "an IPv4 network of /8 to /29",
        );
        wrong.check(
            bridge.mtu == 0 || MTU.contains(&bridge.mtu),
            "network.bridge.mtu",
            &bridge.mtu,
            "0 or 1280 to 65535 bytes",
        );
        if let InProcessPlugins::Types(types) = &self.network.in_process {
            let known = pausa_cni_plugins::all();
            for plugin in types {
                wrong.check(
                    known.contains_key(plugin),
                    "network.in_process",
                    plugin,
                    "true, false, or types of CNI plugins that pausa implements (see docs/configuration.md)",
                );
            }
        }
        wrong.check(
            !self.cni.bin_dir.is_empty(),
            "cni.bin_dir",
            &"[]",
            "at least one directory",
        );
    }
}

fn is_endpoint(text: &str) -> bool {
    let uri: Result<hyper::Uri, _> = text.parse();
    uri.is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.port_u16().is_some())
}

/// A name that may be a part of a unit's and of an id's.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty() && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= 32 && name.split('-').all(plain)
}

/// What is wrong so far.
#[derive(Debug, Default)]
struct Wrong(Vec<ConfigError>);

impl Wrong {
    fn check(&mut self, ok: bool, key: &'static str, value: &dyn std::fmt::Display, expected: &'static str) {
        if !ok {
            self.0.push(ConfigError::Value {
                key,
                value: value.to_string(),
                expected,
            });
        }
    }
}
