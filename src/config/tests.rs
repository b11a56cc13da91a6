use std::fs;

use super::handler::Variable;
use super::*;
use crate::error::chain;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_defaults_are_valid_and_survive_printing() {
    let config = Config::default();
    config.validate().unwrap();
    let dir = dir();
    let file = write(dir.path(), "config.toml", &config.to_toml().unwrap());
    assert_eq!(load(Some(&file)).unwrap(), config);
}

#[test]
fn an_empty_file_is_the_defaults() {
    let dir = dir();
    let file = write(dir.path(), "config.toml", "");
    assert_eq!(load(Some(&file)).unwrap(), Config::default());
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let dir = dir();
    let missing = dir.path().join("config.toml");
    let error = load(Some(&missing)).unwrap_err();
    assert!(matches!(&error, ConfigError::Read { path, .. } if *path == missing));
}

#[test]
fn plugins_in_process_are_all_or_none_or_some() {
    let dir = dir();
    for (text, bridge, portmap) in [
        ("", true, true),
        ("in_process = true", true, true),
        ("in_process = false", false, false),
        ("in_process = [\"bridge\", \"host-local\"]", true, false),
    ] {
        let file = write(dir.path(), "config.toml", &format!("[network]\n{text}\n"));
        let config = load(Some(&file)).unwrap();
        config.validate().unwrap();
        let includes = |plugin| config.network.in_process.includes(plugin);
        assert_eq!(
            (includes("bridge"), includes("portmap")),
            (bridge, portmap),
            "{text}"
        );
    }
}

#[test]
fn drop_ins_merge_in_lexical_order_and_only_toml() {
    let dir = dir();
    let file = write(
        dir.path(),
        "config.toml",
        "max_log_line = 1000\n[network.bridge]\nname = \"a0\"\nmtu = 1400\n",
    );
    write(
        dir.path(),
        "config.d/20-b.toml",
        "[network.bridge]\nname = \"b0\"\n",
    );
    write(
        dir.path(),
        "config.d/10-c.toml",
        "[network.bridge]\nname = \"c0\"\n[cni]\nbin_dir = [\"/x\"]\n",
    );
    write(dir.path(), "config.d/90-off.toml.disabled", "nonsense");
    let config = load(Some(&file)).unwrap();
    assert_eq!(config.network.bridge.name, "b0");
    assert_eq!(config.network.bridge.mtu, 1400);
    assert_eq!(config.max_log_line, 1000);
    assert_eq!(config.cni.bin_dir, [PathBuf::from("/x")]);
}

#[test]
fn an_unknown_key_names_file_key_and_the_nearest() {
    let dir = dir();
    let file = write(dir.path(), "config.toml", "");
    let drop_in = write(dir.path(), "config.d/x.toml", "[cni]\nconf_dri = \"/x\"\n");
    let text = chain(&load(Some(&file)).unwrap_err());
    assert!(text.contains(drop_in.to_str().unwrap()), "{text}");
    assert!(text.contains("\"cni.conf_dri\""), "{text}");
    assert!(text.contains("did you mean \"cni.conf_dir\"?"), "{text}");
}

#[test]
fn a_key_like_no_other_gets_no_suggestion() {
    let dir = dir();
    let file = write(dir.path(), "config.toml", "sandbox_image = \"pause\"\n");
    let text = load(Some(&file)).unwrap_err().to_string();
    assert!(
        text.contains("sandbox_image") && !text.contains("did you mean"),
        "{text}"
    );
}

#[test]
fn handlers_have_any_name_but_known_keys() {
    let dir = dir();
    let file = write(dir.path(), "config.toml", "[handlers.fast]\nkind = \"builtin\"\n");
    let config = load(Some(&file)).unwrap();
    assert_eq!(config.handlers.keys().collect::<Vec<_>>(), ["", "fast"]);
    let file = write(dir.path(), "config.toml", "[handlers.fast]\nkid = \"builtin\"\n");
    let text = load(Some(&file)).unwrap_err().to_string();
    assert!(text.contains("did you mean \"handlers.fast.kind\"?"), "{text}");
}

