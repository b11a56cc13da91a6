//! containerd's configuration: versions 1 to 4 of `config.toml`.
//!
//! The sections of the CRI plugin have other names in each version. Rules see `cri/…` for what is about pods and `images/…` for
//! what is about images, wherever the version has them, `nri/…` and some more; other plugins are `plugin/ID/…`.

use toml::{Table, Value};

use super::common::NO_DECRYPTION;
use super::report::{Advice, Report};
use super::rules::{
    Class, Context, Does, Done, Implied, Kind, Leaf, Rule, SET, foreign_class, get, lacks, leaves,
    not_needed, same, translate, wrapper_class,
};
use super::{hosts, read};
use crate::config::{Config, Handler, LogFormat, MetricsAddress};

pub(super) const DEFAULT_PATH: &str = "/etc/containerd/config.toml";
const DEFAULT_RUNTIME: &str = "runc";

/// The short names of plugins in rules.
const PLUGINS: [(&str, &str); 20] = [
    ("cri", "cri"),
    ("io.containerd.grpc.v1.cri", "cri"),
    ("io.containerd.cri.v1.runtime", "cri"),
    ("io.containerd.cri.v1.images", "images"),
    ("io.containerd.nri.v1.nri", "nri"),
    ("io.containerd.service.v1.tasks-service", "tasks"),
    ("io.containerd.tracing.processor.v1.otlp", "otlp"),
    ("io.containerd.internal.v1.tracing", "tracing"),
    ("io.containerd.transfer.v1.local", "transfer"),
    ("io.containerd.image-verifier.v1.bindir", "verifier"),
    ("io.containerd.server.v1.grpc", "grpc"),
    ("io.containerd.server.v1.grpc-tcp", "grpc-tcp"),
    ("io.containerd.server.v1.ttrpc", "ttrpc"),
    ("io.containerd.server.v1.debug", "debug"),
    ("io.containerd.server.v1.metrics", "metrics"),
    ("io.containerd.metrics.v1.grpc-prometheus", "metrics"),
    ("io.containerd.monitor.v1.cgroups", "monitor"),
    ("io.containerd.monitor.task.v1.cgroups", "monitor"),
    ("cgroups", "monitor"),
    ("nri", "nri"),
];

/// Keys of version 1 and 2 that version 3 has in the section of images.
const IMAGE_KEYS: [&str; 9] = [
    "image_decryption",
    "image_pull_progress_timeout",
    "image_pull_with_sync_fs",
    "max_concurrent_downloads",
    "registry",
    "sandbox_image",
    "use_local_image_pull",
    "concurrent_layer_fetch_buffer",
    "pinned_images",
];
/// The same, of `[…cri.containerd]`.
const CONTAINERD_IMAGE_KEYS: [&str; 3] = [
    "snapshotter",
    "disable_snapshot_annotations",
    "discard_unpacked_layers",
];

fn short(path: &[&str]) -> Vec<String> {
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let [first, plugin, rest @ ..] = path else {
        return owned(path);
    };
    if *first != "plugins" {
        return owned(path);
    }
    let name = PLUGINS.iter().find(|(id, _)| id == plugin).map(|(_, name)| *name);
    let mut parts = match (name, rest) {
        (Some("cri"), [key, ..]) if IMAGE_KEYS.contains(key) => vec!["images".to_owned()],
        (Some("cri"), ["containerd", key]) if CONTAINERD_IMAGE_KEYS.contains(key) => {
            return owned(&["images", key]);
        }
        (Some(name), _) => vec![name.to_owned()],
        (None, _) => vec!["plugin".to_owned(), (*plugin).to_owned()],
    };
    parts.extend(owned(rest));
    parts
}

/// Reads a file and what it imports, later ones over earlier ones, as containerd does.
pub(super) fn load(path: &std::path::Path) -> anyhow::Result<read::Source> {
    let mut source = read::Source::default();
    let mut pending = std::collections::VecDeque::from([path.to_owned()]);
    while let Some(path) = pending.pop_front() {
        if source.files.contains(&path) {
            continue;
        }
        let mut table = read::file(&path)?;
        let imports = table
            .get("imports")
            .and_then(super::rules::texts)
            .unwrap_or_default();
        // containerd adds to its lists of plugins instead of replacing them.
        for (key, value) in &mut table {
            if let (Value::Array(new), Some(Value::Array(old))) = (value, source.table.get(key)) {
                let added = std::mem::take(new).into_iter().filter(|item| !old.contains(item));
                let all = old.iter().cloned().chain(added).collect();
                *new = all;
            }
        }
        read::merge(&mut source.table, table);
        for import in &imports {
            pending.extend(read::expand(&path, import)?);
        }
        source.files.push(path);
    }
    Ok(source)
}

