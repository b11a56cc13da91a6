use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use toml::{Table, Value};

use super::report::{Report, name};
use super::rules::{Class, Does, Rule, duration};
use super::*;
use crate::config::Config;

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/cli/migrate/fixtures")
        .join(file)
}

fn containerd(file: &str) -> Report {
    let source = containerd::load(&fixture(file)).unwrap();
    containerd::migrate(&source.table, Path::new("/etc/pausa/certs.d"))
}

/// As `run` prints it; what is written is a configuration of pausa that means what the report has.
fn checked(report: &Report) -> String {
    let toml = report.toml(&[]).unwrap();
    assert_eq!(read_back(&toml), report.config);
    let mut text = toml;
    for file in &report.hosts {
        write!(text, "\n# {}\n{}", file.path.display(), file.content).unwrap();
    }
    text.push('\n');
    text + &report.text()
}

fn read_back(toml: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, toml).unwrap();
    let config = config::load(Some(&file)).unwrap();
    config.validate().unwrap();
    config
}

#[test]
fn kubeadm_with_containerd_1_7() {
    insta::assert_snapshot!(checked(&containerd("kubeadm_v2.toml")));
}

#[test]
fn a_cloud_node_with_containerd_1() {
    let report = containerd("cloud_v2.toml");
    let text = checked(&report);
    let json = serde_json::to_string(&report.document(&[], None, None).unwrap()).unwrap();
    assert!(!text.contains("hunter2") && !json.contains("hunter2"), "{text}");
    insta::assert_snapshot!(text);
}

/// What is written for old tables of registries means for a pull what they meant.
#[test]
fn hosts_files_are_those_that_pausa_reads() {
    let dir = tempfile::tempdir().unwrap();
    let source = containerd::load(&fixture("cloud_v2.toml")).unwrap();
    let report = containerd::migrate(&source.table, dir.path());
    assert_eq!(report.config.registry_config_dir, dir.path());
    for file in &report.hosts {
        // The certificates do not exist here.
        let lines = file
            .content
            .lines()
            .filter(|line| !line.starts_with("ca =") && !line.starts_with("client ="));
        std::fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        std::fs::write(
            &file.path,
            lines.map(|line| format!("{line}\n")).collect::<String>(),
        )
        .unwrap();
    }
    let registries = pausa_distribution::Registries::new([dir.path().to_owned()]);
    let hosts = |name: &str| {
        let explained =
            pausa_distribution::explain(&registries, name, &pausa_distribution::Proxies::default()).unwrap();
        let servers = explained.references.into_iter().flat_map(|path| path.endpoints);
        servers.map(|step| step.url).collect::<Vec<_>>().join(" ")
    };
    let docker = hosts("busybox");
    assert!(docker.starts_with("https://mirror.gcr.io/"), "{docker}");
    assert!(hosts("registry.local:5000/a").starts_with("http://registry.local:5000/"));
    assert!(hosts("other.example/a").starts_with("https://cache.example:8443/v2"));
}

#[test]
fn a_cloud_node_with_containerd_2() {
    insta::assert_snapshot!(checked(&containerd("cloud_v3.toml")));
}

#[test]
fn a_file_without_a_version() {
    insta::assert_snapshot!(checked(&containerd("old_v1.toml")));
}

/// `containerd config default` of Debian 12 needs nobody's attention.
#[test]
fn defaults_of_containerd_have_no_problems() {
    let report = containerd("containerd_1.6_default.toml");
    for entry in &report.entries {
        assert!(
            !matches!(entry.class, Class::Unknown | Class::NoCounterpart { .. }),
            "{entry:?}"
        );
    }
    insta::assert_snapshot!(report.toml(&[]).unwrap());
    checked(&report);
}

#[test]
fn openshift_with_drop_ins() {
    let source = crio::load(&fixture("crio/crio.conf")).unwrap();
    let files: Vec<_> = source
        .files
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(files, ["crio.conf", "01-kata", "99-performance.conf"]);
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}],
        "transports":{"docker":{"quay.io/openshift":[{"type":"signedBy","keyType":"GPGKeys"}]}}}"#;
    insta::assert_snapshot!(checked(&crio::migrate(&source.table, Some(policy))));
}

#[test]
fn an_empty_configuration_is_the_runtimes_defaults() {
    insta::assert_snapshot!(checked(&crio::migrate(&Table::new(), None)));
    insta::assert_snapshot!(checked(&containerd::migrate(
        &Table::new(),
        Path::new("/etc/pausa/certs.d")
    )));
}

