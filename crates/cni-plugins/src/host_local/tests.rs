use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::*;
use crate::ipam_config::tests::{unversioned, with_args};
use crate::reference::{self, binaries, call};

/// Set for the process that is killed; the directory it works in.
const VICTIM: &str = "PAUSA_TEST_HOST_LOCAL_VICTIM";

fn network(data_dir: &Path, ipam: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": ipam});
    config["ipam"]["type"] = json!("host-local");
    config["ipam"]["dataDir"] = json!(data_dir);
    config
}

fn dual_stack(data_dir: &Path) -> Value {
    let ranges = json!({"ranges": [
        [
            {"subnet": "10.1.2.0/29"},
            {"subnet": "10.1.4.0/24", "rangeStart": "10.1.4.7", "rangeEnd": "10.1.4.9", "gateway": "10.1.4.8"},
        ],
        [{"subnet": "fd00:1::/64", "rangeEnd": "fd00:1::8"}],
    ]});
    network(data_dir, &ranges)
}

fn add(plugin: &HostLocal, id: &str, config: &Value) -> Result<Vec<String>, Failure> {
    let result = plugin.run(&call(Command::Add, id, config))?;
    let ips = result["ips"].as_array().unwrap();
    let address = |ip: &Value| ip["address"].as_str().unwrap().to_owned();
    Ok(ips.iter().map(address).collect())
}

fn del(plugin: &HostLocal, id: &str, config: &Value) {
    plugin.run(&call(Command::Del, id, config)).unwrap();
}

/// Names of files with their modes, which differ between versions of the binary, and contents.
fn tree(dir: &Path) -> BTreeMap<String, (u32, String)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        let mode = entry.metadata().unwrap().permissions().mode();
        let name = entry.file_name().into_string().unwrap();
        (name, (mode, fs::read_to_string(entry.path()).unwrap()))
    };
    entries.map(file).collect()
}

/// Contents of files by name.
fn contents(dir: &Path) -> BTreeMap<String, String> {
    let files = tree(dir).into_iter();
    files.map(|(name, (_, content))| (name, content)).collect()
}

/// Reservations by address.
fn reservations(dir: &Path) -> BTreeMap<IpAddr, String> {
    let files = tree(dir).into_iter();
    let reservation = |(name, (_, content)): (String, (u32, String))| Some((name.parse().ok()?, content));
    files.filter_map(reservation).collect()
}

