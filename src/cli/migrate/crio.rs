//! CRI-O's configuration: `crio.conf` and `crio.conf.d`.
//!
//! Everything is below `[crio]`; rules leave that out.

use std::path::Path;

use toml::{Table, Value};

use super::common::NO_DECRYPTION;
use super::report::{Advice, Report};
use super::rules::{
    Class, Context, Does, Done, Implied, Kind, Leaf, Rule, SET, foreign_class, get, lacks, leaves,
    not_needed, same, translate, wrapper_class,
};
use super::{common, read};
use crate::config::{CgroupDriver, Config, Handler, MetricsAddress, SecretFile, Ulimit};

pub(super) const DEFAULT_PATH: &str = "/etc/crio/crio.conf";
const DEFAULT_RUNTIME: &str = "crun";
const PING_GROUPS: &str = "net.ipv4.ping_group_range";
const FIRST_PORT: &str = "net.ipv4.ip_unprivileged_port_start";

/// Reads a file, which need not exist if it is the default one, and the drop-ins in `crio.conf.d` next to it.
pub(super) fn load(path: &Path) -> anyhow::Result<read::Source> {
    let mut source = read::Source::default();
    let mut files = Vec::new();
    if path.exists() || path != Path::new(DEFAULT_PATH) {
        files.push(path.to_owned());
    }
    let drop_ins = path.with_file_name("crio.conf.d");
    match std::fs::read_dir(&drop_ins) {
        Ok(entries) => {
            let mut found = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()?;
            found.retain(|path| path.is_file());
            found.sort();
            files.extend(found);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot read {}", drop_ins.display())));
        }
    }
    for file in files {
        read::merge(&mut source.table, read::file(&file)?);
        source.files.push(file);
    }
    Ok(source)
}

/// The translation. `policy` is the content of `/etc/containers/policy.json`, if there is one.
pub(super) fn migrate(table: &Table, policy: Option<&str>) -> Report {
    let short = |path: &[&str]| {
        let path = match path {
            ["crio", rest @ ..] => rest.to_vec(),
            // Another table than CRI-O's.
            path => [&["?"], path].concat(),
        };
        path.iter().map(|part| (*part).to_owned()).collect()
    };
    let leaves = leaves(table, short);
    let source = table
        .get("crio")
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    let mut config = Config::default();
    let runtimes = get(&source, &["runtime", "runtimes"]).and_then(Value::as_table);
    let names = runtimes.into_iter().flat_map(Table::keys);
    for name in names.map(String::as_str).chain([default_handler(&source)]) {
        if !matches!(kind(&source, name), Kind::Foreign(_)) {
            config.handlers.insert(name.to_owned(), Handler::default());
        }
    }
    let (entries, defaults) = translate(leaves, RULES, IMPLIED, foreign, &mut config);
    let mut advice = vec![
        Advice::new(
            "CRI-O gives containers 9 capabilities by default; pausa gives those of Docker and containerd, among them NET_RAW, MKNOD and SYS_CHROOT",
            "drop them in the pods' securityContext, or by admission, where they matter",
        ),
        Advice::new(
            "kubelet's cAdvisor asks CRI-O's socket for the names of pods and containers",
            "set [cadvisor] listen = \"/run/containerd/containerd.sock\" to keep the labels in /metrics/cadvisor",
        ),
    ];
    if policy.is_some_and(demands_signatures) {
        advice.insert(
            0,
            Advice::new(
                "/etc/containers/policy.json rejects images or demands signatures; pausa does not read it: images are pulled unverified",
                "verify images at admission, for example with Kyverno or sigstore's policy-controller, or block registries in registries.conf",
            ),
        );
    }
    Report::new("CRI-O", config, entries, defaults, Vec::new(), advice)
}

/// Whether a policy is more than "take anything".
fn demands_signatures(policy: &str) -> bool {
    fn types(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Object(fields) => fields
                .iter()
                .any(|(key, value)| key == "type" && value != "insecureAcceptAnything" || types(value)),
            serde_json::Value::Array(items) => items.iter().any(types),
            _ => false,
        }
    }
    // What cannot be read may demand anything.
    serde_json::from_str(policy).map_or(true, |value| types(&value))
}

fn default_handler(source: &Table) -> &str {
    let name = get(source, &["runtime", "default_runtime"]).and_then(Value::as_str);
    name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_RUNTIME)
}

fn kind(source: &Table, handler: &str) -> Kind {
    let option = |key: &str| get(source, &["runtime", "runtimes", handler, key]);
    let text = |key: &str| option(key).and_then(Value::as_str).unwrap_or_default();
    let default = default_handler(source);
    if option("inherit_default_runtime").and_then(Value::as_bool) == Some(true) && handler != default {
        return kind(source, default);
    }
    match (text("runtime_type"), text("runtime_path")) {
        ("vm", path) => Kind::Foreign(path.rsplit('/').next().unwrap_or("vm").to_owned()),
        // CRI-O looks for a program of the handler's name.
        (_, "") => Kind::of_program(handler),
        (_, path) => Kind::of_program(path),
    }
}