#[test]
fn a_policy_that_takes_anything_demands_nothing() {
    let advice = |policy| crio::migrate(&Table::new(), policy).advice.len();
    let anything = r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}"#;
    assert_eq!(advice(None), advice(Some(anything)));
    assert_eq!(
        advice(None) + 1,
        advice(Some("{\"default\":[{\"type\":\"reject\"}]}"))
    );
    assert_eq!(advice(None) + 1, advice(Some("not JSON")));
}

/// Imports are relative to their file, may have patterns and cycles, and win.
#[test]
fn imports_win_over_the_file_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    file(
        "config.toml",
        "version = 2\nroot = \"/a\"\nstate = \"/s\"\nimports = [\"conf.d/*.toml\"]\n",
    );
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    let main = dir.path().join("config.toml");
    // A path that containerd would load again and again, if it did not know it.
    file(
        "conf.d/1.toml",
        &format!("root = \"/b\"\nimports = [{:?}]\n", main.to_str().unwrap()),
    );
    file(
        "conf.d/2.toml",
        "root = \"/c\"\nimports = []\ndisabled_plugins = [\"restart\"]\n",
    );
    let source = containerd::load(&main).unwrap();
    assert_eq!(source.files.len(), 3);
    assert_eq!(source.table["root"].as_str(), Some("/c"));
    assert_eq!(source.table["state"].as_str(), Some("/s"));
    // Lists are added up.
    assert_eq!(source.table["imports"].as_array().unwrap().len(), 2);
}

#[test]
fn durations_are_those_of_go() {
    for (text, seconds) in [
        ("", Some(0)),
        ("0", Some(0)),
        ("4h0m0s", Some(14_400)),
        ("90s", Some(90)),
        ("1m30s", Some(90)),
        ("1.5m", Some(90)),
        ("100ms", Some(1)),
        ("s", None),
        ("1", None),
        ("-1s", None),
        ("1x", None),
        ("99999999999999999999h", None),
    ] {
        assert_eq!(duration(text), seconds, "{text:?}");
    }
}

#[test]
fn files_are_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("etc/config.toml");
    let host = hosts::HostsFile {
        path: dir.path().join("etc/certs.d/a.example/hosts.toml"),
        content: "server = \"https://a.example\"\n".to_owned(),
    };
    for _ in 0..2 {
        // The same again is no overwriting.
        write(&config, "root = \"/a\"\n", std::slice::from_ref(&host)).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&host.path).unwrap(), host.content);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&config).unwrap().permissions().mode() & 0o777,
        0o644
    );
    let error = write(&config, "root = \"/b\"\n", &[]).unwrap_err();
    assert!(error.to_string().contains("is not overwritten"), "{error}");
    // None is written if one of them exists.
    let other = hosts::HostsFile {
        content: String::new(),
        ..host
    };
    let error = write(&config.with_file_name("new.toml"), "", &[other]).unwrap_err();
    assert!(error.to_string().contains("hosts.toml exists"), "{error}");
    assert!(!config.with_file_name("new.toml").exists());
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "root = \"/a\"\n");
    let left = std::fs::read_dir(config.parent().unwrap()).unwrap().count();
    assert_eq!(left, 2, "a temporary file is left");
}

/// Rules whose keys exist are not hidden by earlier ones.
#[test]
fn every_rule_is_reached() {
    for rules in [containerd::RULES, crio::RULES] {
        for (at, rule) in rules.iter().enumerate() {
            let path: Vec<String> = rule
                .path
                .split('/')
                .map(|part| if part.starts_with('*') { "any" } else { part }.to_owned())
                .collect();
            let first = rules.iter().position(|rule| rules::covers(rule.path, &path));
            assert_eq!(first, Some(at), "{}", rule.path);
        }
    }
}

/// The rows of docs/compatibility.md for keys that are written, or have no counterpart.
fn table(rules: &[Rule]) -> String {
    let mut text = String::from("| key | in pausa |\n|---|---|\n");
    for rule in rules {
        let key = rule.path.replace('/', ".");
        let row = match &rule.does {
            Does::Map("", _) => "see the report".to_owned(),
            Does::Map(to, _) => format!("`{to}`"),
            Does::Lacks(consequence, remedy) => {
                let todo = if *remedy == "nothing" {
                    String::new()
                } else {
                    format!(" To do: {remedy}.")
                };
                format!("none: {consequence}.{todo}")
            }
            Does::Same(_) | Does::NotNeeded(_) => continue,
        };
        writeln!(text, "| `{key}` | {row} |").unwrap();
    }
    text
}