#[test]
fn what_a_handler_adds_is_read_and_printed() {
    let dir = dir();
    let text = "[handlers.\"\"]\npids_limit = 70\ndefault_env = [\"A=b=c\", \"B=\"]\n\
                default_ulimits = [\"nofile=1024:4096\", \"core=0\", \"memlock=-1\"]\n";
    let config = load(Some(&write(dir.path(), "config.toml", text))).unwrap();
    let handler = &config.handlers[""];
    assert_eq!(handler.pids_limit, 70);
    assert_eq!(
        handler
            .default_env
            .iter()
            .map(Variable::entry)
            .collect::<Vec<_>>(),
        ["A=b=c", "B="]
    );
    let limits: Vec<_> = handler
        .default_ulimits
        .iter()
        .map(|limit| (limit.soft, limit.hard))
        .collect();
    assert_eq!(limits, [(1024, 4096), (0, 0), (u64::MAX, u64::MAX)]);
    let again = write(dir.path(), "again.toml", &config.to_toml().unwrap());
    assert_eq!(load(Some(&again)).unwrap(), config);
}

#[test]
fn a_wrong_value_of_a_handler_names_file_and_line() {
    let dir = dir();
    for wrong in [
        "default_env = [\"A\"]",
        "default_env = [\"=b\"]",
        "default_ulimits = [\"nofile\"]",
        "default_ulimits = [\"files=1\"]",
        "default_ulimits = [\"nofile=2:1\"]",
        "default_ulimits = [\"nofile=-2\"]",
        "default_ulimits = [\"nofile=1:2:3\"]",
        "pids_limit = -1",
    ] {
        let file = write(dir.path(), "config.toml", &format!("[handlers.fast]\n{wrong}\n"));
        let text = chain(&load(Some(&file)).unwrap_err());
        assert!(
            text.contains(file.to_str().unwrap()) && text.contains("line 2"),
            "{wrong}: {text}"
        );
    }
}

#[test]
fn a_wrong_type_names_file_and_line() {
    let dir = dir();
    let file = write(
        dir.path(),
        "config.toml",
        "root = \"/r\"\nmax_log_line = \"long\"\n",
    );
    let text = chain(&load(Some(&file)).unwrap_err());
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    assert!(text.contains("line 2"), "{text}");
}

fn file(text: &str) -> Option<SecretFile> {
    SecretFile::try_from(text.to_owned()).ok()
}

#[test]
fn a_secret_is_a_file_or_a_credential_of_systemd() {
    let dir = dir();
    write(dir.path(), "login", "{}");
    let there = || Some(dir.path().as_os_str().to_owned());
    let path = file("/a/b").unwrap();
    assert_eq!(path.path_in("k", None).unwrap(), Path::new("/a/b"));
    let login = file("credential:login").unwrap();
    assert_eq!(login.path_in("k", there()).unwrap(), dir.path().join("login"));
    for (credential, directory) in [("login", None), ("other", there())] {
        let credential = file(&format!("credential:{credential}")).unwrap();
        let error = credential.path_in("images.auth_file", directory).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("images.auth_file") && text.contains("LoadCredential="),
            "{text}"
        );
    }
    for wrong in ["", "..", "a/b", "a:b", "a\nb"] {
        assert_eq!(file(&format!("credential:{wrong}")), None, "{wrong:?}");
    }
    let text =
        "[images]\nauth_file = \"credential:login\"\n[streaming]\ncert = \"credential:c\"\nkey = \"/k\"\n";
    let config: Config = toml::from_str(text).unwrap();
    config.validate().unwrap();
    assert_eq!(
        toml::from_str::<Config>(&config.to_toml().unwrap()).unwrap(),
        config
    );
}