/// The translation.
pub(super) fn migrate(table: &Table, certs_d: &std::path::Path) -> Report {
    let version = table.get("version").and_then(Value::as_integer).unwrap_or(1);
    let leaves = leaves(table, short);
    let mut config = Config::default();
    let mut source = Table::new();
    for leaf in &leaves {
        super::rules::insert(&mut source, &leaf.path, leaf.value.clone());
    }
    // Handlers exist even if nothing but their name is there.
    let mut names = handler_names(table);
    names.extend([DEFAULT_RUNTIME, default_handler(&source)].map(str::to_owned));
    for name in &names {
        if !matches!(kind(&source, name), Kind::Foreign(_)) {
            config.handlers.insert(name.clone(), Handler::default());
        }
    }
    let hosts = hosts::of_mirrors(&source, certs_d);
    let mut implied = IMPLIED.to_vec();
    if version >= 3 {
        implied.extend(IMPLIED_SINCE_3);
    }
    let (entries, defaults) = translate(leaves, RULES, &implied, foreign, &mut config);
    if !hosts.is_empty() && certs_d != Config::default().registry_config_dir {
        config.registry_config_dir = certs_d.to_owned();
    }
    let mut advice = vec![Advice::new(
        "kubelet's cAdvisor asks containerd's socket for the names of pods and containers",
        "after containerd is gone, set [cadvisor] listen = \"/run/containerd/containerd.sock\" to keep the labels in /metrics/cadvisor",
    )];
    if version < 3 {
        advice.push(Advice::new(
            "enable_unprivileged_ports and enable_unprivileged_icmp, where they are not set, are off in containerd 1.x and on in 2.x; pausa has them on",
            "set both to false if pods must not bind ports below 1024 or ping without a capability",
        ));
    }
    Report::new("containerd", config, entries, defaults, hosts, advice)
}

fn handler_names(table: &Table) -> Vec<String> {
    let sections = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "cri"];
    let runtimes = |section: &&str| {
        let found = get(table, &["plugins", section, "containerd", "runtimes"])?.as_table()?;
        Some(found.keys().cloned().collect::<Vec<_>>())
    };
    sections.iter().filter_map(runtimes).flatten().collect()
}

fn option<'a>(source: &'a Table, handler: &str, key: &[&str]) -> Option<&'a Value> {
    get(
        source,
        &[&["cri", "containerd", "runtimes", handler], key].concat(),
    )
}