/// The keys of handlers that are not written.
fn foreign(leaf: &Leaf, source: &Table) -> Option<Class> {
    let ["runtime", "runtimes", handler, ..] = leaf.path.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    match kind(source, handler) {
        Kind::Foreign(program) => Some(foreign_class(handler, &program)),
        Kind::Builtin | Kind::Wrapper(_) => None,
    }
}

const IMPLIED: &[Implied] = &[
    Implied {
        unless: &["runtime/cgroup_manager"],
        to: "cgroup_driver",
        set: |config| config.cgroup_driver = CgroupDriver::Systemd,
        why: "systemd in CRI-O",
    },
    Implied {
        unless: &["runtime/hooks_dir"],
        to: "hooks_dirs",
        set: |config| config.hooks_dirs = vec!["/usr/share/containers/oci/hooks.d".into()],
        why: "CRI-O reads hooks there",
    },
    Implied {
        unless: &["nri/enable_nri"],
        to: "nri.enable",
        set: |config| config.nri.enable = true,
        why: "on in CRI-O",
    },
    Implied {
        unless: &["runtime/default_sysctls"],
        to: "enable_unprivileged_ports",
        set: |config| config.enable_unprivileged_ports = false,
        why: "default_sysctls is empty in CRI-O",
    },
    Implied {
        unless: &["runtime/default_sysctls"],
        to: "enable_unprivileged_icmp",
        set: |config| config.enable_unprivileged_icmp = false,
        why: "default_sysctls is empty in CRI-O",
    },
];

const MONITOR: &str = "there is no conmon";
const NO_PROGRAM: &str = "no runtime program is run";
const OWN_STORE: &str = "pausa has its own store and finds damage by itself";
const NO_PAUSE: &str = "there is no pause image";