#[test]
fn one_address_of_each_set() {
    let dir = tempfile::tempdir().unwrap();
    let resolv_conf = dir.path().join("resolv.conf");
    fs::write(
        &resolv_conf,
        "# comment\nnameserver 10.1.2.1 ignored\n\tnameserver\tfd00::1\ndomain a.example\nsearch b.example c.example\n\
         search d.example\noptions ndots:5 edns0\nnameserver\n; comment\nsortlist 10.0.0.0\n",
    )
    .unwrap();
    let mut config = dual_stack(dir.path());
    config["ipam"]["routes"] =
        json!([{"dst": "0.0.0.0/0"}, {"dst": "fd00::/8", "gw": "fd00:1::1", "mtu": 1400}]);
    config["ipam"]["resolvConf"] = json!(resolv_conf);
    let plugin = HostLocal::default();
    assert_eq!(
        plugin.run(&call(Command::Add, "a", &config)).unwrap(),
        json!({
            "cniVersion": "1.1.0",
            "ips": [
                {"address": "10.1.2.2/29", "gateway": "10.1.2.1"},
                {"address": "fd00:1::2/64", "gateway": "fd00:1::1"},
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd00::/8", "gw": "fd00:1::1", "mtu": 1400}],
            "dns": {
                "nameservers": ["10.1.2.1", "fd00::1"], "domain": "a.example",
                "search": ["b.example", "c.example", "d.example"], "options": ["ndots:5", "edns0"],
            },
        })
    );
    let file = |mode: u32, text: &str| (mode, text.to_owned());
    assert_eq!(
        tree(&dir.path().join("net")),
        BTreeMap::from([
            ("10.1.2.2".to_owned(), file(0o100_600, "a\r\neth0")),
            ("fd00:1::2".to_owned(), file(0o100_600, "a\r\neth0")),
            ("last_reserved_ip.0".to_owned(), file(0o100_600, "10.1.2.2")),
            ("last_reserved_ip.1".to_owned(), file(0o100_600, "fd00:1::2")),
            ("lock".to_owned(), file(0o100_750, "")),
        ])
    );
    plugin.run(&call(Command::Check, "a", &config)).unwrap();
    plugin.run(&call(Command::Check, "b", &config)).unwrap_err();
    add(&plugin, "a", &config).unwrap_err();
    assert_eq!(
        add(&plugin, "b", &config).unwrap(),
        ["10.1.2.3/29", "fd00:1::3/64"]
    );
    del(&plugin, "a", &config);
    del(&plugin, "a", &config);
    plugin.run(&call(Command::Check, "a", &config)).unwrap_err();
    assert_eq!(reservations(&dir.path().join("net")).len(), 2);
}

#[test]
fn nothing_is_made_for_other_commands() {
    let dir = tempfile::tempdir().unwrap();
    let config = dual_stack(dir.path());
    let plugin = HostLocal::default();
    del(&plugin, "a", &config);
    plugin.run(&call(Command::Status, "", &config)).unwrap();
    plugin.run(&call(Command::Gc, "", &config)).unwrap();
    plugin.run(&call(Command::Check, "a", &config)).unwrap_err();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let invalid = network(dir.path(), &json!({"subnet": "10.1.2.0/31"}));
    assert_eq!(
        plugin.run(&call(Command::Status, "", &invalid)).unwrap_err().code,
        7
    );
}

#[test]
fn a_failed_add_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = network(
        dir.path(),
        &json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.2.2.0/30"}]]}),
    );
    let plugin = HostLocal::default();
    add(&plugin, "a", &config).unwrap();
    let failure = add(&plugin, "b", &config).unwrap_err();
    assert_eq!(failure.msg, "no address of 10.2.2.1-10.2.2.2 is free");
    let mut requested = config;
    requested["runtimeConfig"] = json!({"ips": ["10.3.2.1"]});
    add(&plugin, "b", &requested).unwrap_err();
    let owners: Vec<String> = reservations(&dir.path().join("net")).into_values().collect();
    assert_eq!(owners, ["a\r\neth0", "a\r\neth0"]);
}

#[test]
fn a_failed_add_takes_nothing_from_one_that_succeeded() {
    let dir = tempfile::tempdir().unwrap();
    let config = dual_stack(dir.path());
    let plugin = HostLocal::default();
    add(&plugin, "a", &config).unwrap();
    let before = reservations(&dir.path().join("net"));
    let mut again = config;
    again["runtimeConfig"] = json!({"ips": ["10.1.2.5"]});
    add(&plugin, "a", &again).unwrap_err();
    assert_eq!(reservations(&dir.path().join("net")), before);
}