/// What a handler runs. The name alone says it where nothing else does: `runc` has a default.
fn kind(source: &Table, handler: &str) -> Kind {
    let text = |key: &[&str]| {
        option(source, handler, key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match text(&["runtime_type"]) {
        "" | "io.containerd.runc.v1" | "io.containerd.runc.v2" | "io.containerd.runtime.v1.linux" => {
            let program = text(&["options", "BinaryName"]);
            match program {
                "" => Kind::of_program(text(&["runtime_engine"])),
                program => Kind::of_program(program),
            }
        }
        other => Kind::Foreign(other.to_owned()),
    }
}

fn default_handler(source: &Table) -> &str {
    let name = get(source, &["cri", "containerd", "default_runtime_name"]).and_then(Value::as_str);
    name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_RUNTIME)
}

/// The keys of handlers that are not written.
fn foreign(leaf: &Leaf, source: &Table) -> Option<Class> {
    let ["cri", "containerd", "runtimes", handler, ..] =
        leaf.path.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    match kind(source, handler) {
        Kind::Foreign(program) => Some(foreign_class(handler, &program)),
        Kind::Builtin | Kind::Wrapper(_) => None,
    }
}

const IMPLIED: [Implied; 3] = [
    Implied {
        unless: &[
            "cri/containerd/runtimes/*/options/SystemdCgroup",
            "cri/systemd_cgroup",
        ],
        to: "cgroup_driver",
        set: |config| config.cgroup_driver = crate::config::CgroupDriver::Cgroupfs,
        why: "runc's options have no SystemdCgroup",
    },
    Implied {
        unless: &["cri/enable_selinux"],
        to: "enable_selinux",
        set: |config| config.enable_selinux = false,
        why: "off in containerd",
    },
    Implied {
        unless: &[],
        to: "registries_conf",
        set: |config| config.registries_conf = std::path::PathBuf::new(),
        why: "containerd does not read registries.conf",
    },
];

const IMPLIED_SINCE_3: [Implied; 1] = [Implied {
    unless: &["nri/disable"],
    to: "nri.enable",
    set: |config| config.nri.enable = true,
    why: "on in containerd 2",
}];

const INTERNAL: &str = "tunes a part of containerd that pausa does not have";
const NO_SHIM: &str = "there is no shim and no runtime program";
const OWN_UNIT: &str = "set by the unit of pausa";

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    // The program.
    Rule { path: "version", default: &["1", "2", "3", "4"], does: Does::NotNeeded("the format of the file") },
    Rule { path: "imports", default: &["[]"], does: Does::NotNeeded("what is imported is translated as well") },
    Rule { path: "root", default: &["\"/var/lib/containerd\"", "\"\""], does: Does::Lacks("images and layers go to `root` of pausa, /var/lib/pausa, which may be another disk", "set `root` to a directory on the disk that is meant") },
    Rule { path: "state", default: &["\"/run/containerd\"", "\"\""], does: Does::NotNeeded("pausa has its own, `state`") },
    Rule { path: "temp", default: &["\"\""], does: Does::NotNeeded("pausa uses directories below `root`") },
    Rule { path: "plugin_dir", default: &["\"\""], does: Does::NotNeeded("there are no plugins of containerd") },
    Rule { path: "oom_score", default: &["0"], does: Does::NotNeeded(OWN_UNIT) },
    Rule { path: "disabled_plugins", default: &["[]"], does: Does::Map("", disabled_plugins) },
    Rule { path: "required_plugins", default: &["[]"], does: Does::NotNeeded("there are no plugins of containerd") },
    Rule { path: "cgroup/path", default: &["\"\""], does: Does::NotNeeded(OWN_UNIT) },
    Rule { path: "timeouts/**", default: &[], does: Does::NotNeeded(INTERNAL) },
    Rule { path: "proxy_plugins/**", default: &[], does: Does::Lacks("plugins of containerd, such as lazy snapshotters, are not used: images are pulled as a whole", "nothing, or keep these pods on other nodes") },
    Rule { path: "stream_processors/*/accepts", default: &["[\"application/vnd.oci.image.layer.v1.tar+encrypted\"]", "[\"application/vnd.oci.image.layer.v1.tar+gzip+encrypted\"]"], does: NO_DECRYPTION },
    Rule { path: "stream_processors/*/returns", default: &["\"application/vnd.oci.image.layer.v1.tar\"", "\"application/vnd.oci.image.layer.v1.tar+gzip\""], does: NO_DECRYPTION },
    Rule { path: "stream_processors/*/path", default: &["\"ctd-decoder\""], does: NO_DECRYPTION },
    Rule { path: "stream_processors/*/args", default: &["[\"--decryption-keys-path\", \"/etc/containerd/ocicrypt/keys\"]"], does: NO_DECRYPTION },
    Rule { path: "stream_processors/*/env", default: &["[\"OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf\"]"], does: NO_DECRYPTION },
    // Sockets, log, metrics.
    Rule { path: "grpc/address", default: &["\"/run/containerd/containerd.sock\"", "\"\""], does: Does::NotNeeded("clients get the socket of pausa, `listen`") },
    Rule { path: "grpc/uid", default: &["0"], does: NO_SOCKET_OWNER },
    Rule { path: "grpc/gid", default: &["0"], does: NO_SOCKET_OWNER },
    Rule { path: "grpc/max_recv_message_size", default: &["16777216", "0"], does: Does::NotNeeded("pausa has fixed limits") },
    Rule { path: "grpc/max_send_message_size", default: &["16777216", "0"], does: Does::NotNeeded("pausa has fixed limits") },
    Rule { path: "grpc/*", default: &["\"\""], does: NO_TCP },
    Rule { path: "grpc-tcp/**", default: &["\"\"", "0"], does: NO_TCP },
    Rule { path: "ttrpc/**", default: &[], does: Does::NotNeeded(NO_SHIM) },
    Rule { path: "debug/level", default: &["\"\"", "\"info\""], does: Does::Map("log.level", super::common::log_level) },
    Rule { path: "debug/format", default: &["\"\"", "\"text\""], does: Does::Map("log.format", log_format) },
    Rule { path: "debug/**", default: &["\"\"", "0", "\"/run/containerd/debug.sock\"", "false"], does: Does::NotNeeded("there is no debug socket; `pausa top` and the metrics show what the daemon does") },
    Rule { path: "metrics/address", default: &["\"\""], does: Does::Map("metrics.address", |context| {
        let text = context.text()?.to_owned();
        if text.is_empty() { return SET; }
        match text.parse::<MetricsAddress>() {
            Ok(address) => { context.config.metrics.address = Some(address); Ok(Some("the metrics have other names: docs/metrics.md".to_owned())) }
            Err(_) => lacks("no metrics are served: the address is a host name", "set metrics.address to an IP address and a port"),
        }
    }) },
    Rule { path: "metrics/grpc_histogram", default: &["false"], does: Does::Same("requests are counted in histograms") },
    Rule { path: "monitor/no_prometheus", default: &["false"], does: Does::NotNeeded("metrics of containers are those of CRI") },
    Rule { path: "monitor/**", default: &[], does: Does::NotNeeded(INTERNAL) },
    Rule { path: "otlp/endpoint", default: &["\"\""], does: Does::Map("tracing.endpoint", tracing_endpoint) },
    Rule { path: "otlp/protocol", default: &["\"\"", "\"http/protobuf\""], does: Does::Map("tracing.endpoint", |context| match context.text()? {
        "grpc" => same("OTLP over gRPC"),
        _ => SET,
    }) },
    Rule { path: "otlp/insecure", default: &["false"], does: Does::Same("without TLS") },
    Rule { path: "tracing/sampling_ratio", default: &["1.0", "1", "0.0", "0"], does: Does::Map("tracing.sampling_ratio", |context| {
        let value = &context.leaf.value;
        let integer = |number: i64| i32::try_from(number).ok().map(f64::from);
        let Some(ratio) = value.as_float().or_else(|| value.as_integer().and_then(integer)) else { return not_needed("it is not a number"); };
        context.config.tracing.sampling_ratio = ratio;
        SET
    }) },
    Rule { path: "tracing/service_name", default: &["\"\"", "\"containerd\""], does: Does::NotNeeded("traces are of the service pausa") },
    // Classes of resources.
    Rule { path: "tasks/rdt_config_file", default: &["\"\""], does: NO_RDT_FILE },
    Rule { path: "tasks/blockio_config_file", default: &["\"\""], does: Does::Map("blockio.config_file", |context| {
        let text = context.text()?;
        context.config.blockio.config_file = Some(text).filter(|text| !text.is_empty()).map(Into::into);
        SET
    }) },
    Rule { path: "cri/containerd/ignore_blockio_not_enabled_errors", default: &["false"], does: Does::Map("blockio.ignore_not_enabled", |context| { context.config.blockio.ignore_not_enabled = context.flag()?; SET }) },
    Rule { path: "cri/containerd/ignore_rdt_not_enabled_errors", default: &["false"], does: Does::Map("rdt.ignore_not_enabled", |context| { context.config.rdt.ignore_not_enabled = context.flag()?; SET }) },
    // Node Resource Interface.
    Rule { path: "nri/disable", default: &[], does: Does::Map("nri.enable", |context| { context.config.nri.enable = !context.flag()?; SET }) },
    Rule { path: "nri/socket_path", default: &["\"/var/run/nri/nri.sock\""], does: Does::Map("nri.socket_path", |context| { context.config.nri.socket_path = context.text()?.into(); SET }) },
    Rule { path: "nri/disable_connections", default: &["false"], does: Does::Map("nri.disable_connections", |context| { context.config.nri.disable_connections = context.flag()?; SET }) },
    Rule { path: "nri/plugin_path", default: &["\"/opt/nri/plugins\""], does: Does::Map("nri.plugin_path", |context| { context.config.nri.plugin_path = context.text()?.into(); SET }) },
    Rule { path: "nri/plugin_config_path", default: &["\"/etc/nri/conf.d\""], does: Does::Map("nri.plugin_config_path", |context| { context.config.nri.plugin_config_path = context.text()?.into(); SET }) },
    Rule { path: "nri/plugin_registration_timeout", default: &["\"5s\""], does: Does::Map("nri.plugin_registration_timeout_seconds", |context| { context.config.nri.plugin_registration_timeout_seconds = context.seconds()?; SET }) },
    Rule { path: "nri/plugin_request_timeout", default: &["\"2s\""], does: Does::Map("nri.plugin_request_timeout_seconds", |context| { context.config.nri.plugin_request_timeout_seconds = context.seconds()?; SET }) },
    Rule { path: "nri/default_validator/*", default: &["false", "[]", "\"\""], does: Does::Map("nri.default_validator", super::common::validator) },
    // Images.
    Rule { path: "images/snapshotter", default: &["\"overlayfs\"", "\"\""], does: Does::Lacks("images are unpacked for overlayfs as a whole: there are no other snapshotters", "nothing; for lazy pulling, keep the other runtime") },
    Rule { path: "images/disable_snapshot_annotations", default: &["true", "false"], does: Does::NotNeeded("there are no other snapshotters") },
    Rule { path: "images/discard_unpacked_layers", default: &["false"], does: Does::Same("compressed layers are never kept") },
    Rule { path: "images/max_concurrent_downloads", default: &["3"], does: Does::Map("images.max_parallel_downloads", |context| {
        let number = context.number()?;
        if number == 3 { return same("3 is what containerd does without the key; pausa fetches 6 layers of an image"); }
        // 0 is no limit.
        context.config.images.max_parallel_downloads = u32::try_from(number).ok().filter(|number| (1..=64).contains(number)).unwrap_or(64);
        SET
    }) },
    Rule { path: "images/concurrent_layer_fetch_buffer", default: &["0"], does: Does::NotNeeded("layers are unpacked while they arrive") },
    Rule { path: "images/image_pull_progress_timeout", default: &["\"5m0s\"", "\"1m0s\"", "\"5m\"", "\"1m\"", "\"\""], does: Does::Map("images.stall_timeout_seconds", |context| {
        let seconds = context.seconds()?;
        let text = context.text()?;
        if ["5m0s", "1m0s", "5m", "1m"].contains(&text) { return same("the default of each: pausa tries a download again after a minute without data"); }
        if seconds == 0 { return lacks("a download without data for a minute is tried again", "set images.stall_timeout_seconds to a large number"); }
        context.config.images.stall_timeout_seconds = seconds;
        SET
    }) },
    Rule { path: "images/image_pull_with_sync_fs", default: &["false"], does: Does::Same("an image is durable before its pull ends") },
    Rule { path: "images/use_local_image_pull", default: &["false"], does: Does::NotNeeded("there is one way to pull") },
    Rule { path: "images/stats_collect_period", default: &["10"], does: Does::NotNeeded("the sizes of images are known without collecting them") },
    Rule { path: "images/sandbox_image", default: &[], does: Does::NotNeeded("there is no pause image") },
    Rule { path: "images/pinned_images/sandbox", default: &[], does: Does::NotNeeded("there is no pause image") },
    Rule { path: "images/pinned_images/*", default: &[], does: Does::Map("images.pinned", |context| {
        let image = context.text()?.to_owned();
        context.config.images.pinned.push(image);
        SET
    }) },
    Rule { path: "images/runtime_platforms/**", default: &[], does: Does::Lacks("every handler has the node's platform and overlayfs", "nothing") },
    Rule { path: "images/image_decryption/key_model", default: &["\"node\"", "\"\""], does: NO_DECRYPTION },
    Rule { path: "images/registry/config_path", default: &["\"\""], does: Does::Map("registry_config_dir", hosts::config_path) },
    Rule { path: "images/registry/mirrors/*/*", default: &[], does: Does::Map("hosts.toml", hosts::mirror_class) },
    Rule { path: "images/registry/configs/*/tls/*", default: &[], does: Does::Map("hosts.toml", hosts::tls_class) },
    Rule { path: "images/registry/configs/*/auth/*", default: &[], does: NO_CREDENTIALS },
    Rule { path: "images/registry/auths/**", default: &[], does: NO_CREDENTIALS },
    Rule { path: "images/registry/headers/**", default: &[], does: Does::Lacks("no header is sent to all registries", "put it into the section [header] of each host's hosts.toml") },
    Rule { path: "transfer/**", default: &[], does: Does::NotNeeded("there is one way to pull, with the keys of CRI") },
    Rule { path: "verifier/*", default: &["\"/opt/containerd/image-verifier/bin\"", "10", "\"10s\""], does: Does::Lacks("images are pulled without being shown to a verifier", "verify images at admission") },
    // Pods and containers.
    Rule { path: "cri/device_ownership_from_security_context", default: &["false"], does: Does::Map("device_ownership_from_security_context", |context| { context.config.device_ownership_from_security_context = context.flag()?; SET }) },
    Rule { path: "cri/disable_apparmor", default: &["false"], does: Does::Lacks("containers have the profile pausa-default where the kernel has AppArmor", "in pods that must not: appArmorProfile of the type Unconfined") },
    Rule { path: "cri/disable_cgroup", default: &["false"], does: Does::Lacks("pausa makes cgroups", "nothing") },
    Rule { path: "cri/disable_hugetlb_controller", default: &["true", "false"], does: Does::NotNeeded("limits of huge pages are set where kubelet asks for them") },
    Rule { path: "cri/tolerate_missing_hugetlb_controller", default: &["true", "false"], does: Does::NotNeeded("limits of huge pages are set where kubelet asks for them") },
    Rule { path: "cri/disable_proc_mount", default: &["false"], does: Does::NotNeeded("for versions of Kubernetes before 1.12") },
    Rule { path: "cri/disable_tcp_service", default: &["true"], does: NO_TCP },
    Rule { path: "cri/enable_selinux", default: &["false"], does: Does::Map("enable_selinux", |context| { context.config.enable_selinux = context.flag()?; SET }) },
    Rule { path: "cri/selinux_category_range", default: &["1024"], does: Does::Lacks("categories are chosen from all 1024", "nothing, unless the policy has fewer") },
    Rule { path: "cri/enable_unprivileged_icmp", default: &[], does: Does::Map("enable_unprivileged_icmp", |context| { context.config.enable_unprivileged_icmp = context.flag()?; SET }) },
    Rule { path: "cri/enable_unprivileged_ports", default: &[], does: Does::Map("enable_unprivileged_ports", |context| { context.config.enable_unprivileged_ports = context.flag()?; SET }) },
    Rule { path: "cri/ignore_image_defined_volumes", default: &["false"], does: Does::Same("a VOLUME of an image is a part of the writable layer") },
    Rule { path: "cri/max_container_log_line_size", default: &["16384"], does: Does::Map("max_log_line", |context| {
        let number = context.number()?;
        let line = match u32::try_from(number) { Ok(number @ 1..=1_048_576) => number.max(256), _ => 1_048_576 };
        context.config.max_log_line = line;
        if i64::from(line) == number { SET } else { Ok(Some("256 to 1048576 bytes are possible".to_owned())) }
    }) },
    Rule { path: "cri/netns_mounts_under_state_dir", default: &["false"], does: Does::NotNeeded("network namespaces are in /var/run/netns, where tools look") },
    Rule { path: "cri/restrict_oom_score_adj", default: &["false"], does: Does::NotNeeded("pausa runs as root and sets what kubelet asks for") },
    Rule { path: "cri/unset_seccomp_profile", default: &["\"\"", "\"unconfined\""], does: Does::Lacks("containers whose pod names no profile run without a filter", "set seccompDefault: true in kubelet's configuration") },
    Rule { path: "cri/systemd_cgroup", default: &["false"], does: Does::Map("cgroup_driver", |context| {
        if context.flag()? { context.config.cgroup_driver = crate::config::CgroupDriver::Systemd; return SET; }
        // The old key only turns it on.
        if option(context.source, default_handler(context.source), &["options", "SystemdCgroup"]).is_none() {
            context.config.cgroup_driver = crate::config::CgroupDriver::Cgroupfs;
        }
        SET
    }) },
    Rule { path: "cri/stats_collect_period", default: &["10", "\"\"", "\"1s\""], does: Does::Map("stats.interval_seconds", |context| {
        if context.leaf.value.is_str() { return not_needed("rates are those between two readings"); }
        context.config.stats.interval_seconds = context.seconds()?;
        SET
    }) },
    Rule { path: "cri/stats_retention_period", default: &["\"\"", "\"2m\""], does: Does::NotNeeded("rates are those between two readings") },
    Rule { path: "cri/enable_cdi", default: &["true"], does: Does::Map("cdi_spec_dirs", |context| {
        if !context.flag()? { context.config.cdi_spec_dirs.clear(); }
        SET
    }) },
    Rule { path: "cri/cdi_spec_dirs", default: &["[\"/etc/cdi\", \"/var/run/cdi\"]"], does: Does::Map("cdi_spec_dirs", |context| {
        if get(context.source, &["cri", "enable_cdi"]).and_then(Value::as_bool) == Some(false) { return not_needed("enable_cdi is false"); }
        context.config.cdi_spec_dirs = context.texts()?.into_iter().map(Into::into).collect();
        SET
    }) },
    Rule { path: "cri/drain_exec_sync_io_timeout", default: &["\"0s\"", "\"\""], does: Does::Same("output ends one second after the command") },
    Rule { path: "cri/ignore_deprecation_warnings", default: &["[]"], does: Does::NotNeeded("about containerd's own keys") },
    Rule { path: "cri/enable_criu", default: &["true", "false"], does: Does::Lacks("containers cannot be checkpointed", "nothing") },
    // Streams.
    Rule { path: "cri/stream_server_address", default: &["\"127.0.0.1\"", "\"\""], does: Does::Map("streaming.address", super::common::stream_address) },
    Rule { path: "cri/stream_server_port", default: &["\"0\"", "0", "\"\""], does: Does::Map("streaming.port", super::common::stream_port) },
    Rule { path: "cri/stream_idle_timeout", default: &["\"4h0m0s\"", "\"4h\"", "\"\""], does: Does::Map("streaming.idle_timeout_seconds", super::common::stream_idle_timeout) },
    Rule { path: "cri/enable_tls_streaming", default: &["false"], does: Does::Map("streaming.cert", |context| {
        if !context.flag()? { return SET; }
        let named = |key| get(context.source, &["cri", "x509_key_pair_streaming", key]).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if named("tls_cert_file") && named("tls_key_file") { return same("streaming.cert and streaming.key turn TLS on"); }
        lacks("streams have no TLS: pausa makes no certificates of its own", "set streaming.cert and streaming.key")
    }) },
    Rule { path: "cri/x509_key_pair_streaming/tls_cert_file", default: &["\"\""], does: Does::Map("streaming.cert", |context| stream_file(context, "streaming.cert")) },
    Rule { path: "cri/x509_key_pair_streaming/tls_key_file", default: &["\"\""], does: Does::Map("streaming.key", |context| stream_file(context, "streaming.key")) },
    // Networks.
    Rule { path: "cri/cni/bin_dir", default: &["\"/opt/cni/bin\"", "\"\""], does: Does::Map("cni.bin_dir", |context| { let dir = context.text()?.to_owned(); super::common::bin_dirs(context, vec![dir]) }) },
    Rule { path: "cri/cni/bin_dirs", default: &["[\"/opt/cni/bin\"]", "[]"], does: Does::Map("cni.bin_dir", |context| { let dirs = context.texts()?; super::common::bin_dirs(context, dirs) }) },
    Rule { path: "cri/cni/conf_dir", default: &["\"/etc/cni/net.d\"", "\"\""], does: Does::Map("cni.conf_dir", super::common::conf_dir) },
    Rule { path: "cri/cni/conf_template", default: &["\"\""], does: Does::Lacks("no CNI configuration is made from a template", "have the network's agent write it, or use [network] mode = \"bridge\", which takes kubelet's pod CIDR") },
    Rule { path: "cri/cni/ip_pref", default: &["\"\"", "\"ipv4\""], does: Does::Lacks("the first address of a pod is the first one of its network's answer", "order the ranges in the CNI configuration") },
    Rule { path: "cri/cni/max_conf_num", default: &["1"], does: Does::Lacks("only the first CNI configuration is used", "put more networks into it with a plugin such as multus") },
    Rule { path: "cri/cni/setup_serially", default: &["false"], does: Does::NotNeeded("a pod has one network") },
    Rule { path: "cri/cni/use_internal_loopback", default: &["true", "false"], does: Does::Same("the loopback plugin runs in process") },
    // Handlers.
    Rule { path: "cri/containerd/default_runtime_name", default: &["\"runc\""], does: Does::Map("handlers", |context| match kind(context.source, default_handler(context.source)) {
        Kind::Builtin => same("pods without a RuntimeClass have the handler \"\", which is built in"),
        Kind::Wrapper(program) => wrapper_class(&program),
        Kind::Foreign(program) => lacks(format!("pods without a RuntimeClass run in the built-in handler, not in {program}: with less isolation"), "do not migrate this node, or give the pods that may a RuntimeClass of their own"),
    }) },
    Rule { path: "cri/containerd/runtimes/*/runtime_type", default: &[], does: Does::Map("handlers", |context| {
        let name = context.part(3).to_owned();
        Err(Class::Mapped { to: format!("handlers.{name}"), value: "{ kind = \"builtin\" }".to_owned(), note: None })
    }) },
    Rule { path: "cri/containerd/runtimes/*/runtime_engine", default: &["\"\""], does: Does::Map("handlers", program) },
    Rule { path: "cri/containerd/runtimes/*/runtime_path", default: &["\"\""], does: Does::NotNeeded(NO_SHIM) },
    Rule { path: "cri/containerd/runtimes/*/runtime_root", default: &["\"\""], does: Does::NotNeeded(NO_SHIM) },
    Rule { path: "cri/containerd/runtimes/*/base_runtime_spec", default: &["\"\""], does: Does::Lacks("the specs of containers have no base from a file", "set default_ulimits, default_env or pids_limit of the handler, or have an NRI plugin adjust containers") },
    Rule { path: "cri/containerd/runtimes/*/pod_annotations", default: &["[]"], does: Does::NotNeeded("the built-in handler reads no annotations of runtime programs") },
    Rule { path: "cri/containerd/runtimes/*/container_annotations", default: &["[]"], does: Does::NotNeeded("the built-in handler reads no annotations of runtime programs") },
    Rule { path: "cri/containerd/runtimes/*/privileged_without_host_devices", default: &["false"], does: NO_PRIVILEGED_LIMIT },
    Rule { path: "cri/containerd/runtimes/*/privileged_without_host_devices_all_devices_allowed", default: &["false"], does: NO_PRIVILEGED_LIMIT },
    Rule { path: "cri/containerd/runtimes/*/cgroup_writable", default: &["false"], does: Does::Lacks("only privileged containers can write to their cgroup", "make the container privileged") },
    Rule { path: "cri/containerd/runtimes/*/cni_conf_dir", default: &["\"\""], does: Does::Lacks("pods of this handler have the network of all others", "choose networks by annotations of a plugin such as multus") },
    Rule { path: "cri/containerd/runtimes/*/cni_max_conf_num", default: &["0", "1"], does: Does::NotNeeded("a pod has one network") },
    Rule { path: "cri/containerd/runtimes/*/snapshotter", default: &["\"\"", "\"overlayfs\""], does: Does::Lacks("images are unpacked for overlayfs as a whole: there are no other snapshotters", "nothing") },
    Rule { path: "cri/containerd/runtimes/*/sandboxer", default: &["\"\"", "\"podsandbox\""], does: Does::NotNeeded(NO_SHIM) },
    Rule { path: "cri/containerd/runtimes/*/sandbox_mode", default: &["\"\"", "\"podsandbox\""], does: Does::NotNeeded(NO_SHIM) },
    Rule { path: "cri/containerd/runtimes/*/io_type", default: &["\"\"", "\"fifo\""], does: Does::NotNeeded(NO_SHIM) },
    Rule { path: "cri/containerd/runtimes/*/disable_pause_image_pull", default: &["false"], does: Does::NotNeeded("there is no pause image") },
    Rule { path: "cri/containerd/runtimes/*/options/BinaryName", default: &["\"\""], does: Does::Map("handlers", program) },
    Rule { path: "cri/containerd/runtimes/*/options/SystemdCgroup", default: &[], does: Does::Map("cgroup_driver", |context| {
        let driver = if context.flag()? { crate::config::CgroupDriver::Systemd } else { crate::config::CgroupDriver::Cgroupfs };
        let default = default_handler(context.source).to_owned();
        if context.part(3) == default { context.config.cgroup_driver = driver; return SET; }
        let of_default = option(context.source, &default, &["options", "SystemdCgroup"]).and_then(Value::as_bool);
        match of_default {
            // The only one that says anything.
            None if !matches!(kind(context.source, &default), Kind::Builtin) || option(context.source, &default, &["runtime_type"]).is_none() => { context.config.cgroup_driver = driver; SET }
            of_default if of_default.unwrap_or(false) == (driver == crate::config::CgroupDriver::Systemd) => same("all handlers have one cgroup_driver"),
            _ => lacks("all handlers have the cgroup driver of the default one", "nothing: kubelet has one driver, too"),
        }
    }) },
    Rule { path: "cri/containerd/runtimes/*/options/NoNewKeyring", default: &["false"], does: Does::Lacks("every container has a session keyring of its own", "nothing") },
    Rule { path: "cri/containerd/runtimes/*/options/NoPivotRoot", default: &["false"], does: NO_PIVOT },
    Rule { path: "cri/containerd/runtimes/*/options/*", default: &["\"\"", "0"], does: Does::NotNeeded(NO_SHIM) },
    Rule { path: "cri/containerd/no_pivot", default: &["false"], does: NO_PIVOT },
    Rule { path: "cri/containerd/default_runtime/**", default: &["\"\"", "[]", "false", "0", "\"io.containerd.runtime.v1.linux\"", "\"io.containerd.runc.v1\"", "\"io.containerd.runc.v2\""], does: Does::Lacks("the handler of pods without a RuntimeClass is built in", "use default_runtime_name in the source") },
    Rule { path: "cri/containerd/untrusted_workload_runtime/**", default: &["\"\"", "[]", "false", "0"], does: Does::Lacks("the annotation io.kubernetes.cri.untrusted-workload has no meaning: such pods run in the built-in handler", "use a RuntimeClass") },
    Rule { path: "plugin/**", default: &[], does: Does::NotNeeded(INTERNAL) },
];