const NO_PINNED_CPUS: Does = Does::Lacks(
    "pods get no CPUs by workload partitioning",
    "reserve CPUs with kubelet's reservedSystemCPUs, or with [cpu] of pausa",
);
const NO_MAPPINGS: Does = Does::Lacks(
    "only pods that ask for one have a user namespace",
    "set hostUsers: false in the pods",
);
const NO_ARTIFACTS: Does = Does::Lacks(
    "OCI artifacts cannot be mounted as volumes; images can",
    "package the content as an image",
);
const NO_POLICY: Does = Does::Lacks(
    "no signature policy is applied: images are pulled unverified",
    "verify images at admission, for example with Kyverno or sigstore's policy-controller",
);

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    // [crio]
    Rule { path: "root", default: &["\"/var/lib/containers/storage\"", "\"\""], does: Does::Lacks("images and layers go to `root` of pausa, /var/lib/pausa, which may be another disk", "set `root` to a directory on the disk that is meant") },
    Rule { path: "runroot", default: &["\"/var/run/containers/storage\"", "\"/run/containers/storage\"", "\"\""], does: Does::NotNeeded("pausa has its own, `state`") },
    Rule { path: "storage_driver", default: &["\"overlay\"", "\"\""], does: Does::Lacks("layers are unpacked for overlayfs: there are no other drivers", "use a file system that overlayfs can use, such as ext4 or xfs") },
    Rule { path: "storage_option", default: &["[]"], does: Does::Map("handlers.NAME.writable_layer_limit", storage_options) },
    Rule { path: "imagestore", default: &["\"\""], does: Does::Lacks("images and writable layers are below one `root`", "nothing") },
    Rule { path: "log_dir", default: &["\"/var/log/crio/pods\""], does: Does::NotNeeded("kubelet says where logs are") },
    Rule { path: "version_file", default: &["\"/var/run/crio/version\""], does: Does::NotNeeded(OWN_STORE) },
    Rule { path: "version_file_persist", default: &["\"\"", "\"/var/lib/crio/version\""], does: Does::NotNeeded(OWN_STORE) },
    Rule { path: "clean_shutdown_file", default: &["\"/var/lib/crio/clean.shutdown\"", "\"\""], does: Does::NotNeeded(OWN_STORE) },
    Rule { path: "internal_wipe", default: &["true", "false"], does: Does::NotNeeded(OWN_STORE) },
    Rule { path: "internal_repair", default: &["true", "false"], does: Does::NotNeeded(OWN_STORE) },
    // [crio.api]
    Rule { path: "api/listen", default: &["\"/var/run/crio/crio.sock\""], does: Does::NotNeeded("clients get the socket of pausa, `listen`") },
    Rule { path: "api/host_ip", default: &["[]"], does: Does::NotNeeded("host ports are on all addresses unless the pod names one") },
    Rule { path: "api/stream_address", default: &["\"127.0.0.1\"", "\"\""], does: Does::Map("streaming.address", common::stream_address) },
    Rule { path: "api/stream_port", default: &["\"0\"", "0", "\"\""], does: Does::Map("streaming.port", common::stream_port) },
    Rule { path: "api/stream_idle_timeout", default: &["\"\"", "\"4h\"", "\"4h0m0s\""], does: Does::Map("streaming.idle_timeout_seconds", common::stream_idle_timeout) },
    Rule { path: "api/stream_enable_tls", default: &["false"], does: Does::Map("streaming.cert", |context| {
        if !context.flag()? { return SET; }
        let named = |key| get(context.source, &["api", key]).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if named("stream_tls_cert") && named("stream_tls_key") { return same("streaming.cert and streaming.key turn TLS on"); }
        lacks("streams have no TLS: pausa makes no certificates of its own", "set streaming.cert and streaming.key")
    }) },
    Rule { path: "api/stream_tls_cert", default: &["\"\""], does: Does::Map("streaming.cert", |context| stream_file(context, "streaming.cert")) },
    Rule { path: "api/stream_tls_key", default: &["\"\""], does: Does::Map("streaming.key", |context| stream_file(context, "streaming.key")) },
    Rule { path: "api/stream_tls_ca", default: &["\"\""], does: Does::Lacks("clients of streams show no certificate: each URL contains a secret and works once", "nothing") },
    Rule { path: "api/tls_min_version", default: &["\"VersionTLS12\"", "\"\""], does: Does::Lacks("streams take TLS 1.2 and 1.3", "nothing: all clients that know 1.3 use it") },
    Rule { path: "api/tls_cipher_suites", default: &["[]"], does: Does::Lacks("streams take the cipher suites of rustls, all of which have forward secrecy", "nothing") },
    Rule { path: "api/grpc_max_send_msg_size", default: &["83886080", "16777216"], does: Does::NotNeeded("pausa has fixed limits") },
    Rule { path: "api/grpc_max_recv_msg_size", default: &["83886080", "16777216"], does: Does::NotNeeded("pausa has fixed limits") },
    // [crio.runtime]
    Rule { path: "runtime/default_runtime", default: &["\"crun\"", "\"runc\"", "\"\""], does: Does::Map("handlers", |context| match kind(context.source, default_handler(context.source)) {
        Kind::Builtin => same("pods without a RuntimeClass have the handler \"\", which is built in"),
        Kind::Wrapper(program) => wrapper_class(&program),
        Kind::Foreign(program) => lacks(format!("pods without a RuntimeClass run in the built-in handler, not in {program}: with less isolation"), "do not migrate this node, or give the pods that may a RuntimeClass of their own"),
    }) },
    Rule { path: "runtime/default_ulimits", default: &["[]"], does: Does::Map("handlers.NAME.default_ulimits", |context| {
        let limits: Result<Vec<Ulimit>, _> = context.texts()?.iter().map(|text| text.parse()).collect();
        let Ok(limits) = limits else { return lacks("no limits are set: one of them is not NAME=SOFT:HARD", "set default_ulimits of the handlers"); };
        for handler in context.config.handlers.values_mut() { handler.default_ulimits.clone_from(&limits); }
        SET
    }) },
    Rule { path: "runtime/default_env", default: &["[]"], does: Does::Map("handlers.NAME.default_env", |context| {
        let variables: Result<Vec<_>, _> = context.texts()?.into_iter().map(TryInto::try_into).collect();
        let Ok(variables) = variables else { return lacks("no variables are set: one of them is not NAME=value", "set default_env of the handlers"); };
        for handler in context.config.handlers.values_mut() { handler.default_env.clone_from(&variables); }
        SET
    }) },
    Rule { path: "runtime/pids_limit", default: &["-1", "0"], does: Does::Map("handlers.NAME.pids_limit", |context| {
        // None, as CRI-O has it.
        let limit = u32::try_from(context.number()?.max(0)).unwrap_or(0);
        for handler in context.config.handlers.values_mut() { handler.pids_limit = limit; }
        SET
    }) },
    Rule { path: "runtime/no_pivot", default: &["false"], does: Does::Lacks("the root of containers is changed by pivot_root(2)", "nothing") },
    Rule { path: "runtime/decryption_keys_path", default: &["\"/etc/crio/keys/\"", "\"\""], does: NO_DECRYPTION },
    Rule { path: "runtime/additional_artifact_stores", default: &["[]"], does: NO_ARTIFACTS },
    Rule { path: "runtime/conmon", default: &["\"\""], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/conmon_cgroup", default: &["\"\"", "\"pod\"", "\"system.slice\""], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/conmon_env", default: &["[]"], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/min_injected_gomaxprocs", default: &["0"], does: Does::Lacks("GOMAXPROCS is not set", "nothing for Go 1.25, which knows CPU limits; otherwise default_env of the handlers, or the pods") },
    Rule { path: "runtime/selinux", default: &[], does: Does::Map("enable_selinux", |context| { context.config.enable_selinux = context.flag()?; SET }) },
    Rule { path: "runtime/seccomp_profile", default: &["\"\""], does: Does::Map("seccomp.default_profile", |context| {
        match context.text()?.to_owned().as_str() {
            "" => SET,
            "unconfined" => lacks("RuntimeDefault is the built-in profile", "in pods that must not have it: the type Unconfined"),
            path => { context.config.seccomp.default_profile = Some(path.into()); SET }
        }
    }) },
    Rule { path: "runtime/seccomp_use_default_when_empty", default: &["false"], does: Does::Lacks("containers whose pod names no profile run without a filter", "set seccompDefault: true in kubelet's configuration") },
    Rule { path: "runtime/privileged_seccomp_profile", default: &["\"\""], does: Does::Lacks("privileged containers have no filter", "nothing") },
    Rule { path: "runtime/apparmor_profile", default: &["\"crio-default\"", "\"\""], does: Does::Map("apparmor.default_profile", |context| {
        match context.text()?.to_owned().as_str() {
            "" | "crio-default" => SET,
            "unconfined" => lacks("containers have the profile pausa-default where the kernel has AppArmor", "in pods that must not: appArmorProfile of the type Unconfined"),
            name => { context.config.apparmor.default_profile = Some(name.to_owned()); SET }
        }
    }) },
    Rule { path: "runtime/blockio_config_file", default: &["\"\""], does: Does::Map("blockio.config_file", |context| {
        let text = context.text()?;
        context.config.blockio.config_file = Some(text).filter(|text| !text.is_empty()).map(Into::into);
        SET
    }) },
    Rule { path: "runtime/blockio_reload", default: &["false"], does: Does::Same("the file is read for each container that has a class") },
    Rule { path: "runtime/rdt_config_file", default: &["\"\""], does: Does::Lacks("pausa makes no RDT classes: it uses the groups that exist in /sys/fs/resctrl", "have `rdt` of goresctrl make them from the same file when the node starts") },
    Rule { path: "runtime/cdi_spec_dirs", default: &["[\"/etc/cdi\", \"/var/run/cdi\"]"], does: Does::Map("cdi_spec_dirs", |context| { context.config.cdi_spec_dirs = context.texts()?.into_iter().map(Into::into).collect(); SET }) },
    Rule { path: "runtime/irqbalance_config_file", default: &["\"/etc/sysconfig/irqbalance\"", "\"/etc/default/irqbalance\""], does: Does::NotNeeded("pausa does not write irqbalance's file; see [cpu] move_interrupts") },
    Rule { path: "runtime/irqbalance_config_restore_file", default: &["\"/etc/sysconfig/orig_irq_banned_cpus\"", "\"disable\""], does: Does::NotNeeded("pausa does not write irqbalance's file; see [cpu] move_interrupts") },
    Rule { path: "runtime/cgroup_manager", default: &["\"systemd\""], does: Does::Map("cgroup_driver", |context| {
        context.config.cgroup_driver = match context.text()? { "cgroupfs" => CgroupDriver::Cgroupfs, _ => CgroupDriver::Systemd };
        SET
    }) },
    Rule { path: "runtime/default_capabilities", default: &[], does: Does::Map("", |context| {
        let mut names = context.texts()?;
        names.sort();
        let named: Vec<&str> = names.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name)).collect();
        if named == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID"] { return Err(Class::Default); }
        lacks("containers have the default capabilities of Docker and containerd", "add or drop capabilities in the pods' securityContext")
    }) },
    Rule { path: "runtime/add_inheritable_capabilities", default: &["false", "true"], does: Does::NotNeeded("inheritable capabilities are not set since CVE-2022-24769") },
    Rule { path: "runtime/default_sysctls", default: &["[]"], does: Does::Map("enable_unprivileged_icmp", sysctls) },
    Rule { path: "runtime/allowed_devices", default: &["[\"/dev/fuse\", \"/dev/net/tun\"]", "[\"/dev/fuse\"]", "[]"], does: Does::Lacks("the annotation io.kubernetes.cri-o.Devices has no meaning", "use a device plugin or CDI") },
    Rule { path: "runtime/additional_devices", default: &["[]"], does: Does::Lacks("containers have no devices that their pod does not ask for", "use a device plugin, CDI, or an NRI plugin for all pods") },
    Rule { path: "runtime/device_ownership_from_security_context", default: &["false"], does: Does::Map("device_ownership_from_security_context", |context| { context.config.device_ownership_from_security_context = context.flag()?; SET }) },
    Rule { path: "runtime/hooks_dir", default: &["[\"/usr/share/containers/oci/hooks.d\"]", "[]"], does: Does::Map("hooks_dirs", |context| { context.config.hooks_dirs = context.texts()?.into_iter().filter(|dir| !dir.is_empty()).map(Into::into).collect(); SET }) },
    Rule { path: "runtime/default_mounts", default: &["[]"], does: NO_DEFAULT_MOUNTS },
    Rule { path: "runtime/default_mounts_file", default: &["\"\""], does: NO_DEFAULT_MOUNTS },
    Rule { path: "runtime/log_filter", default: &["\"\""], does: Does::Lacks("the log is not filtered by expressions", "filter by modules with directives in log.level, or in the journal") },
    Rule { path: "runtime/log_level", default: &["\"info\""], does: Does::Map("log.level", common::log_level) },
    Rule { path: "runtime/log_size_max", default: &["-1", "0"], does: Does::Lacks("logs of containers grow until kubelet rotates them", "set containerLogMaxSize in kubelet's configuration") },
    Rule { path: "runtime/log_to_journald", default: &["false"], does: Does::Lacks("output of containers goes to kubelet's files only", "have the journal or a log agent read /var/log/pods") },
    Rule { path: "runtime/container_exits_dir", default: &["\"/var/run/crio/exits\""], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/container_attach_socket_dir", default: &["\"/var/run/crio\""], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/bind_mount_prefix", default: &["\"\""], does: Does::Lacks("sources of mounts are paths on the node as the daemon sees it", "run pausa in the node's mount namespace") },
    Rule { path: "runtime/read_only", default: &["false"], does: Does::Lacks("containers can write to their root file system", "set readOnlyRootFilesystem in the pods, or by admission") },
    Rule { path: "runtime/uid_mappings", default: &["\"\""], does: NO_MAPPINGS },
    Rule { path: "runtime/gid_mappings", default: &["\"\""], does: NO_MAPPINGS },
    Rule { path: "runtime/minimum_mappable_uid", default: &["-1"], does: NO_MAPPINGS },
    Rule { path: "runtime/minimum_mappable_gid", default: &["-1"], does: NO_MAPPINGS },
    Rule { path: "runtime/ctr_stop_timeout", default: &["30", "0"], does: Does::NotNeeded("the grace period is the pod's") },
    Rule { path: "runtime/manage_ns_lifecycle", default: &["true"], does: Does::Same("namespaces outlive the processes in them") },
    Rule { path: "runtime/drop_infra_ctr", default: &["true"], does: Does::Same("only pods with a shared PID namespace have a pause process") },
    Rule { path: "runtime/infra_ctr_cpuset", default: &["\"\""], does: Does::NotNeeded("the pause process does nothing, and most pods have none") },
    Rule { path: "runtime/shared_cpuset", default: &["\"\""], does: NO_PINNED_CPUS },
    Rule { path: "runtime/namespaces_dir", default: &["\"/var/run\""], does: Does::NotNeeded("network namespaces are in /var/run/netns") },
    Rule { path: "runtime/pinns_path", default: &["\"\"", "\"/usr/bin/pinns\""], does: Does::NotNeeded("namespaces are made by pausa itself") },
    Rule { path: "runtime/absent_mount_sources_to_reject", default: &["[]"], does: Does::Lacks("sources of mounts that do not exist are created as directories", "use a hostPath of the type Directory or File, which must exist") },
    Rule { path: "runtime/enable_criu_support", default: &["true", "false"], does: Does::Lacks("containers cannot be checkpointed", "nothing") },
    Rule { path: "checkpoint_restore/container_level_enabled", default: &["\"checkpoint_restore\"", "\"checkpoint_only\"", "\"none\""], does: Does::Lacks("containers cannot be checkpointed", "nothing") },
    Rule { path: "runtime/enable_pod_events", default: &["false"], does: Does::Same("events are always on") },
    Rule { path: "runtime/hostnetwork_disable_selinux", default: &["true"], does: Does::Lacks("pods with host network have the labels that kubelet asks for", "set seLinuxOptions in these pods") },
    Rule { path: "runtime/disable_hostport_mapping", default: &["false"], does: Does::Lacks("host ports are mapped by pausa where the network has no plugin for them", "add the plugin that takes portMappings to the CNI configuration") },
    Rule { path: "runtime/timezone", default: &["\"\""], does: Does::Lacks("containers have the time zone of their image", "set TZ in default_env of the handlers, or mount /etc/localtime") },
    Rule { path: "runtime/separate_pull_cgroup", default: &["\"\""], does: NO_PULL_CGROUP },
    // [crio.runtime.runtimes.NAME]
    Rule { path: "runtime/runtimes/*/runtime_path", default: &["\"\""], does: Does::Map("handlers", |context| match kind(context.source, context.part(2)) {
        Kind::Wrapper(program) => wrapper_class(&program),
        _ => handler_class(context),
    }) },
    Rule { path: "runtime/runtimes/*/runtime_type", default: &["\"\"", "\"oci\""], does: Does::Map("handlers", handler_class) },
    Rule { path: "runtime/runtimes/*/runtime_root", default: &["\"\"", "\"/run/crun\"", "\"/run/runc\""], does: Does::NotNeeded(NO_PROGRAM) },
    Rule { path: "runtime/runtimes/*/runtime_config_path", default: &["\"\""], does: Does::NotNeeded(NO_PROGRAM) },
    Rule { path: "runtime/runtimes/*/runtime_pull_image", default: &["false"], does: Does::NotNeeded(NO_PROGRAM) },
    Rule { path: "runtime/runtimes/*/platform_runtime_paths/*", default: &[], does: Does::NotNeeded(NO_PROGRAM) },
    Rule { path: "runtime/runtimes/*/inherit_default_runtime", default: &["false"], does: Does::Map("handlers", handler_class) },
    Rule { path: "runtime/runtimes/*/privileged_without_host_devices", default: &["false"], does: Does::Lacks("privileged containers of this handler have all devices of the node", "let these pods not be privileged, or ask for single devices") },
    Rule { path: "runtime/runtimes/*/allowed_annotations", default: &["[]"], does: Does::Map("", annotations) },
    Rule { path: "runtime/runtimes/*/monitor_path", default: &["\"\"", "\"/usr/libexec/crio/conmon\"", "\"/usr/bin/conmon\"", "\"/usr/bin/conmonrs\""], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/runtimes/*/monitor_cgroup", default: &["\"\"", "\"pod\"", "\"system.slice\""], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/runtimes/*/monitor_exec_cgroup", default: &["\"\"", "\"container\""], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/runtimes/*/monitor_env", default: &["[]", "[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"]"], does: Does::NotNeeded(MONITOR) },
    Rule { path: "runtime/runtimes/*/container_min_memory", default: &["\"\"", "\"12 MiB\"", "\"12MiB\""], does: Does::NotNeeded("it is what runtime programs need; limits are taken as they are") },
    Rule { path: "runtime/runtimes/*/no_sync_log", default: &["false", "true"], does: Does::NotNeeded("logs are written as they come") },
    Rule { path: "runtime/runtimes/*/default_annotations/*", default: &[], does: Does::NotNeeded("the built-in handler reads no annotations of runtime programs") },
    Rule { path: "runtime/runtimes/*/stream_websockets", default: &["false"], does: Does::Same("streams are SPDY or WebSocket, as the client asks") },
    Rule { path: "runtime/runtimes/*/exec_cpu_affinity", default: &["\"\""], does: Does::Lacks("commands of exec run on all CPUs of their container", "nothing") },
    Rule { path: "runtime/runtimes/*/seccomp_profile", default: &["\"\""], does: Does::Lacks("all handlers have one profile for RuntimeDefault", "use profiles of the type Localhost in the pods") },
    Rule { path: "runtime/runtimes/*/container_create_timeout", default: &["240"], does: Does::NotNeeded("the work goes on after the request's deadline, and a retry joins it") },
    Rule { path: "runtime/workloads/*/allowed_annotations", default: &["[]"], does: Does::Map("", annotations) },
    Rule { path: "runtime/workloads/**", default: &["\"\"", "[]", "0"], does: NO_PINNED_CPUS },
    // [crio.image]
    Rule { path: "image/default_transport", default: &["\"docker://\""], does: Does::Lacks("images come from registries", "pausa image import reads archives") },
    Rule { path: "image/global_auth_file", default: &["\"\""], does: Does::Map("images.auth_file", |context| {
        let text = context.text()?.to_owned();
        if text.is_empty() { return SET; }
        context.config.images.auth_file = Some(SecretFile::Path(text.into()));
        Ok(Some("only for repairs: for pulls, kubelet needs it, in /var/lib/kubelet/config.json".to_owned()))
    }) },
    Rule { path: "image/namespaced_auth_dir", default: &["\"/etc/crio/auth\""], does: Does::Lacks("credentials are those that kubelet sends", "use imagePullSecrets") },
    Rule { path: "image/pause_image", default: &[], does: Does::NotNeeded(NO_PAUSE) },
    Rule { path: "image/pause_image_auth_file", default: &["\"\""], does: Does::NotNeeded(NO_PAUSE) },
    Rule { path: "image/pause_command", default: &["\"/pause\"", "\"\""], does: Does::NotNeeded(NO_PAUSE) },
    Rule { path: "image/pinned_images", default: &["[]"], does: Does::Map("images.pinned", |context| { context.config.images.pinned = context.texts()?; SET }) },
    Rule { path: "image/signature_policy", default: &["\"\""], does: NO_POLICY },
    Rule { path: "image/signature_policy_dir", default: &["\"/etc/crio/policies\"", "\"\""], does: NO_POLICY },
    Rule { path: "image/insecure_registries", default: &["[]"], does: Does::Lacks("certificates of these registries are verified", "set insecure = true for them in registries.conf, which pausa reads") },
    Rule { path: "image/registries", default: &["[]"], does: Does::Lacks("short names are not looked for in these registries", "list them as unqualified-search-registries in registries.conf, which pausa reads") },
    Rule { path: "image/image_volumes", default: &["\"mkdir\"", "\"\""], does: Does::Same("a VOLUME of an image is a part of the writable layer") },
    Rule { path: "image/big_files_temporary_dir", default: &["\"\""], does: Does::NotNeeded("layers are unpacked while they arrive") },
    Rule { path: "image/separate_pull_cgroup", default: &["\"\""], does: NO_PULL_CGROUP },
    Rule { path: "image/auto_reload_registries", default: &["false"], does: Does::Same("the files are read for each pull") },
    Rule { path: "image/pull_progress_timeout", default: &["\"0s\"", "\"10s\"", "0"], does: Does::Map("images.stall_timeout_seconds", |context| match context.seconds()? {
        0 | 10 => same("the default of each: pausa tries a download again after a minute without data"),
        seconds => { context.config.images.stall_timeout_seconds = seconds; SET }
    }) },
    Rule { path: "image/oci_artifact_mount_support", default: &["true", "false"], does: NO_ARTIFACTS },
    Rule { path: "image/short_name_mode", default: &["\"enforcing\"", "\"\""], does: Does::Lacks("short names are handled as registries.conf says", "set short-name-mode = \"disabled\" there") },
    // [crio.network]
    Rule { path: "network/cni_default_network", default: &["\"\""], does: Does::Lacks("the first CNI configuration by name of its file is used", "let that be the wanted one, for example by its name 00-NAME.conflist") },
    Rule { path: "network/network_dir", default: &["\"/etc/cni/net.d/\"", "\"/etc/cni/net.d\""], does: Does::Map("cni.conf_dir", common::conf_dir) },
    Rule { path: "network/plugin_dirs", default: &["[\"/opt/cni/bin/\"]", "[\"/opt/cni/bin\"]", "[]"], does: Does::Map("cni.bin_dir", |context| { let dirs = context.texts()?; let dirs = dirs.iter().map(|dir| dir.trim_end_matches('/').to_owned()).collect(); common::bin_dirs(context, dirs) }) },
    Rule { path: "network/plugin_dir", default: &["\"\""], does: Does::Map("cni.bin_dir", |context| { let dir = context.text()?.trim_end_matches('/').to_owned(); common::bin_dirs(context, vec![dir]) }) },
    Rule { path: "network/cni_status_grace_period", default: &["\"0s\""], does: Does::NotNeeded("the network is ready as long as there is a configuration that works") },
    // [crio.metrics], [crio.tracing], [crio.stats]
    Rule { path: "metrics/enable_metrics", default: &["false"], does: Does::Map("metrics.address", metrics) },
    Rule { path: "metrics/metrics_host", default: &["\"127.0.0.1\"", "\"\""], does: Does::Map("metrics.address", metrics_part) },
    Rule { path: "metrics/metrics_port", default: &["9090"], does: Does::Map("metrics.address", metrics_part) },
    Rule { path: "metrics/metrics_socket", default: &["\"\""], does: Does::Map("metrics.address", metrics_part) },
    Rule { path: "metrics/metrics_collectors", default: &[], does: Does::NotNeeded("all metrics are served; their names: docs/metrics.md") },
    Rule { path: "metrics/metrics_cert", default: &["\"\""], does: NO_METRICS_TLS },
    Rule { path: "metrics/metrics_key", default: &["\"\""], does: NO_METRICS_TLS },
    Rule { path: "tracing/enable_tracing", default: &["false"], does: Does::Map("tracing.endpoint", |context| {
        if !context.flag()? { return SET; }
        let endpoint = get(context.source, &["tracing", "tracing_endpoint"]).and_then(Value::as_str).unwrap_or("127.0.0.1:4317");
        context.config.tracing.endpoint = format!("http://{endpoint}");
        SET
    }) },
    Rule { path: "tracing/tracing_endpoint", default: &["\"127.0.0.1:4317\"", "\"0.0.0.0:4317\"", "\"\""], does: Does::Map("tracing.endpoint", |context| {
        if get(context.source, &["tracing", "enable_tracing"]).and_then(Value::as_bool) != Some(true) { return not_needed("enable_tracing is false"); }
        same("it is in tracing.endpoint")
    }) },
    Rule { path: "tracing/tracing_sampling_rate_per_million", default: &["0"], does: Does::Map("tracing.sampling_ratio", |context| {
        let Ok(rate) = i32::try_from(context.number()?) else { return lacks("every request begins a trace", "set tracing.sampling_ratio, from 0 to 1"); };
        context.config.tracing.sampling_ratio = f64::from(rate) / 1e6;
        SET
    }) },
    Rule { path: "stats/stats_collection_period", default: &["0"], does: Does::Map("stats.interval_seconds", stats_interval) },
    Rule { path: "stats/collection_period", default: &["0"], does: Does::Map("stats.interval_seconds", stats_interval) },
    Rule { path: "stats/included_pod_metrics", default: &["[]"], does: Does::Same("all metrics of pods are served") },
    // [crio.nri]
    Rule { path: "nri/enable_nri", default: &[], does: Does::Map("nri.enable", |context| { context.config.nri.enable = context.flag()?; SET }) },
    Rule { path: "nri/nri_plugin_dir", default: &["\"/opt/nri/plugins\""], does: Does::Map("nri.plugin_path", |context| { context.config.nri.plugin_path = context.text()?.into(); SET }) },
    Rule { path: "nri/nri_plugin_config_dir", default: &["\"/etc/nri/conf.d\""], does: Does::Map("nri.plugin_config_path", |context| { context.config.nri.plugin_config_path = context.text()?.into(); SET }) },
    Rule { path: "nri/nri_listen", default: &["\"/var/run/nri/nri.sock\""], does: Does::Map("nri.socket_path", |context| { context.config.nri.socket_path = context.text()?.into(); SET }) },
    Rule { path: "nri/nri_disable_connections", default: &["false"], does: Does::Map("nri.disable_connections", |context| { context.config.nri.disable_connections = context.flag()?; SET }) },
    Rule { path: "nri/nri_plugin_registration_timeout", default: &["\"5s\""], does: Does::Map("nri.plugin_registration_timeout_seconds", |context| { context.config.nri.plugin_registration_timeout_seconds = context.seconds()?; SET }) },
    Rule { path: "nri/nri_plugin_request_timeout", default: &["\"2s\""], does: Does::Map("nri.plugin_request_timeout_seconds", |context| { context.config.nri.plugin_request_timeout_seconds = context.seconds()?; SET }) },
    Rule { path: "nri/default_validator/*", default: &["false", "[]", "\"\""], does: Does::Map("nri.default_validator", common::validator) },
];