#[test]
fn requested_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let config = dual_stack(dir.path());
    let plugin = HostLocal::default();
    let request = |id: &str, config: &Value, args: &[(&str, &str)]| {
        let result = plugin.run(&with_args(call(Command::Add, id, config), args));
        result.map(|result| result["ips"][0]["address"].as_str().unwrap().to_owned())
    };
    let ip = |address| [("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web"), ("IP", address)];
    assert_eq!(request("a", &config, &ip("10.1.2.5")).unwrap(), "10.1.2.5/29");
    assert_eq!(request("b", &config, &ip("10.1.4.7/8")).unwrap(), "10.1.4.7/24");
    assert_eq!(
        request("c", &config, &ip("::ffff:10.1.2.4")).unwrap(),
        "10.1.2.4/29"
    );
    assert_eq!(
        request("d", &config, &ip("")).unwrap(),
        "10.1.2.6/29",
        "after the last one"
    );
    request("e", &config, &ip("10.1.2.5")).unwrap_err();
    request("e", &config, &ip("10.1.2.1")).unwrap_err();
    request("e", &config, &ip("10.1.4.8")).unwrap_err();
    request("e", &config, &ip("10.1.2")).unwrap_err();
    request("e", &config, &[("GATEWAY", "10.1.2.1")]).unwrap_err();
    let mut several = config;
    several["args"] = json!({"cni": {"ips": ["10.1.2.3/29"]}});
    several["runtimeConfig"] = json!({"ips": ["fd00:1::7", "10.1.2.3"]});
    assert_eq!(
        add(&plugin, "e", &several).unwrap(),
        ["10.1.2.3/29", "fd00:1::7/64"]
    );
    several["args"] = json!({"cni": {"ips": ["10.1.4.9"]}});
    several["runtimeConfig"] = json!({"ips": ["10.1.2.2"]});
    add(&plugin, "f", &several).unwrap_err();
    let owners = reservations(&dir.path().join("net")).into_values();
    assert!(owners.into_iter().all(|owner| !owner.starts_with('f')));
}

#[test]
fn ranges_of_the_runtime_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = json!({
        "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10", "rangeEnd": "10.1.2.11", "gateway": "10.1.2.254",
        "ranges": [[{"subnet": "10.3.0.0/16"}]],
    });
    let mut config = network(dir.path(), &ipam);
    config["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.2.2.0/24"}]], "portMappings": []});
    let plugin = HostLocal::default();
    plugin.understands(config.as_object().unwrap()).unwrap();
    assert_eq!(
        add(&plugin, "a", &config).unwrap(),
        ["10.2.2.2/24", "10.1.2.10/24", "10.3.0.2/16"]
    );
}

#[test]
fn old_reservations_are_found_and_released() {
    let dir = tempfile::tempdir().unwrap();
    let config = network(dir.path(), &json!({"subnet": "10.1.2.0/24"}));
    let net = dir.path().join("net");
    fs::create_dir(&net).unwrap();
    fs::write(net.join("10.1.2.9"), "old\n").unwrap();
    let plugin = HostLocal::default();
    plugin.run(&call(Command::Check, "old", &config)).unwrap();
    add(&plugin, "old", &config).unwrap_err();
    del(&plugin, "ol", &config);
    assert_eq!(reservations(&net).len(), 1);
    del(&plugin, "old", &config);
    assert_eq!(reservations(&net).len(), 0);
}

#[test]
fn changes_by_others_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let config = network(dir.path(), &json!({"subnet": "10.1.2.0/29"}));
    let net = dir.path().join("net");
    let (plugin, other) = (HostLocal::default(), HostLocal::default());
    for round in 0..50 {
        let id = format!("a{round}");
        let given = add(&plugin, &id, &config).unwrap();
        add(&other, &id, &config).unwrap_err();
        del(&other, &id, &config);
        assert_eq!(reservations(&net).len(), 0);
        let next = add(&other, &id, &config).unwrap();
        assert_ne!(given, next);
        del(&plugin, &id, &config);
        assert_eq!(reservations(&net).len(), 0);
    }
    // A file that is written anew in its place belongs to the one it names.
    let given = add(&plugin, "mine", &config).unwrap();
    let file = net.join(given[0].split_once('/').unwrap().0);
    fs::write(&file, "theirs\r\neth0").unwrap();
    del(&plugin, "mine", &config);
    assert!(file.exists());
    del(&plugin, "theirs", &config);
    assert!(!file.exists());
    // As is a directory that was removed.
    add(&plugin, "mine", &config).unwrap();
    fs::remove_dir_all(&net).unwrap();
    del(&plugin, "mine", &config);
    assert_eq!(add(&plugin, "mine", &config).unwrap(), ["10.1.2.2/29"]);
}