const NO_SOCKET_OWNER: Does = Does::Lacks(
    "the socket belongs to root, with mode 0660",
    "chgrp it in an ExecStartPost= of the unit",
);
const NO_TCP: Does = Does::Lacks("the daemon serves its unix socket only", "use the socket");
const NO_RDT_FILE: Does = Does::Lacks(
    "pausa makes no RDT classes: it uses the groups that exist in /sys/fs/resctrl",
    "have `rdt` of goresctrl make them from the same file when the node starts",
);
const NO_CREDENTIALS: Does = Does::Lacks(
    "credentials are not copied: the configuration can be read by everyone",
    "give them to kubelet, by imagePullSecrets or in /var/lib/kubelet/config.json with mode 0600",
);
const NO_PRIVILEGED_LIMIT: Does = Does::Lacks(
    "privileged containers of this handler have all devices of the node",
    "let these pods not be privileged, or ask for single devices",
);
const NO_PIVOT: Does = Does::Lacks("the root of containers is changed by pivot_root(2)", "nothing");

fn disabled_plugins(context: &mut Context<'_>) -> Done {
    let disabled = context.texts()?;
    let is_cri = |name: &String| {
        ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"].contains(&name.as_str())
    };
    if disabled.iter().any(is_cri) {
        return lacks(
            "this containerd serves no CRI: its keys for pods had no effect, for example because Docker's package wrote it",
            "check that the file is the one that the node's containerd uses",
        );
    }
    match disabled.is_empty() {
        true => SET,
        false => not_needed("there are no plugins of containerd"),
    }
}