const NO_DEFAULT_MOUNTS: Does = Does::Lacks(
    "containers have no mounts that their pod does not name",
    "have an NRI plugin add them, or the pods",
);
const NO_PULL_CGROUP: Does = Does::Lacks(
    "images are pulled in the daemon's cgroup",
    "limit the unit of pausa; MemoryHigh= counts its page cache",
);
const NO_METRICS_TLS: Does = Does::Lacks(
    "metrics are served without TLS",
    "serve them on loopback or a socket, behind a proxy that has a certificate",
);

fn handler_class(context: &mut Context<'_>) -> Done {
    Err(Class::Mapped {
        to: format!("handlers.{}", context.part(2)),
        value: "{ kind = \"builtin\" }".to_owned(),
        note: None,
    })
}

/// `overlay.size=10G` is a limit; other options are about the store of containers/storage.
fn storage_options(context: &mut Context<'_>) -> Done {
    let options = context.texts()?;
    let mut size = None;
    for option in &options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name.trim_start_matches(".") {
            "overlay.size" | "overlay2.size" | "size" => size = Some(value.to_owned()),
            "overlay.imagestore" | "overlay.additionalimagestores" | "additionalimagestores" => {
                return lacks(
                    "images of other stores are not used",
                    "pausa migrate --images imports those of the main store; `pausa image import` takes archives of others",
                );
            }
            _ => {}
        }
    }
    let Some(size) = size else {
        return not_needed("about the store of containers/storage");
    };
    // Docker's units, which are binary.
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match size[digits.len()..]
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => "",
        "k" => "Ki",
        "m" => "Mi",
        "g" => "Gi",
        "t" => "Ti",
        _ => "?",
    };
    match format!("{digits}{unit}").parse() {
        Ok(limit) => {
            for handler in context.config.handlers.values_mut() {
                handler.writable_layer_limit = Some(limit);
            }
            Ok(Some(
                "`root` must be on ext4, f2fs or xfs with quotas for projects, or containers are refused"
                    .to_owned(),
            ))
        }
        Err(_) => lacks(
            "writable layers have no limit: the size cannot be read",
            "set writable_layer_limit of the handlers",
        ),
    }
}