#[test]
fn what_is_no_reservation_stays_and_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let config = network(dir.path(), &json!({"subnet": "10.1.2.0/24"}));
    let net = dir.path().join("net");
    fs::create_dir_all(net.join("10.1.2.2")).unwrap();
    fs::write(net.join("10.1.2.3"), vec![b'x'; 10_000]).unwrap();
    fs::write(net.join("10.1.2.4"), [0xff, 0xfe]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", net.join("10.1.2.5")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        net.join("10.1.2.6"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    fs::write(net.join("notes"), "a\r\neth0").unwrap();
    fs::write(net.join(".new-1-1"), "a\r\neth0").unwrap();
    let plugin = HostLocal::default();
    assert_eq!(add(&plugin, "a", &config).unwrap(), ["10.1.2.7/24"]);
    del(&plugin, "a", &config);
    assert!(
        !net.join(".new-1-1").exists(),
        "what a killed process left is removed"
    );
    assert_eq!(fs::read_dir(&net).unwrap().count(), 8);
}

#[test]
fn gc_releases_only_what_is_certain() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = dual_stack(dir.path());
    let net = dir.path().join("net");
    let plugin = HostLocal::default();
    for id in ["valid", "gone"] {
        add(&plugin, id, &config).unwrap();
    }
    for (name, content) in [("10.1.4.7", "gone"), ("10.1.4.9", "not an id\r\neth0")] {
        fs::write(net.join(name), content).unwrap();
    }
    plugin.run(&call(Command::Gc, "", &config)).unwrap();
    assert_eq!(reservations(&net).len(), 6, "without a list nothing is released");
    config["cni.dev/valid-attachments"] = json!([{"containerID": "valid", "ifname": "eth0"}]);
    plugin.run(&call(Command::Gc, "", &config)).unwrap();
    let mut owners: Vec<String> = reservations(&net).into_values().collect();
    owners.sort();
    assert_eq!(
        owners,
        ["gone", "not an id\r\neth0", "valid\r\neth0", "valid\r\neth0"]
    );
    config["cni.dev/valid-attachments"] = json!("all");
    plugin.run(&call(Command::Gc, "", &config)).unwrap_err();
}

#[test]
fn what_is_not_known_is_left_to_the_binary() {
    let plugin = HostLocal::default();
    let understands = |config: &Value| plugin.understands(config.as_object().unwrap());
    understands(
        &json!({"ipam": {"type": "host-local", "subnet": "10.0.0.0/24", "rangeStart": "", "gateway": null}}),
    )
    .unwrap();
    understands(&json!({"bridge": "cni0", "vlan": 3, "ipam": {"ranges": null}})).unwrap();
    for unknown in [
        json!({}),
        json!({"ipam": {"Subnet": "10.0.0.0/24"}}),
        json!({"ipam": {"subnet": "10.0.0.0"}}),
        json!({"ipam": {"subnet": "::ffff:10.0.0.0/120"}}),
        json!({"ipam": {"rangeStart": "010.0.0.1"}}),
        json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24", "exclude": []}]]}}),
        json!({"ipam": {}, "runtimeConfig": {"ipRanges": [{"subnet": "10.0.0.0/24"}]}}),
        json!({"ipam": {}, "runtimeConfig": {"ip": []}}),
        json!({"ipam": {}, "args": {"cni": {"ips": ["10.0.0"]}}}),
    ] {
        understands(&unknown).unwrap_err();
    }
}

#[test]
fn a_network_without_a_proper_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", ".", "..", "../net", "a/b", "-a"] {
        let mut config = dual_stack(dir.path());
        config["name"] = json!(name);
        assert_eq!(add(&HostLocal::default(), "a", &config).unwrap_err().code, 7);
    }
}