#[test]
fn bad_values_are_named() {
    type Spoil = fn(&mut Config);
    let cases: [(&str, Spoil); 32] = [
        ("tracing.endpoint", |c| {
            c.tracing.endpoint = "https://collector:4317".into();
        }),
        ("tracing.endpoint", |c| {
            c.tracing.endpoint = "http://collector".into();
        }),
        ("tracing.sampling_ratio", |c| c.tracing.sampling_ratio = f64::NAN),
        ("cgroup_scope_prefix", |c| c.cgroup_scope_prefix = "a/b".into()),
        ("cgroup_scope_prefix", |c| c.cgroup_scope_prefix = "cri--x".into()),
        ("runtime_name", |c| c.runtime_name = String::new()),
        ("handlers.NAME.pids_limit", |c| {
            c.handlers.entry("x".to_owned()).or_default().pids_limit = 5_000_000;
        }),
        ("handlers.NAME.cpu_burst", |c| {
            c.handlers.entry("x".to_owned()).or_default().cpu_burst = 101;
        }),
        ("registries_conf", |c| {
            c.registries_conf = "registries.conf".into();
        }),
        ("blockio.config_file", |c| {
            c.blockio.config_file = Some("blockio.yaml".into());
        }),
        ("rdt.mount_point", |c| c.rdt.mount_point = "resctrl".into()),
        ("listen", |c| c.listen = "tcp://1.2.3.4".into()),
        ("listen", |c| c.listen = format!("unix:///{}", "x".repeat(103))),
        ("root", |c| c.root = "var".into()),
        ("state", |c| c.state = c.root.clone()),
        ("network.bridge.name", |c| {
            c.network.bridge.name = "sixteen-letters-".into();
        }),
        ("network.bridge.name", |c| c.network.bridge.name = "a/b".into()),
        ("network.bridge.name", |c| c.network.bridge.name = "a+b".into()),
        ("network.in_process", |c| {
            c.network.in_process = InProcessPlugins::Types(vec!["bridge".into(), "multus".into()]);
        }),
        ("network.bridge.subnet", |c| {
            c.network.bridge.subnet = "10.0.0.0/30".parse().unwrap();
        }),
        ("network.bridge.mtu", |c| c.network.bridge.mtu = 100),
        ("images.max_parallel_downloads", |c| {
            c.images.max_parallel_downloads = 0;
        }),
        ("log.level", |c| c.log.level = "pausa=loud".into()),
        ("cni.bin_dir", |c| c.cni.bin_dir.clear()),
        ("apparmor.default_profile", |c| {
            c.apparmor.default_profile = Some("a\nb".into());
        }),
        ("streaming.address", |c| {
            c.streaming.address = "0.0.0.0".parse().unwrap();
        }),
        ("streaming.key", |c| c.streaming.cert = file("/cert.pem")),
        ("streaming.cert", |c| c.streaming.key = file("/key.pem")),
        ("streaming.cert", |c| {
            c.streaming.cert = file("cert.pem");
            c.streaming.key = file("/key.pem");
        }),
        ("streaming.idle_timeout_seconds", |c| {
            c.streaming.idle_timeout_seconds = 0;
        }),
        ("streaming.max_sessions", |c| c.streaming.max_sessions = 0),
        ("streaming.max_sessions_per_pod", |c| {
            c.streaming.max_sessions_per_pod = 0;
        }),
    ];
    for (key, spoil) in cases {
        let mut config = Config::default();
        spoil(&mut config);
        let error = config.validate().unwrap_err();
        assert!(
            matches!(error, ConfigError::Value { key: named, .. } if named == key),
            "{key}: {error}"
        );
    }
}

#[test]
fn daemons_with_other_places_have_other_names() {
    let default = Config::default();
    assert_eq!(default.instance_name(), "pausa");
    assert_eq!(default.bridge_name(), "pausa0");
    let mut names = std::collections::BTreeSet::new();
    let changes: [fn(&mut Config); 3] = [
        |c| c.root = "/other".into(),
        |c| c.state = "/other".into(),
        |c| c.listen = "unix:///other".into(),
    ];
    for change in changes {
        let mut config = default.clone();
        change(&mut config);
        assert!(config.bridge_name().len() <= 15);
        assert_eq!(config.bridge_name(), config.instance_name());
        config.validate().unwrap();
        names.insert(config.instance_name());
    }
    assert_eq!(names.len(), 3);
}

#[test]
fn a_metrics_address_is_a_port_or_a_socket() {
    assert!(matches!("[::1]:9100".parse(), Ok(MetricsAddress::Tcp(_))));
    for wrong in ["", "9100", "localhost:9100", "unix://relative", "127.0.0.1"] {
        assert!(wrong.parse::<MetricsAddress>().is_err(), "{wrong}");
    }
}