fn log_format(context: &mut Context<'_>) -> Done {
    context.config.log.format = match context.text()? {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    SET
}

fn tracing_endpoint(context: &mut Context<'_>) -> Done {
    let endpoint = context.text()?.to_owned();
    if endpoint.is_empty() {
        return SET;
    }
    let protocol = get(context.source, &["otlp", "protocol"]).and_then(Value::as_str);
    let http = protocol != Some("grpc");
    if http || !endpoint.starts_with("http://") {
        return lacks(
            "no traces are made: pausa sends OTLP over gRPC without TLS",
            "set tracing.endpoint to the collector's gRPC port, usually http://ADDRESS:4317",
        );
    }
    context.config.tracing.endpoint = endpoint.trim_end_matches('/').to_owned();
    SET
}

fn stream_file(context: &mut Context<'_>, to: &str) -> Done {
    if context.text()?.is_empty() {
        return SET;
    }
    let enabled = get(context.source, &["cri", "enable_tls_streaming"]).and_then(Value::as_bool);
    if enabled != Some(true) {
        return not_needed("enable_tls_streaming is false");
    }
    super::common::tls_file(
        context,
        to,
        &["cri", "x509_key_pair_streaming", "tls_cert_file"],
        &["cri", "x509_key_pair_streaming", "tls_key_file"],
    )
}

/// The program that a handler runs.
fn program(context: &mut Context<'_>) -> Done {
    match kind(context.source, context.part(3)) {
        Kind::Builtin => same("the handler is built in"),
        Kind::Wrapper(program) => wrapper_class(&program),
        Kind::Foreign(program) => Err(foreign_class(context.part(3), &program)),
    }
}