/// docs/compatibility.md lists the keys as the rules have them; `UPDATE_DOCS=1` writes them.
#[test]
fn the_tables_in_the_documentation_are_those_of_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (heading, rules) in [
        ("### Keys of containerd\n", containerd::RULES),
        ("### Keys of CRI-O\n", crio::RULES),
    ] {
        let begin = text.find(heading).expect(heading) + heading.len();
        let begin = begin + text[begin..].find("| key").expect("a table");
        let end = text[begin..]
            .find("\n\n")
            .map_or(text.len(), |end| begin + end + 1);
        let wanted = table(rules);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            text.replace_range(begin..end, &wanted);
        } else {
            assert_eq!(&text[begin..end], wanted, "run this test with UPDATE_DOCS=1");
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
}

fn leaf_count(value: &Value) -> usize {
    match value {
        Value::Table(table) => table.values().map(leaf_count).sum(),
        _ => 1,
    }
}

/// Known parts of paths, so that arbitrary tables reach the rules.
fn part() -> impl Strategy<Value = String> {
    let known: Vec<String> = containerd::RULES
        .iter()
        .chain(crio::RULES)
        .flat_map(|rule| rule.path.split('/'))
        .chain([
            "plugins",
            "crio",
            "io.containerd.grpc.v1.cri",
            "io.containerd.cri.v1.images",
            "io.containerd.cri.v1.runtime",
            "docker.io",
            "runc",
        ])
        .map(str::to_owned)
        .collect();
    prop_oneof![4 => prop::sample::select(known), 1 => any::<String>()]
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "",
            "/a",
            "5m",
            "0",
            "http://a:1",
            "runc",
            "vm",
            "a:b",
            "127.0.0.1",
            "nofile=1"
        ])
        .prop_map(str::to_owned),
    ];
    let single = prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        (-3_i64..300).prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Float),
        text.prop_map(Value::String),
    ];
    let list = prop::collection::vec(single.clone(), 0..4).prop_map(Value::Array);
    prop_oneof![3 => single, 1 => list]
}

fn path() -> impl Strategy<Value = Vec<String>> {
    let parts = |text: &str| -> Vec<String> { text.split('/').map(str::to_owned).collect() };
    let containerd = containerd::RULES.iter().map(move |rule| {
        let path = parts(rule.path);
        let long = match path[0].as_str() {
            "cri" => "io.containerd.grpc.v1.cri",
            "images" => "io.containerd.cri.v1.images",
            "nri" => "io.containerd.nri.v1.nri",
            "tasks" => "io.containerd.service.v1.tasks-service",
            "otlp" => "io.containerd.tracing.processor.v1.otlp",
            _ => return path,
        };
        [&["plugins".to_owned(), long.to_owned()], &path[1..]].concat()
    });
    let crio = crio::RULES
        .iter()
        .map(move |rule| [vec!["crio".to_owned()], parts(rule.path)].concat());
    let known = prop::sample::select(containerd.chain(crio).collect::<Vec<_>>());
    let known = (known, part()).prop_map(|(path, name)| {
        let named = path
            .into_iter()
            .map(|part| if part.starts_with('*') { name.clone() } else { part });
        named.collect()
    });
    prop_oneof![3 => known, 1 => prop::collection::vec(part(), 1..6)]
}

/// Puts a value at a path, unless something else is in the way.
fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.entry(last.clone()).or_insert(value);
        }
        [first, rest @ ..] => {
            if let Value::Table(inner) = table
                .entry(first.clone())
                .or_insert_with(|| Value::Table(Table::new()))
            {
                put(inner, rest, value);
            }
        }
    }
}

proptest! {
    /// Every key ends in one class, and what comes out is always a configuration that pausa takes.
    #[test]
    fn every_leaf_has_one_class(leaves in prop::collection::vec((path(), value()), 0..40)) {
        let mut source = Table::new();
        for (path, value) in leaves {
            put(&mut source, &path, value);
        }
        let wanted = leaf_count(&Value::Table(source.clone()));
        for report in [
            containerd::migrate(&source, Path::new("/etc/pausa/certs.d")),
            crio::migrate(&source, None),
        ] {
            prop_assert_eq!(report.entries.len(), wanted);
            let mut keys: Vec<_> = report.entries.iter().map(|entry| entry.leaf.key.clone()).collect();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), wanted);
            prop_assert!(report.config.validate().is_ok());
            prop_assert_eq!(read_back(&report.toml(&[]).unwrap()), report.config.clone());
            let text = report.text();
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
            for entry in &report.entries {
                prop_assert!(!name(&entry.class).is_empty());
            }
            for file in &report.hosts {
                prop_assert!(file.path.starts_with("/etc/pausa/certs.d"));
                prop_assert!(file.content.parse::<Table>().is_ok());
            }
        }
    }
}