#[test]
fn a_wrong_metrics_address_names_file_and_line() {
    let dir = dir();
    let file = write(dir.path(), "config.toml", "[metrics]\naddress = \"9100\"\n");
    let text = chain(&load(Some(&file)).unwrap_err());
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    assert!(text.contains("line 2") && text.contains("address:port"), "{text}");
    let address = "unix:///run/metrics.sock";
    let file = write(
        dir.path(),
        "config.toml",
        &format!("[metrics]\naddress = \"{address}\"\n"),
    );
    let config = load(Some(&file)).unwrap();
    assert_eq!(config.metrics.address, Some(address.parse().unwrap()));
    assert!(config.to_toml().unwrap().contains(address));
}

#[test]
fn a_bare_path_is_the_same_socket() {
    let config = Config {
        listen: "/run/pausa/pausa.sock".into(),
        ..Config::default()
    };
    assert_eq!(config.instance_name(), "pausa");
}

#[test]
fn sizes_are_read_as_kubernetes_writes_them_and_printed_so() {
    let printed = |text: &str| text.parse::<Size>().map(String::from);
    assert_eq!(printed("10Gi").unwrap(), "10Gi");
    assert_eq!(printed("2048Mi").unwrap(), "2Gi");
    assert_eq!(printed("1.5Gi").unwrap(), "1536Mi");
    assert_eq!(printed("5M").unwrap(), "5000000");
    assert_eq!(printed("1Ei").unwrap(), "1024Pi");
    for wrong in ["", "1", "1023Ki", "2Ei", "10GiB", "-1Gi"] {
        assert!(printed(wrong).is_err(), "{wrong:?}");
    }
    let text = "[handlers.\"\"]\nwritable_layer_limit = \"10Gi\"\n";
    let config: Config = toml::from_str(text).unwrap();
    assert!(config.validate().is_ok());
    let limit = config.handlers[""].writable_layer_limit;
    assert_eq!(limit.map(Size::bytes), Some(10 << 30));
    assert!(
        config
            .to_toml()
            .unwrap()
            .contains("writable_layer_limit = \"10Gi\"")
    );
}

#[test]
fn a_handler_limits_containers_or_pods() {
    let text = "[handlers.x]\nwritable_layer_limit = \"1Gi\"\npod_writable_layer_limit = \"2Gi\"\n";
    let config: Config = toml::from_str(text).unwrap();
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("pod_writable_layer_limit"), "{error}");
}

#[test]
fn every_key_is_documented() {
    let known = changes::entries(&load::known_keys());
    let known: Vec<_> = known.keys().map(|key| key.replace("\"*\"", "NAME")).collect();
    let documented: Vec<_> = reference::documented().into_keys().collect();
    assert_eq!(documented, known);
}