fn sysctls(context: &mut Context<'_>) -> Done {
    let sysctls = context.texts()?;
    let (mut ping, mut ports, mut others) = (false, false, Vec::new());
    for sysctl in &sysctls {
        let (name, value) = sysctl.split_once('=').unwrap_or((sysctl, ""));
        let values: Vec<&str> = value.split_whitespace().collect();
        match (name.trim(), values.as_slice()) {
            (PING_GROUPS, ["0", end]) => ping = *end != "0",
            (FIRST_PORT, ["0"]) => ports = true,
            (name, _) => others.push(name.to_owned()),
        }
    }
    context.config.enable_unprivileged_icmp = ping;
    context.config.enable_unprivileged_ports = ports;
    if others.is_empty() {
        return Ok(Some("as is enable_unprivileged_ports".to_owned()));
    }
    lacks(
        format!("pods do not get the sysctls {}", others.join(", ")),
        "set them in the pods' securityContext, or on the node for those that are not of a namespace",
    )
}

/// Annotations that pods may set.
fn annotations(context: &mut Context<'_>) -> Done {
    let annotations = context.texts()?;
    let unknown: Vec<&str> = annotations
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "io.kubernetes.cri.rdt-class")
        .collect();
    if unknown.is_empty() {
        return same("the annotation can be used by all pods");
    }
    lacks(
        format!("these annotations have no meaning: {}", unknown.join(", ")),
        "use hostUsers: false for user namespaces, device plugins or CDI for devices, an emptyDir in memory for /dev/shm, and [cpu] or NRI plugins for CPUs",
    )
}