/// Many threads, of which some share what is remembered, as in one process, and others do not.
#[test]
fn many_at_once_get_different_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let config = network(
        dir.path(),
        &json!({"ranges": [[{"subnet": "10.1.2.0/27"}], [{"subnet": "fd00::/64"}]]}),
    );
    let plugins = [HostLocal::default(), HostLocal::default()];
    let held = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (config, held) = (&config, &held);
            let plugin = &plugins[thread % 2];
            scope.spawn(move || {
                for round in 0..40 {
                    let id = format!("t{thread}-{round}");
                    let addresses = add(plugin, &id, config).unwrap();
                    for address in &addresses {
                        assert!(held.lock().insert(address.clone()), "{address} was given twice");
                    }
                    plugin.run(&call(Command::Check, &id, config)).unwrap();
                    for address in &addresses {
                        held.lock().remove(address);
                    }
                    del(plugin, &id, config);
                }
            });
        }
    });
    let names: Vec<String> = tree(&dir.path().join("net")).into_keys().collect();
    assert_eq!(names, ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]);
}

#[test]
fn whoever_has_the_lock_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = dual_stack(dir.path());
    let plugin = HostLocal::default();
    add(&plugin, "a", &config).unwrap();
    let net = dir.path().join("net");
    for command in [Command::Add, Command::Check, Command::Del] {
        let lock = File::open(net.join("lock")).unwrap();
        let inode = lock.metadata().unwrap().ino();
        // Even if others only read.
        flock(&lock, FlockOperation::LockShared).unwrap();
        let before = reservations(&net);
        std::thread::scope(|scope| {
            let work = scope.spawn(|| plugin.run(&call(command, "b", &config)).unwrap());
            let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&format!(":{inode} "));
            while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
                assert!(!work.is_finished(), "{command} has not waited");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(reservations(&net), before);
            flock(&lock, FlockOperation::Unlock).unwrap();
            work.join().unwrap();
        });
    }
    assert_eq!(reservations(&net).len(), 2);
}