/// The documentation says which keys need a restart, and the daemon goes by a table.
#[test]
fn the_documentation_says_what_needs_a_restart() {
    for (key, restart) in reference::documented() {
        assert_eq!(restart, changes::needs_restart(&key), "{key}");
    }
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let dir = dir();
    let text = default_toml().unwrap();
    let file = write(dir.path(), "config.toml", &text);
    assert_eq!(load(Some(&file)).unwrap(), Config::default());
    for expected in [
        "# Socket for CRI",
        "\nlisten = \"unix:///run/pausa/pausa.sock\"\n",
        "\n#auth_file = \"\"\n",
        "\n[network]\n",
        "\nbridge.mtu = 0\n",
        "\n[handlers.\"\"]\n",
        "docs/configuration.md#limits-of-writable-layers",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let long = text
        .lines()
        .find(|line| line.starts_with('#') && line.chars().count() > 120);
    assert_eq!(long, None);
    assert!(!text.contains("]("), "{text}");
}

#[test]
fn the_manual_has_every_section_and_key() {
    let page = manual();
    assert!(page.contains(".TH pausa.toml 5"), "{page}");
    for key in reference::documented().into_keys() {
        let name = key.rsplit('.').next().unwrap_or_default();
        assert!(page.contains(&name.replace('-', "\\-")), "{key}");
    }
    assert!(page.contains(".SH [streaming]"), "{page}");
}

fn spoilt(text: &str) -> (Config, Vec<String>) {
    let dir = dir();
    let file = write(dir.path(), "config.toml", text);
    let (config, errors) = load_all(Some(&file));
    (config, errors.iter().map(|error| chain(error)).collect())
}

#[test]
fn all_errors_of_a_file_are_found() {
    let (config, errors) = spoilt(
        "max_log_line = \"long\"\nrot = \"/r\"\nruntime_name = \"x\"\n[handlers.fast]\ndefault_ulimits = [\n  \"core=0\",\n  \
         \"files=1\",\n]\n[stats]\ninterval = 3\ninterval_seconds = -1\n",
    );
    let found = |text: &str| errors.iter().any(|error| error.contains(text));
    for expected in ["\"rot\"", "\"stats.interval\"", "line 1,", "line 5,", "line 11,"] {
        assert!(found(expected), "{expected}: {errors:#?}");
    }
    assert_eq!(errors.len(), 5, "{errors:#?}");
    assert_eq!(config.runtime_name, "x");
}

#[test]
fn a_file_that_is_no_toml_has_one_error() {
    let (config, errors) = spoilt("root = /r\nmax_log_line = \"long\"\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(config, Config::default());
}

#[test]
fn all_wrong_values_are_found() {
    let mut config = Config {
        root: "relative".into(),
        max_log_line: 1,
        ..Config::default()
    };
    config.log.level = "pausa=loud".into();
    let wrong = config.wrong_values();
    let keys = wrong.iter().map(|error| match error {
        ConfigError::Value { key, .. } => *key,
        other => panic!("{other}"),
    });
    assert_eq!(keys.collect::<Vec<_>>(), ["root", "max_log_line", "log.level"]);
}

#[test]
fn what_has_no_effect_is_named() {
    let (config, errors) = spoilt(
        "[network.bridge]\nmtu = 1400\n[cpu]\nreserved = \"0\"\n[nri]\nplugin_path = \"/x\"\n[nri.default_validator]\n\
         required_plugins = [\"x\"]\n[tracing]\nsampling_ratio = 0.5\n[cni]\nconf_dir = \"/y\"\n",
    );
    assert_eq!(errors, Vec::<String>::new());
    let unused = config.without_effect().unwrap();
    let keys: Vec<_> = unused.iter().map(|(change, _)| change.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "cpu.reserved",
            "network.bridge.mtu",
            "nri.default_validator.required_plugins",
            "nri.plugin_path",
            "tracing.sampling_ratio"
        ]
    );
    assert_eq!(Config::default().without_effect().unwrap(), []);
}

fn reload(old: &Config, new: &Config) -> Reload {
    let new = new.clone();
    Running::new(old.clone(), move || Ok(new.clone())).read().unwrap()
}

#[test]
fn a_reload_changes_what_needs_no_restart() {
    let old = Config::default();
    let mut new = old.clone();
    new.root = "/other".into();
    new.metrics.address = "127.0.0.1:1".parse().ok();
    new.network.bridge.mtu = 1400;
    new.network.bridge.subnet_v6 = "fd00::/64".parse().ok();
    new.images.pinned = vec!["busybox".into()];
    new.images.auth_file = file("/auth.json");
    new.handlers.entry("a.b".to_owned()).or_default().pids_limit = 7;
    let Reload { changes, config } = reload(&old, &new);
    let keys: Vec<_> = changes
        .iter()
        .map(|change| (change.key.as_str(), change.needs_restart()))
        .collect();
    assert_eq!(
        keys,
        [
            ("handlers.\"a.b\".cpu_burst", false),
            ("handlers.\"a.b\".default_env", false),
            ("handlers.\"a.b\".default_ulimits", false),
            ("handlers.\"a.b\".kind", false),
            ("handlers.\"a.b\".pids_limit", false),
            ("images.auth_file", false),
            ("images.pinned", false),
            ("metrics.address", true),
            ("network.bridge.mtu", true),
            ("network.bridge.subnet_v6", true),
            ("root", true),
        ]
    );
    let mut expected = new.clone();
    expected.root = old.root.clone();
    expected.metrics = old.metrics.clone();
    expected.network = old.network.clone();
    assert_eq!(config, expected);
    // And back again: what is not set any more.
    let back = reload(&new, &old);
    assert_eq!(back.changes.len(), changes.len());
    assert_eq!(back.config.images, old.images);
    assert_eq!(back.config.network, new.network);
    assert_eq!(back.config.metrics, new.metrics);
    assert_eq!(back.config.handlers.keys().collect::<Vec<_>>(), [""]);
}