fn stream_file(context: &mut Context<'_>, to: &str) -> Done {
    if context.text()?.is_empty() {
        return SET;
    }
    if get(context.source, &["api", "stream_enable_tls"]).and_then(Value::as_bool) != Some(true) {
        return not_needed("stream_enable_tls is false");
    }
    common::tls_file(
        context,
        to,
        &["api", "stream_tls_cert"],
        &["api", "stream_tls_key"],
    )
}

fn metrics(context: &mut Context<'_>) -> Done {
    if !context.flag()? {
        return SET;
    }
    let option = |key| get(context.source, &["metrics", key]);
    let text = |key| {
        option(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let port = option("metrics_port").and_then(Value::as_integer).unwrap_or(9090);
    let host = text("metrics_host").unwrap_or("127.0.0.1");
    let address = match text("metrics_socket") {
        Some(path) => format!("unix://{path}"),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    };
    match address.parse::<MetricsAddress>() {
        Ok(address) => {
            context.config.metrics.address = Some(address);
            Ok(Some("the metrics have other names: docs/metrics.md".to_owned()))
        }
        Err(_) => lacks(
            "no metrics are served: the address is a host name",
            "set metrics.address to an IP address and a port",
        ),
    }
}

fn metrics_part(context: &mut Context<'_>) -> Done {
    match get(context.source, &["metrics", "enable_metrics"]).and_then(Value::as_bool) {
        Some(true) => same("it is in metrics.address"),
        _ => not_needed("enable_metrics is false"),
    }
}

fn stats_interval(context: &mut Context<'_>) -> Done {
    match context.seconds()? {
        0 => same("0 reads stats when they are asked for; pausa keeps what is at most 15 seconds old"),
        seconds => {
            context.config.stats.interval_seconds = seconds;
            SET
        }
    }
}