/// The process that the test below kills. It ends by itself if that test does not come to it.
#[test]
fn victim() {
    let Some(dir) = env::var_os(VICTIM) else {
        return;
    };
    let config = dual_stack(Path::new(&dir));
    let plugin = HostLocal::default();
    for round in 0..50_000 {
        let id = format!("v{}", round % 4);
        add(&plugin, &id, &config).ok();
        del(&plugin, &format!("v{}", (round + 2) % 4), &config);
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = dual_stack(dir.path());
    let net = dir.path().join("net");
    for round in 0..30 {
        let mut child = Process::new(env::current_exe().unwrap())
            .args(["host_local::tests::victim", "--exact", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..1000 {
            if net.join("last_reserved_ip.1").exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_micros(500 + round * 137));
        child.kill().unwrap();
        child.wait().unwrap();
        for (address, content) in reservations(&net) {
            assert!(
                (0..4).any(|n| content == format!("v{n}\r\neth0")),
                "{address} has {content:?}"
            );
        }
        let plugin = HostLocal::default();
        for n in 0..4 {
            del(&plugin, &format!("v{n}"), &config);
        }
        let mut names: Vec<String> = tree(&net).into_keys().collect();
        names.retain(|name| name != "last_reserved_ip.1");
        assert_eq!(names, ["last_reserved_ip.0", "lock"]);
        fs::remove_file(net.join("last_reserved_ip.1")).unwrap();
    }
}

/// What is done in the comparisons.
#[derive(Debug, Clone)]
enum Step {
    Add {
        id: u8,
        requested: Option<String>,
    },
    Del(u8),
    Check(u8),
    /// An attachment as old versions of the binary wrote it.
    Old {
        id: u8,
        address: String,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let address = || {
        prop_oneof![
            (0_u8..9).prop_map(|n| format!("10.1.2.{n}")),
            (6_u8..11).prop_map(|n| format!("10.1.4.{n}")),
            (1_u8..10).prop_map(|n| format!("fd00:1::{n:x}")),
        ]
    };
    let step = prop_oneof![
        6 => (0_u8..12).prop_map(|id| Step::Add { id, requested: None }),
        2 => (0_u8..12, address()).prop_map(|(id, requested)| Step::Add { id, requested: Some(requested) }),
        5 => (0_u8..12).prop_map(Step::Del),
        1 => (0_u8..12).prop_map(Step::Check),
        1 => (0_u8..12, address()).prop_map(|(id, address)| Step::Old { id, address }),
    ];
    prop::collection::vec(step, 1..60)
}

/// The call of a step, if the directory is not changed without one.
fn perform(step: &Step, config: &Value, net: &Path) -> Option<Call> {
    let (command, id, requested) = match step {
        Step::Add { id, requested } => (Command::Add, id, requested.clone()),
        Step::Del(id) => (Command::Del, id, None),
        Step::Check(id) => (Command::Check, id, None),
        Step::Old { id, address } => {
            let path = net.join(address);
            if net.exists() && !path.exists() {
                fs::write(&path, format!("c{id}")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            return None;
        }
    };
    let mut call = call(command, &format!("c{id}"), config);
    if let Some(address) = requested {
        let owner = owner(&call);
        // If such an ADD fails, the binary takes what the attachment had before.
        let has_address = reservations(net)
            .values()
            .any(|known| *known == owner || *known == call.container_id);
        let ips = if has_address { json!([]) } else { json!([address]) };
        call.config
            .insert("runtimeConfig".to_owned(), json!({"ips": ips}));
    }
    Some(call)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The model: reservations in memory, and candidates as the binary's documentation has them.
    #[test]
    fn every_sequence_does_what_the_model_does(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let config = dual_stack(dir.path());
        let net = dir.path().join("net");
        fs::create_dir(&net).unwrap();
        let v4: Vec<IpAddr> = (2..7).map(|n| format!("10.1.2.{n}"))
            .chain([7, 9].map(|n| format!("10.1.4.{n}"))).map(|text| text.parse().unwrap()).collect();
        let v6: Vec<IpAddr> = (2..9).map(|n| format!("fd00:1::{n}").parse().unwrap()).collect();
        let sets = [v4, v6];
        let mut model: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut last = [None, None];
        let mut plugin = HostLocal::default();
        for (number, step) in steps.iter().enumerate() {
            if number % 11 == 10 {
                plugin = HostLocal::default();
            }
            let call = perform(step, &config, &net);
            match (step, &call) {
                (Step::Old { id, address }, _) => {
                    model.entry(address.parse().unwrap()).or_insert_with(|| format!("c{id}"));
                }
                (Step::Add { id, requested }, Some(call)) => {
                    let owner = format!("c{id}\r\neth0");
                    let mine = |known: &String| *known == owner || *known == format!("c{id}");
                    let mut requested = requested.as_ref().map(|text| text.parse::<IpAddr>().unwrap())
                        .filter(|_| !model.values().any(mine));
                    let had: Vec<IpAddr> = model.iter().filter(|(_, known)| mine(known)).map(|(known, _)| *known).collect();
                    let mut given = Vec::new();
                    let mut failed = false;
                    for (set, last) in sets.iter().zip(&mut last) {
                        // The gateways are in the ranges, and are refused.
                        let in_set = |address: &IpAddr| set.contains(address)
                            || (set[0].is_ipv4() && ["10.1.2.1", "10.1.4.8"].contains(&address.to_string().as_str()))
                            || (set[0].is_ipv6() && address.to_string() == "fd00:1::1");
                        let choice = if let Some(address) = requested.take_if(|address| in_set(address)) {
                            Some(address).filter(|address| set.contains(address) && !model.contains_key(address))
                        } else if had.iter().any(in_set) {
                            None
                        } else {
                            let begin = last.and_then(|last| set.iter().position(|known| *known == last)).map_or(0, |at| at + 1);
                            let ring = set.iter().cycle().skip(begin).take(set.len());
                            ring.copied().find(|address| !model.contains_key(address))
                        };
                        let Some(address) = choice else {
                            failed = true;
                            break;
                        };
                        model.insert(address, owner.clone());
                        *last = Some(address);
                        given.push(address);
                    }
                    if failed || requested.is_some() {
                        for address in given.drain(..) {
                            model.remove(&address);
                        }
                    }
                    let result = plugin.run(call);
                    let result: Vec<IpAddr> = result.iter().flat_map(|result| result["ips"].as_array().unwrap())
                        .map(|ip| ip["address"].as_str().unwrap().parse::<IpNet>().unwrap().addr()).collect();
                    prop_assert_eq!(result, given);
                }
                (Step::Del(id), Some(call)) => {
                    plugin.run(call).unwrap();
                    model.retain(|_, known| *known != format!("c{id}\r\neth0") && *known != format!("c{id}"));
                }
                (Step::Check(id), Some(call)) => {
                    let has = model.values().any(|known| *known == format!("c{id}\r\neth0") || *known == format!("c{id}"));
                    prop_assert_eq!(plugin.run(call).is_ok(), has);
                }
                _ => unreachable!(),
            }
            prop_assert_eq!(reservations(&net), model.clone());
        }
    }
}

/// The same sequence by the binary alone, by ours alone, and by both in turn.
#[test]
#[ignore = "needs the reference plugins"]
fn the_binary_and_ours_do_the_same() {
    for binary in binaries("host-local") {
        for seed in 0..6_u8 {
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
            let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
            let steps = prop::collection::vec(steps(), 3)
                .new_tree(&mut runner)
                .unwrap()
                .current()
                .concat();
            let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
            for dir in &dirs {
                fs::create_dir(dir.path().join("net")).unwrap();
            }
            let plugin = HostLocal::default();
            for (number, step) in steps.iter().enumerate() {
                let mut outcomes = Vec::new();
                for (way, dir) in dirs.iter().enumerate() {
                    let config = dual_stack(dir.path());
                    let Some(call) = perform(step, &config, &dir.path().join("net")) else {
                        continue;
                    };
                    let by_binary = way == 0 || (way == 2 && (number.wrapping_mul(7) / 3) % 2 == 0);
                    let outcome = if by_binary {
                        reference::run(&binary, &call).ok()
                    } else {
                        plugin.run(&call).ok()
                    };
                    outcomes.push(
                        outcome.map(|result| (call.command == Command::Add).then(|| unversioned(&result))),
                    );
                }
                assert!(
                    outcomes.windows(2).all(|pair| pair[0] == pair[1]),
                    "{step:?}: {outcomes:?}"
                );
                let trees: Vec<_> = dirs.iter().map(|dir| contents(&dir.path().join("net"))).collect();
                assert!(
                    trees.windows(2).all(|pair| pair[0] == pair[1]),
                    "after {step:?}: {trees:#?}"
                );
            }
        }
    }
}

/// The binary waits for our lock, and ours for the binary's.
#[test]
#[ignore = "needs the reference plugins"]
fn the_binary_and_ours_at_once() {
    let binary = binaries("host-local").remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = network(dir.path(), &json!({"subnet": "10.1.2.0/24"}));
    let plugin = HostLocal::default();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (binary, config, plugin, done) = (&binary, &config, &plugin, &done);
        let theirs = scope.spawn(move || {
            for n in 0..60 {
                reference::run(binary, &call(Command::Add, &format!("b{n}"), config)).unwrap();
                if n % 3 == 0 {
                    plugin.run(&call(Command::Del, &format!("b{n}"), config)).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        for n in 0.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            add(plugin, &format!("o{n}"), config).unwrap();
            if n % 7 == 0 {
                reference::run(binary, &call(Command::Del, &format!("o{n}"), config)).unwrap();
            } else {
                del(plugin, &format!("o{n}"), config);
            }
        }
        theirs.join().unwrap();
    });
    let owners: BTreeSet<String> = reservations(&dir.path().join("net")).into_values().collect();
    let expected = (0..60).filter(|n| n % 3 != 0).map(|n| format!("b{n}\r\neth0"));
    assert_eq!(owners, expected.collect());
}
